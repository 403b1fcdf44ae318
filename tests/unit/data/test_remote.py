"""A picture from a URL: what may be asked, from a real server on this machine that misbehaves."""

import io
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.remote import fetch_picture, is_public
from vitrail.errors import DataError, InputError, MissingExtraError, UnreadableFileError

CERTIFICATE = Path(__file__).with_name("pictures.test.pem")


def picture(kind="PNG"):
    content = io.BytesIO()
    Image.fromarray(np.full((8, 8), 90, dtype=np.uint8)).save(content, format=kind)
    return content.getvalue()


class Server:
    """Answers every path with what ``answers`` holds for it; counts what it was asked."""

    def __init__(self):
        self.answers, self.asked, self.go_on = {}, [], threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                owner.asked.append((self.headers["Host"], self.path))
                owner.answers[self.path](self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.port = self.http.server_port

    def start(self):
        self.thread.start()
        return self

    def url(self, path, host="127.0.0.1", scheme="http"):
        return f"{scheme}://{host}:{self.port}{path}"

    def sends(self, path, content, *, status=200, stated=None, **headers):
        def answer(handler):
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            if stated != 0:
                handler.send_header("Content-Length", str(stated or len(content)))
            handler.end_headers()
            handler.wfile.write(content)

        self.answers[path] = answer
        return self.url(path)

    def moves(self, path, to):
        return self.sends(path, b"", status=302, Location=to)

    def close(self):
        self.go_on.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server():
    running = Server().start()
    yield running
    running.close()


@pytest.fixture
def names(monkeypatch):
    """Answer look-ups of names from a list for each; the last one stays."""
    known = {}
    genuine = socket.getaddrinfo

    def look_up(host, port, *rest, **options):
        if host not in known:
            return genuine(host, port, *rest, **options)
        found = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [
            (
                socket.AF_INET6 if ":" in one else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (one, port),
            )
            for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_picture_comes_as_it_is(server, kind):
    url = server.sends("/a", picture(kind))
    assert fetch_picture(url, allow_private=True) == picture(kind)


def test_a_picture_of_unstated_length_comes_whole(server):
    url = server.sends("/a", picture(), stated=0)
    assert fetch_picture(url, allow_private=True) == picture()


def test_this_machine_is_not_asked_unless_allowed(server):
    url = server.sends("/a.png", picture())
    with pytest.raises(InputError, match="private network, or to this machine"):
        fetch_picture(url)
    assert server.asked == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "2130706433", "0x7f000001", "0", "10.1.2.3", "192.168.0.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]"),
        *("[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:53aa::1]"),
    ],
)
def test_every_spelling_of_a_private_address_is_refused(host):
    with pytest.raises(InputError, match=r"private network|no address is known"):
        fetch_picture(f"http://{host}/a.png")


def test_public_addresses_are_public():
    assert all(map(is_public, ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]))


def test_a_name_with_one_private_address_among_public_ones_is_refused(names):
    names["two.test"] = [["93.184.216.34", "10.0.0.1"]]
    with pytest.raises(InputError, match="private network"):
        fetch_picture("http://two.test/a.png")


def test_a_name_that_answers_otherwise_the_second_time_gains_nothing(server, names):
    server.sends("/a.png", picture())
    names["rebinding.test"] = [["127.0.0.1"], ["203.0.113.9"]]
    content = fetch_picture(server.url("/a.png", host="rebinding.test"), allow_private=True)
    assert content == picture()
    assert server.asked == [(f"rebinding.test:{server.port}", "/a.png")]


def test_a_redirect_is_followed(server):
    server.sends("/there/a.png", picture())
    url = server.moves("/a.png", "there/a.png")
    assert fetch_picture(url, allow_private=True) == picture()


def test_a_redirect_is_judged_like_an_address_that_was_typed(server, names, monkeypatch):
    monkeypatch.setattr("vitrail.data.remote.is_public", lambda numeric: numeric == "127.0.0.1")
    for target in ("http://10.0.0.1/a.png", "file:///etc/passwd", "http://you:secret@here/"):
        with pytest.raises(InputError, match=r"private network|only http|a password"):
            fetch_picture(server.moves("/a.png", target))


