"""Fetching from a real server on this machine that cuts, lies and breaks."""

import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from vitrail.data import fetch as downloads
from vitrail.data.catalog import Card, RemoteFile
from vitrail.data.cohort import read_folder
from vitrail.data.manifest import read_manifest
from vitrail.errors import DataError, InputError
from vitrail.pipeline import fetch as verbs


class Server:
    """Serves one file; ``cuts`` says after how many bytes each of the next answers breaks off."""

    def __init__(self):
        self.content, self.cuts, self.requests, self.status, self.tag = b"", [], [], None, '"a"'
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                owner.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.zip"

    def answer(self, handler):
        start = 0
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        if self.status:
            handler.send_response(self.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if asked and handler.headers.get("If-Range") == self.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", self.tag)
        handler.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        handler.wfile.write(body[:cut])

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def tiles():
    """Return a zip of the form of beans: a folder a part, a folder a class."""
    stream = io.BytesIO()
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(stream, "w") as archive:
        for part in ("train", "validation", "test"):
            for label in ("healthy", "rust"):
                for number in range(3):
                    picture = io.BytesIO()
                    pixels = generator.integers(0, 255, size=(40, 40, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(picture, format="PNG")
                    archive.writestr(f"{part}/{label}/{number}.png", picture.getvalue())
    return stream.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_CHUNK", 1000)
    served = Server()
    served.content = tiles()
    yield served
    served.close()


def card(server, **file):
    digest = hashlib.sha256(server.content).hexdigest()
    remote = {"url": server.url, "name": "set.zip", "checksum": f"sha256:{digest}"} | file
    return Card(
        name="leaves",
        title="Leaves",
        homepage="https://example.org",
        licence="CC0",
        citation="Nobody",
        cases=18,
        files=(RemoteFile(**remote),),
        faults=("it is generated",),
    )


def agree(said):
    agree.said = list(said)
    return True


def test_a_set_comes_whole_checked_and_ready_to_run(server, tmp_path):
    told = verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    assert "licence: CC0" in agree.said
    assert "known fault: it is generated" in agree.said
    assert len(read_folder(tmp_path / "leaves")) == 18
    assert sorted(path.name for path in (tmp_path / "leaves").iterdir()) == [
        "fetched.json",
        "test",
        "train",
        "validation",
    ]
    about = json.loads((tmp_path / "leaves" / "fetched.json").read_text())
    assert about["files"][0]["verified"]
    assert told["summary"][-1].startswith("next: vitrail run")


def test_parts_that_stand_in_lists_become_a_manifest(server, tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(server.content)) as old, zipfile.ZipFile(stream, "w") as new:
        for part, named in (("train", "012"), ("test", "345")):
            lines = []
            for label in ("pizza", "soup"):
                for number in named:
                    source = (
                        f"{part}/{'rust' if label == 'soup' else 'healthy'}/{int(number) % 3}.png"
                    )
                    new.writestr(f"food/images/{label}/{number}.png", old.read(source))
                    lines.append(f"{label}/{number}")
            new.writestr(f"food/meta/{part}.txt", "\n".join(lines))
    server.content = stream.getvalue()
    lists = {"train": "food/meta/train.txt", "test": "food/meta/test.txt"}
    food = card(server).model_copy(update={"run": "food/images", "lists": lists})
    told = verbs.fetch_card(food, to=tmp_path / "food", confirm=agree)
    assert "--manifest" in told["summary"][-1]
    cohort = read_manifest(tmp_path / "food" / "food" / "images" / "manifest.csv")
    assert [case.split for case in cohort if case.label == "soup"] == ["train"] * 3 + ["test"] * 3


def test_what_is_there_already_is_not_fetched_again(server, tmp_path):
    first = verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    again = verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=lambda said: False)
    assert len(server.requests) == 1
    assert again["summary"] == first["summary"]


def test_files_that_came_before_a_cut_are_kept(server, tmp_path):
    two = card(server)
    second = RemoteFile(url=server.url.replace("set", "more"), name="more.npz")
    both = two.model_copy(update={"files": (*two.files, second)})
    server.cuts = [None] + [2000] * 5
    with pytest.raises(DataError, match="failed 5 times"):
        verbs.fetch_card(both, to=tmp_path / "leaves", confirm=agree)
    verbs.fetch_card(both, to=tmp_path / "leaves", confirm=agree)
    assert server.requests[-1] == "bytes=10000-"
    assert (tmp_path / "leaves" / "more.npz").read_bytes() == server.content


def test_a_cut_connection_is_gone_on_with_where_it_was_cut(server, tmp_path):
    server.cuts = [5000, 3000]
    verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    assert server.requests == [None, "bytes=5000-", "bytes=8000-"]
    assert len(read_folder(tmp_path / "leaves")) == 18


def test_a_later_call_goes_on_where_the_first_gave_up(server, tmp_path):
    server.cuts = [2000] * 5
    with pytest.raises(DataError, match=r"failed 5 times .*10000 bytes of it are kept; repeat"):
        verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    assert server.requests[-1] == "bytes=10000-"
    assert len(read_folder(tmp_path / "leaves")) == 18


def test_a_file_that_changed_at_its_source_begins_anew(server, tmp_path):
    server.cuts = [2000] * 5
    with pytest.raises(DataError, match="repeat the command"):
        verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    server.tag = '"b"'
    verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    assert len(read_folder(tmp_path / "leaves")) == 18


def test_another_checksum_is_refused_and_nothing_stays(server, tmp_path):
    wrong = card(server, checksum="sha256:" + "0" * 64)
    with pytest.raises(DataError, match="another file came than the catalog knows"):
        verbs.fetch_card(wrong, to=tmp_path / "leaves", confirm=agree)
    assert list((tmp_path / "leaves").iterdir()) == []


def test_without_a_published_checksum_the_own_one_is_recorded_as_unverified(server, tmp_path):
    told = verbs.fetch_card(card(server, checksum=""), to=tmp_path / "leaves", confirm=agree)
    digest = hashlib.sha256(server.content).hexdigest()
    assert f"not verified, for no checksum is published; sha256 {digest}" in told["summary"][0]


def test_a_full_disk_is_told_before_and_during_the_download(server, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="bytes are free on that disk"):
        verbs.fetch_card(card(server, bytes=1 << 60), to=tmp_path / "a", confirm=agree)
    assert list((tmp_path / "a").iterdir()) == []

    def full(self, url):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads._Resuming, "_go_on", full)
    with pytest.raises(DataError, match=r"cannot be written .No space left"):
        verbs.fetch_card(card(server), to=tmp_path / "b", confirm=agree)


def test_a_server_that_says_no_is_quoted(server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match="answered 404"):
        verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    assert len(server.requests) == 1


def test_a_broken_archive_leaves_nothing_unpacked(server, tmp_path):
    server.content = server.content[:4000]
    with pytest.raises(DataError, match="it cannot be unpacked"):
        verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=agree)
    assert [path.name for path in (tmp_path / "leaves").iterdir()] == ["set.zip"]


def test_an_archive_cannot_write_outside(server, tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../evil.png", b"x")
    server.content = stream.getvalue()
    verbs.fetch_card(card(server), to=tmp_path / "deep" / "leaves", confirm=agree)
    assert not list(tmp_path.glob("evil.png"))
    assert not list((tmp_path / "deep").glob("evil.png"))


def test_nothing_comes_unasked(server, tmp_path):
    with pytest.raises(InputError, match="pass --yes"):
        verbs.fetch_card(card(server), to=tmp_path / "leaves", confirm=lambda said: False)
    assert server.requests == []
    assert not (tmp_path / "leaves").exists()


def test_a_set_behind_an_account_says_how_to_get_it():
    with pytest.raises(InputError, match=r"Kaggle asks for an account.*non-COVID"):
        verbs.fetch("sarscov2-ct", confirm=agree)


def test_the_list_and_a_card_are_shown():
    assert {"beans", "food-101", "kather2016", "pathmnist"} <= {
        row["name"] for row in verbs.list_sets()["sets"]
    }
    said = verbs.show_set("pathmnist_64")["summary"]
    assert any("known fault: Mean color alone" in one for one in said)
    assert any("pathmnist at 64 px" in one for one in said)
    assert "download: 1 file, unknown before the download" in said
