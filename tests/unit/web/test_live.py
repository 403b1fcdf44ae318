"""What is sent wrongly to a real server, over a real connection: it says so, and it lives."""

import gzip
import http.client
import io
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from urllib.parse import quote
from urllib.request import HTTPCookieProcessor, build_opener

import numpy as np
import pytest
from PIL import Image

from vitrail.errors import InputError
from vitrail.web import app, receiving
from vitrail.web import session as sessions
from vitrail.web.session import Session

WAIT_SECONDS = 120


def png():
    stream = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (40, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def bomb():
    """Return a PNG of 60 000 x 60 000 px in a few kB."""
    side = 60000
    rows = zlib.compress(b"\0" * (1 + side // 8) * 4000, 9)

    def chunk(kind, body):
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    head = side.to_bytes(4) + side.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def nifti_bomb():
    """Return a NIfTI file that claims 4000 x 4000 x 4000 voxels, deflated."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 4000, 4000, 4000, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 1, 0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(1 << 22))


class Client:
    """Asks one server, each time over a new connection."""

    def __init__(self, address, allowed):
        self.netloc = address.split("/")[2]
        self.headers = {"Cookie": f"{allowed.cookie}={allowed.token}"}

    def ask(self, path, *, method="GET", body=None):
        connection = http.client.HTTPConnection(self.netloc, timeout=WAIT_SECONDS)
        connection.request(method, path, body=body, headers=self.headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def send(self, body, **said):
        query = "&".join(f"{name}={quote(value)}" for name, value in said.items())
        status, content = self.ask(f"/pictures?{query}", method="POST", body=body)
        return status, json.loads(content)

    def opened(self, *lines):
        """Open a connection, and say the first lines of a request that sends a picture."""
        host, port = self.netloc.split(":")
        line = socket.create_connection((host, int(port)), timeout=WAIT_SECONDS)
        first = ("POST /pictures HTTP/1.1", f"Host: {self.netloc}", *lines)
        cookie = f"Cookie: {self.headers['Cookie']}"
        line.sendall("\r\n".join((*first, cookie, "", "")).encode())
        return line

    def lives(self):
        return self.ask("/run")[0] == 200


@pytest.fixture(scope="module")
def pictures(served_run, serve):
    """Return a session of pictures and a client of its server."""
    session = Session(served_run)
    with serve(session) as (address, allowed):
        yield session, Client(address, allowed)


@pytest.fixture
def client(pictures):
    yield pictures[1]
    assert pictures[1].lives()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Let temporary folders be made where they can be counted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def until(holds):
    ends = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < ends, "it never held"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"not a picture", "not a PNG"),
        (png()[:-40], "truncated"),
        (bomb(), "pixels"),
    ],
    ids=["empty", "no picture", "cut", "bomb"],
)
def test_a_broken_upload_is_refused_in_words(client, temporary, content, words):
    status, said = client.send(content, name="Doe, Jane")
    assert status == 422
    assert words in said["error"]
    assert str(temporary) not in said["error"]
    assert not list(temporary.iterdir())


def test_a_dicom_without_pixels_is_refused_in_words(client, tmp_path, dicom_slice):
    status, said = client.send(dicom_slice(tmp_path / "one", pixels=False).read_bytes())
    assert status == 422
    assert "no 'Pixel Data'" in said["error"]


def test_a_dicom_slice_is_labelled_and_its_patient_is_told_nobody(client, tmp_path, dicom_slice):
    status, said = client.send(dicom_slice(tmp_path / "one").read_bytes(), name="one")
    assert status == 201
    assert "percentiles" in said["warning"]
    assert "Doe" not in json.dumps(said)


def test_a_volume_that_claims_64_gigavoxels_is_refused(volume_run, serve):
    with serve(Session(volume_run)) as (address, allowed):
        client = Client(address, allowed)
        status, said = client.send(nifti_bomb(), name="one.nii.gz")
        assert status == 422
        assert "voxels" in said["error"] or "memory" in said["error"]
        assert client.lives()


def test_a_stated_2_gb_are_refused_before_they_come(client):
    with client.opened(f"Content-Length: {2 << 30}") as line:
        assert b" 413 " in line.recv(4096).split(b"\r\n")[0]


def test_an_upload_without_length_ends_at_the_limit(pictures, client, temporary, monkeypatch):
    monkeypatch.setattr(pictures[0], "most_bytes", 1 << 20)
    part = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    came = 0
    with client.opened("Transfer-Encoding: chunked") as line:
        try:
            while came < 2 << 30:
                line.sendall(part)
                came += 1 << 16
        except OSError:
            pass  # the server hung up
    assert came < 1 << 28  # what the buffers on the way hold beyond the limit
    until(lambda: not list(temporary.iterdir()))


def test_a_client_that_leaves_in_the_middle_leaves_nothing(client, temporary):
    line = client.opened("Content-Length: 1000000")
    line.sendall(b"\x89PNG")
    until(lambda: list(temporary.iterdir()))
    line.close()
    until(lambda: not list(temporary.iterdir()))


def test_a_client_that_leaves_while_its_picture_is_looked_at_stops_nobody(
    pictures, client, monkeypatch
):
    session, before, started = pictures[0], len(pictures[0].sent), threading.Event()
    decode = sessions.decode

    def watched(*arguments, **options):
        started.set()
        return decode(*arguments, **options)

    monkeypatch.setattr(sessions, "decode", watched)
    content = png()
    with client.opened(f"Content-Length: {len(content)}") as line:
        line.sendall(content)
        assert started.wait(WAIT_SECONDS)
    until(lambda: len(session.sent) == before + 1)


def test_two_hundred_quick_requests_are_answered_or_told_to_come_back(client):
    def ask(place):
        paths = ("/cases/{}/close", "/cases/{}", "/cases/{}/picture", "/run")
        return client.ask(paths[place % 4].format(place % 6))[0]

    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(ask, range(200)))
    assert 200 in codes
    assert set(codes) <= {200, 429}


def test_so_many_pictures_at_once_are_told_to_come_back(client, monkeypatch):
    monkeypatch.setattr(app, "MOST_RECEIVING", 0)
    status, said = client.send(png())
    assert status == 429
    assert "try again" in said["error"]


def test_a_run_folder_that_changes_and_vanishes_is_said_to_have(tmp_path, served_run, serve):
    root = tmp_path / "moved"
    shutil.copytree(served_run.root.parent, root)
    session = Session(type(served_run)(root / "run"))
    with serve(session) as (address, allowed):
        client = Client(address, allowed)
        cohort = session.run.cohort.read_text().splitlines(keepends=True)
        session.run.cohort.write_text("".join(cohort[:-1]))
        status, content = client.ask("/cases/5/close")
        assert status == 410
        assert b"changed or vanished" in content
        shutil.rmtree(root)
        for path in ("/cases/0", "/cases/0/picture", "/cases/0/close", "/report"):
            status, content = client.ask(path)
            assert status == 410, path
            assert str(root) not in content.decode()
        assert client.lives()
        assert client.send(png(), name="still")[0] == 201


def test_a_public_address_is_asked_where_that_is_allowed(served_run, serve, monkeypatch):
    with serve(Session(served_run), allow_url=True) as (address, allowed):
        client = Client(address, allowed)
        assert json.loads(client.ask("/run")[1])["allowUrl"] is True
        status, said = client.send(b"", url=f"http://{client.netloc}/cases/0/picture")
        assert status == 422
        assert "private network" in said["error"]
        monkeypatch.setattr(receiving, "fetch_picture", lambda url: png())
        status, said = client.send(b"", url="https://example.org/shelf/one.png?size=2")
        assert status == 201
        assert said["id"].endswith(": one.png")


def test_the_command_prints_its_address_at_once_and_serves_until_it_is_interrupted(served_run):
    command = [sys.executable, "-m", "vitrail", "serve", str(served_run.root), "--port", "0"]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        address = json.loads(server.stdout.readline())["address"]
        opener = build_opener(HTTPCookieProcessor(CookieJar()))
        assert opener.open(address, timeout=WAIT_SECONDS).status == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in server.stderr.read()


def test_a_port_that_is_taken_is_said_to_be(served_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}"):
            app.serve(served_run, port=port, ready=lambda said: None)
