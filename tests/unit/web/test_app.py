"""The server answers the record, labels new pictures, and lives through whatever is sent."""

import asyncio
import io
import logging
import shutil
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx2
import numpy as np
import pytest
from PIL import Image

from vitrail.data.raster import read_stored
from vitrail.report.viewer.script import modules
from vitrail.runfolder import RunFolder
from vitrail.web import app
from vitrail.web import session as sessions
from vitrail.web.decode import Decoded
from vitrail.web.security import access


def png(height=40, width=32, *, mode=np.uint8):
    top = 255 if mode == np.uint8 else 60000
    pixels = np.random.default_rng(1).integers(0, top, (height, width)).astype(mode)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def here(monkeypatch):
    """Decode in this process, for speed; test_decode does it as the server does."""

    def decoded(path, *, view=None, mask=None):
        return Decoded(read_stored(path)[None], {})

    monkeypatch.setattr(sessions, "decode", decoded)


def grid_of(session):
    return [side // 16 for side in session.plan.preprocessing.image_size]


def test_the_run_lists_its_cases_with_what_was_said(client):
    run = client.get("/run").json()
    assert [one["id"] for one in run["cases"]] == [f"case{number}" for number in range(6)]
    assert run["cases"][0]["said"][0]["probabilities"] == {"nodule": 0.7, "clear": 0.3}
    assert run["classes"] == ["clear", "nodule"]


def test_a_close_look_is_made_when_it_is_asked_for(client, session):
    close = client.get("/cases/0/close").json()
    assert (close["layers"], close["heads"], close["grid"]) == (2, 2, grid_of(session))
    assert close["matrices"]


def test_a_picture_is_the_stored_one(client, served_run):
    content = client.get("/cases/3/picture")
    assert content.content == served_run.picture("case3").read_bytes()
    assert content.headers["content-type"] == "image/png"


@pytest.mark.parametrize("path", ["/cases/6", "/cases/99/picture", "/cases/-1", "/viewer/none.js"])
def test_what_is_not_there_is_said_not_to_be(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/viewer/../../app.py",
        "/viewer/%2e%2e%2fscript.py",
        "/cases/..%2f..%2fetc/picture",
        "/viewer/script.py",
    ],
)
def test_no_path_of_a_client_reaches_the_file_system(client, path):
    assert client.get(path).status_code == 404


def test_the_page_and_its_modules_are_handed_out(client):
    page = client.get("/").text
    assert 'src="viewer/served.js"' in page
    assert 'id="v-pane-a"' in page
    for name in modules():
        assert client.get(f"/viewer/{name}.js").text == modules()[name]
    assert ".viewer" in client.get("/viewer/viewer.css").text


def test_a_new_picture_is_labelled_explained_and_exported(client, session, here):
    answer = client.post("/pictures", params={"name": "Müller, Anna.png"}, content=png())
    assert answer.status_code == 201
    one = answer.json()
    assert one["id"] == "new 1: Müller, Anna.png"
    assert sum(one["said"][0]["probabilities"].values()) == pytest.approx(1)
    assert one["maps"]["rollout"]["grid"] == grid_of(session)
    assert one["place"]["source"] == [40, 32]
    assert client.get("/cases/6/picture").content.startswith(b"\x89PNG")
    assert client.get("/cases/6/close").json()["layers"] == 2
    with zipfile.ZipFile(io.BytesIO(client.get("/export").content)) as archive:
        assert sorted(archive.namelist()) == ["001.npz", "001.png", "predictions.csv"]
        assert "Müller, Anna.png" in archive.read("predictions.csv").decode()
        values = np.load(io.BytesIO(archive.read("001.npz")))["values"]
    assert list(values.shape) == grid_of(session)


@pytest.mark.parametrize(("threshold", "decision"), [(0.0, "nodule"), (1.0, "clear")])
def test_a_new_picture_is_decided_as_the_test_cases_were(
    client, session, monkeypatch, threshold, decision
):
    stated = {"positive_class": "nodule", "operating_points": {"vit": [{"threshold": threshold}]}}
    contents = replace(session.contents, evaluation={**session.contents.evaluation, **stated})
    monkeypatch.setattr(session, "contents", contents)
    answer = client.post("/pictures", params={"name": "one.png"}, content=png())
    assert answer.json()["said"][0]["decision"] == decision


def test_a_run_without_a_report_says_who_makes_it(client, session, monkeypatch, tmp_path, said):
    assert client.get("/run").json()["report"]
    monkeypatch.setattr(session, "run", RunFolder(tmp_path))
    assert not client.get("/run").json()["report"]
    assert "vitrail report" in said(client.get("/report"))


