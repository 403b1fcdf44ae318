"""What the viewer is given is the record, and fits into its budget."""

import json
import zlib
from base64 import b64decode

import numpy as np
import pytest

from vitrail.color import ANCHORS
from vitrail.report.contents import read
from vitrail.report.gallery import gallery
from vitrail.report.payload import close_json, close_ups, payload, to_script, viewer
from vitrail.runfolder import read_json, write_json


@pytest.fixture
def run(make_run):
    return make_run(cases=24, methods=("libra",))


@pytest.fixture
def sent(run):
    contents = read(run)
    return payload(contents, gallery(contents))


def floats(text):
    return np.frombuffer(b64decode(text), dtype="<f4")


def test_maps_are_the_records_own_values(run, sent):
    for case in sent["cases"]:
        for method, folder in (("rollout", None), ("libra", "libra")):
            with np.load(run.explanation(case["id"], method=folder)) as stored:
                np.testing.assert_array_equal(
                    floats(case["maps"][method]["values"]), stored["values"].ravel()
                )
            assert case["maps"][method]["grid"] == [8, 8]


def test_a_picture_has_its_place_in_the_input(sent):
    assert sent["cases"][0]["place"] == {
        "box": [8, 0, 56, 64],
        "input": [64, 64],
        "source": [96, 128],
    }


def test_colors_and_classes_are_the_packages(sent):
    assert sent["palettes"] == {
        name: [list(color) for color in colors] for name, colors in ANCHORS.items()
    }
    assert sent["classes"] == ["clear", "nodule"]
    assert sent["positive"] == "nodule"
    assert sent["temperature"] is None
    assert len(sent["calibration"]) == 5


def test_decisions_come_with_the_probability_they_are_made_at(run):
    content = read_json(run.evaluation)
    content["operating_points"] = {"vit": [{"threshold": 0.25}, {"threshold": 0.75}]}
    write_json(run.evaluation, content)
    contents = read(run)
    assert payload(contents, gallery(contents))["thresholds"] == {"Vision Transformer": 0.5}
    assert contents.decide("vit", {"clear": 0.49, "nodule": 0.51}) == "nodule"
    assert contents.decide("vit", {"nodule": 0.49, "clear": 0.51}) == "clear"


def test_a_temperature_comes_with_the_calibration_that_it_gives(run):
    content = read_json(run.evaluation)
    after = [{"probability": 0.5, "frequency": 0.5, "low": 0.2, "high": 0.8, "n": 9}]
    content["curves"]["test"]["vit"]["calibration_after"] = after
    write_json(run.evaluation, content)
    contents = read(run)
    sent = payload(contents, gallery(contents))
    assert (sent["temperature"], sent["calibration"]) == (1.2, after)


def test_similar_training_cases_come_with_label_and_picture(sent):
    first = sent["cases"][0]["similar"][0]
    assert first["label"] in sent["classes"]
    assert sent["thumbnails"][first["id"]].startswith("data:image/jpeg")


def test_whole_attention_comes_back_from_its_steps(run):
    path = next((run.explanations / "attention").glob("*.npz"))
    with np.load(path) as stored:
        arrays = dict(stored)
    written = close_json(arrays)
    steps = np.frombuffer(zlib.decompress(b64decode(written["matrices"])), dtype=np.uint8)
    np.testing.assert_array_equal(steps, arrays["matrices"].ravel())
    np.testing.assert_array_equal(floats(written["scales"]), arrays["scales"].ravel())
    rows = np.frombuffer(zlib.decompress(b64decode(written["rows"])), dtype=np.uint8)
    again = rows.reshape(4, 3, 64) * floats(written["rowScales"]).reshape(4, 3, 1) / 255
    np.testing.assert_allclose(again, arrays["attention"].reshape(4, 3, 64), atol=1e-3)


def test_an_older_run_without_whole_attention_is_still_shown():
    rows = np.full((2, 3, 4, 4), 1 / 16, dtype=np.float16)
    written = close_json({"attention": rows})
    assert written["matrices"] is written["lens"] is None
    assert written["grid"] == [4, 4]


def test_close_looks_end_where_the_room_ends(run, monkeypatch):
    contents = read(run)
    cases = list(contents.truth)
    sizes = {name: len(text) for name, text in close_ups(contents, cases).items()}
    assert len(sizes) == 4
    monkeypatch.setattr("vitrail.report.payload.MOST_CLOSE_BYTES", 60_000)
    kept = close_ups(contents, cases)
    assert [json.loads(text)["matrices"] is not None for text in kept.values()] != [True] * 4


def test_what_stands_in_a_script_cannot_end_it():
    assert "<" not in to_script({"id": "</script><script>alert(1)</script>"})
    assert json.loads(to_script({"id": "</script>"})) == {"id": "</script>"}


def test_without_similar_cases_and_close_looks_the_page_is_made(run):
    for path in (run.explanations / "attention").iterdir():
        path.unlink()
    (run.explanations / "similar.json").unlink()
    contents = read(run)
    shown = viewer(contents, gallery(contents))
    assert shown.close == {}
    assert json.loads(shown.run)["thumbnails"] == {}


def test_what_the_map_record_says_is_what_the_method_is(run, sent):
    own = {one["name"]: one for one in sent["methods"]}
    record = read_json(run.explanation(sent["cases"][0]["id"], method="libra").with_suffix(".json"))
    assert own["libra"]["signed"] is record["signed"]
    assert own["libra"]["specific"] is record["class_specific"]
    assert own["rollout"]["count"] == len(sent["cases"])