def test_a_redirect_in_a_circle_ends(server):
    url = server.moves("/a.png", "/a.png")
    with pytest.raises(DataError, match="more than 3 redirects"):
        fetch_picture(url, allow_private=True)
    assert len(server.asked) == 4


@pytest.mark.parametrize("stated", [None, 0])
def test_a_large_file_is_refused_stated_or_not(server, stated):
    url = server.sends("/a.png", picture() + bytes(4096), stated=stated)
    with pytest.raises(DataError, match="too large; at most 1024 bytes"):
        fetch_picture(url, allow_private=True, max_bytes=1024)


def test_a_packed_answer_is_not_unpacked(server):
    url = server.sends("/a.png", b"\x1f\x8b" + bytes(100), Content_Encoding="gzip")
    with pytest.raises(UnreadableFileError, match="not a picture"):
        fetch_picture(url, allow_private=True)


def test_a_page_is_not_a_picture_whatever_it_calls_itself(server):
    url = server.sends("/a.png", b"<html>", Content_Type="image/png")
    with pytest.raises(UnreadableFileError, match="not a picture"):
        fetch_picture(url, allow_private=True)


def test_a_cut_answer_is_refused(server):
    url = server.sends("/a.png", picture(), stated=10_000)
    with pytest.raises(DataError, match="connection failed"):
        fetch_picture(url, allow_private=True)


def test_an_error_of_the_server_is_said(server):
    url = server.sends("/a.png", b"", status=404)
    with pytest.raises(DataError, match="answered 404"):
        fetch_picture(url, allow_private=True)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n\x89PNG"])
def test_a_server_that_stops_anywhere_is_left_when_the_time_is_over(server, sent):
    def answer(handler):
        handler.wfile.write(sent)
        handler.wfile.flush()
        server.go_on.wait()

    server.answers["/a.png"] = answer
    with pytest.raises(DataError, match="too slow"):
        fetch_picture(server.url("/a.png"), allow_private=True, timeout_s=0.2)


def test_a_closed_port_is_said():
    with socket.socket() as taken:  # and not listening: nobody else can open it meanwhile
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.png"
        with pytest.raises(DataError, match="connection failed"):
            fetch_picture(url, allow_private=True)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("a.png", "only http and https"),
        ("ftp://host/a.png", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http://", "only http and https"),
        ("http://host:99999/", "cannot be read"),
        ("http://ho\r\nst/", "cannot be read"),
        ("http://you:secret@host/a.png", "a password for host"),
        ("http://nowhere.invalid/a.png", "no address is known"),
    ],
)
def test_what_is_no_address_is_said(url, problem):
    with pytest.raises(InputError, match=problem) as said:
        fetch_picture(url)
    assert "secret" not in str(said.value)


@pytest.fixture
def encrypted(monkeypatch):
    """Serve https for pictures.test, whose certificate the system trusts."""
    running = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    running.http.socket = context.wrap_socket(running.http.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    yield running.start()
    running.close()


def test_a_certificate_is_held_against_the_name_not_the_address(encrypted, names):
    encrypted.sends("/a.png", picture())
    names["pictures.test"] = names["other.test"] = [["127.0.0.1"]]
    url = encrypted.url("/a.png", host="pictures.test", scheme="https")
    assert fetch_picture(url, allow_private=True) == picture()
    with pytest.raises(DataError, match="connection failed"):
        fetch_picture(url.replace("pictures", "other"), allow_private=True)


def test_a_certificate_that_nobody_trusts_is_refused(encrypted, names, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    names["pictures.test"] = [["127.0.0.1"]]
    with pytest.raises(DataError, match="connection failed"):
        fetch_picture(
            encrypted.url("/a.png", host="pictures.test", scheme="https"), allow_private=True
        )


def test_without_urllib3_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "urllib3", None)
    with pytest.raises(MissingExtraError, match=r"vitrail\[fetch\]"):
        fetch_picture("https://example.org/a.png")