def test_the_outline_of_a_mask_is_answered_where_there_is_one(client):
    cases = client.get("/run").json()["cases"]
    assert [one["mask"] for one in cases] == [True, False, False, False, False, False]
    with Image.open(io.BytesIO(client.get("/cases/0/outline").content)) as drawn:
        assert drawn.mode == "RGBA"
        assert drawn.size == (32, 40)
    assert client.get("/cases/1/outline").status_code == 422


def test_addresses_are_not_asked_unless_it_was_allowed(client, said):
    answer = client.post("/pictures", params={"url": "https://example.org/one.png"})
    assert answer.status_code == 403
    assert "--allow-url" in said(answer)
    assert client.get("/run").json()["allowUrl"] is False


def test_deep_pictures_are_windowed_and_that_is_said(client, here):
    answer = client.post("/pictures", params={"name": "deep"}, content=png(mode=np.uint16))
    assert "percentiles" in answer.json()["warning"]


def test_names_are_never_logged(client, here, caplog):
    with caplog.at_level(logging.DEBUG, logger="vitrail"):
        client.post("/pictures", params={"name": "Anna Müller"}, content=b"broken")
        client.post("/pictures", params={"name": "Anna Müller"}, content=png())
    assert "Anna" not in caplog.text


def test_a_broken_picture_is_refused_in_words_and_the_server_lives(client, here, said):
    answer = client.post("/pictures", content=b"not a picture")
    assert answer.status_code == 422
    assert "not a PNG" in said(answer)
    assert "/tmp" not in said(answer)
    assert client.get("/run").status_code == 200


def test_a_stated_2_gb_are_refused_before_they_are_read(client, said):
    answer = client.post("/pictures", content=b"x", headers={"content-length": str(2 << 30)})
    assert answer.status_code == 413
    assert "64 MB" in said(answer)


def test_an_unstated_length_ends_at_the_limit(client, session, monkeypatch):
    monkeypatch.setattr(session, "most_bytes", 1000)

    def endless():
        for _ in range(100):
            yield b"x" * 100

    answer = client.post("/pictures", content=endless())
    assert answer.status_code == 413


def test_only_so_many_pictures_are_kept(client, here, monkeypatch, said):
    monkeypatch.setattr(sessions, "MOST_PICTURES", 1)
    assert client.post("/pictures", content=png()).status_code == 201
    answer = client.post("/pictures", content=png())
    assert answer.status_code == 422
    assert "are kept" in said(answer)


def test_two_hundred_quick_requests_are_answered_or_told_to_come_back(session, monkeypatch):
    monkeypatch.setattr(app, "MOST_WAITING", 8)
    told = threading.Event()
    monkeypatch.setattr(session, "close_json", lambda index: told.wait(60) and {})
    allowed = access("127.0.0.1", 8642, with_token=False)
    transport = httpx2.ASGITransport(app=app.application(session, allowed))

    async def ask():
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8642"
        ) as client:
            asked = [client.get(f"/cases/{place % 6}/close") for place in range(200)]
            codes = []
            for answered in asyncio.as_completed(asked):
                codes.append((await answered).status_code)
                told.set()  # the first answer is a refusal: those that wait go on after it
            return codes, (await client.get("/run")).status_code

    with ThreadPoolExecutor(1) as pool:  # a browser's event loop may run in this thread
        codes, after = pool.submit(asyncio.run, ask()).result()
    assert {200, 429} == set(codes)
    assert after == 200


def test_a_run_folder_that_vanishes_is_said_to_be_gone(client, session, served_run, tmp_path, said):
    session.run = RunFolder(shutil.copytree(served_run.root, tmp_path / "run"))
    session.run.picture("case5").unlink()
    answer = client.get("/cases/5/picture")
    assert answer.status_code == 410
    assert "changed or vanished" in said(answer)
    assert str(tmp_path) not in said(answer)


def test_the_report_is_shown_with_its_own_policy(client):
    answer = client.get("/report")
    assert "report" in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_a_zip_bomb_of_a_picture_is_refused(client, here, said):
    side = 60000
    rows = zlib.compress(b"\0" * (1 + side // 8) * 4000, 9)

    def chunk(kind, body):
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    head = side.to_bytes(4) + side.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    answer = client.post("/pictures", content=bomb)
    assert answer.status_code == 422
    assert "pixels" in said(answer) or "bomb" in said(answer)
