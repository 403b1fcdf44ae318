"""From DICOM folders to the guided study, through the command line, on toys."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.evaluation.table import read_predictions
from vitrail.runfolder import read_json

pytestmark = pytest.mark.journey


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--json"])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the folder of a finished guided demo of the smallest size, and what it said."""
    folder = tmp_path_factory.mktemp("guided")
    done = invoke("demo", "--guided", "--smoke", "--out", folder)
    assert done.exit_code == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_every_arm_predicts_every_patient_once(demo):
    folder, _ = demo
    said = read_predictions(folder / "run" / "guided" / "predictions.csv")
    tested = {}
    for one in said:
        if one.split == "test":
            tested.setdefault(one.model, []).extend(one.case_ids)
        np.testing.assert_allclose(one.probabilities.sum(axis=1), 1, atol=1e-6)
    assert set(tested) == {"guided", "no map", "vit alone", "cnn alone"}
    for cases in tested.values():
        assert sorted(cases) == [f"series/CHEST{number:04d}" for number in range(20)]


def test_arms_are_compared_on_the_same_patients(demo):
    folder, said = demo
    content = read_json(folder / "run" / "guided" / "evaluation.json")
    assert content["unit"] == "patient"
    pairs = {(pair["a"], pair["b"]) for pair in content["comparisons"]}
    assert ("guided", "no map") in pairs
    assert any("no map" in sentence for sentence in said["guided"]["summary"])


def test_finished_trainings_are_kept_when_more_is_asked(demo):
    folder, _ = demo
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("run/guided/fold*/*/*/*.csv")}
    assert kept
    done = invoke("guided", folder / "run", "--classifier", "plan", "--seeds", 1)
    assert done.exit_code == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_study_needs_a_trained_run_of_volumes(tmp_path):
    done = invoke("guided", tmp_path)
    assert done.exit_code == 2
    assert "no cohort" in done.stderr or "cohort.csv" in done.stderr
