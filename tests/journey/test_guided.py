"""From DICOM folders to the guided study, through the command line, on toys."""

import shutil

import numpy as np
import pytest

from vitrail.data.scan import read_scan
from vitrail.data.volume import read_image, require_same_grid
from vitrail.evaluation.table import read_predictions
from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def demo(tmp_path_factory, succeed):
    """Return the folder of a finished guided demo of the smallest size, and what it said."""
    folder = tmp_path_factory.mktemp("guided")
    return folder, succeed("demo", "--guided", "--smoke", "--out", folder)


@pytest.fixture(scope="module")
def original(demo):
    return RunFolder(demo[0] / "run")


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


def test_finished_trainings_are_kept_when_more_is_asked(run, succeed):
    kept = {path: path.stat().st_mtime_ns for path in run.root.glob("guided/fold*/*/*/*.csv")}
    assert kept
    succeed("guided", run.root, "--classifier", "plan", "--seeds", 1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_both_stages_evidence_lies_over_every_scan(demo):
    folder, said = demo
    for number in range(20):
        scan = read_scan(folder / "cohort" / "series" / f"CHEST{number:04d}")
        for stage in ("guided_vit", "guided_cnn"):
            name = f"series%2FCHEST{number:04d}.nii.gz"
            heat = read_image(folder / "run" / "explanations" / stage / name)
            require_same_grid(scan, heat)
            assert np.abs(heat.values).max() > 0
    rows = read_json(folder / "run" / "guided" / "study.json")["shares"]
    assert len(rows) == 20
    for row in rows:
        assert 0 < row["mask"] < 1
        assert 0 <= row["vit"] <= 1
    assert any("share of the positive evidence" in one for one in said["guided"]["summary"])


def test_the_report_shows_the_arms_and_what_both_stages_looked_at(demo):
    folder, _ = demo
    page = (folder / "run" / "report.html").read_text()
    assert "Does the map help?" in page
    assert "Guided minus each other arm" in page
    assert page.count("Grad-CAM of stage two of case") > 0


def test_a_study_with_another_classifier_is_not_mixed_into_this_one(run, refused):
    said = refused("guided", run.root, "--classifier", "resnet18")
    assert "it holds a study with classifier plan" in said


@pytest.fixture(scope="module")
def planned(demo, tmp_path_factory, succeed):
    """Return a run whose plan names the second stage, on the same chests, one of unknown age."""
    folder = tmp_path_factory.mktemp("planned")
    cohort, run = shutil.copytree(demo[0] / "cohort", folder / "cohort"), folder / "run"
    manifest = cohort / "aged.csv"
    rows = (cohort / "manifest.csv").read_text().splitlines()
    ages = ["age", "", *(str(40 + place) for place in range(len(rows) - 2))]
    manifest.write_text("\n".join(f"{row},{age}" for row, age in zip(rows, ages, strict=True)))
    small = {
        "image_size": "[48, 48]",
        "volume": "{tile_px: 16, window: lung, crop: mask}",
        "model_parameters": "{patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}",
        "epochs": 1,
        "baseline": "resnet10t",
        "baseline_parameters": "{channels: [8, 8, 8, 8], stem_width: 8}",
        "baseline_epochs": 1,
        "guided": "plan",
    }
    given = [f"--set={name}={value}" for name, value in small.items()]
    asked = ["--model", "guided", "--folds", "2", "--budget", "60m", *given]
    succeed("inspect", cohort, "--manifest", manifest, "--out", run)
    succeed("plan", run, *asked)
    return run, succeed("train", run)


def test_train_trains_the_guided_classifier_that_the_plan_names(planned):
    run, said = planned
    assert said["guided"]["evaluation"]["unit"] == "patient"
    assert {"guided", "no map"} <= set(said["guided"]["evaluation"]["sets"]["test"])
    assert (run / "guided" / "predictions.csv").exists()


def test_columns_are_joined_and_cases_without_them_are_named_and_kept(
    planned, tmp_path, succeed, refused
):
    run = shutil.copytree(planned[0], tmp_path / "run")
    shutil.rmtree(run / "guided")
    asked = ("guided", run, "--classifier", "plan", "--columns")
    said = succeed(*asked, "age", "--end-to-end")
    assert said["missing"] == {"age": ["series/CHEST0000"]}
    assert any("column age: 1 of 20 cases lack it" in one for one in said["summary"])
    tested = said["evaluation"]["sets"]["test"]
    assert tested["end to end"]["roc_auc_score"]["n"] == 20
    assert "the cohort's columns are age" in refused(*asked, "stage")


def test_a_study_needs_a_trained_run_of_volumes(tmp_path, refused):
    said = refused("guided", tmp_path)
    assert "no cohort" in said or "cohort.csv" in said
