"""Cross-validation from pictures to report: every case tested once, by who did not see it."""

import numpy as np
import pytest
import yaml
from PIL import Image

from vitrail.evaluation.table import read_predictions
from vitrail.runfolder import RunFolder, read_csv, read_json

pytestmark = pytest.mark.journey

TINY = {
    "model_parameters": {"patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2},
    "image_size": [32, 32],
    "baseline": "resnet10t",
    "baseline_parameters": {"channels": [8, 8, 8, 8], "stem_width": 8},
    "epochs": 1,
    "baseline_epochs": 1,
}


def patients(root, *, given_test=0):
    """Draw thirty patients of two pictures at three sites; bright is left or right."""
    generator = np.random.default_rng(0)
    lines = ["path,label,patient,site,split" if given_test else "path,label,patient,site"]
    root.mkdir()
    for number in range(60):
        pixels = generator.integers(0, 90, size=(32, 32), dtype=np.uint8)
        patient = number // 2
        pixels[8:24, 4 + 16 * (patient % 2) :][:, :8] = 200
        Image.fromarray(pixels).save(root / f"{number:02}.png")
        line = f"{number:02}.png,{('left', 'right')[patient % 2]},P{patient},S{patient % 3}"
        given = "test" if patient < given_test else "train"
        lines.append(f"{line},{given}" if given_test else line)
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root / "manifest.csv"


@pytest.fixture
def planned(succeed):
    """Return a function that inspects and plans, and makes the trainings tiny."""

    def made(run, manifest, *options, **edits):
        succeed("inspect", manifest.parent, "--manifest", manifest, "--out", run.root)
        succeed("plan", run.root, "--budget", "1h", *options)
        plan = yaml.safe_load(run.plan.read_text())
        for name, value in {**TINY, **edits}.items():
            plan[name]["value"] = value
        run.plan.write_text(yaml.safe_dump(plan))

    return made


def again(run, manifest):
    """Return the words that go on with a run."""
    return "run", manifest.parent, "--manifest", manifest, "--out", run.root


def test_folds_and_seeds_are_trained_pooled_explained_and_resumed(tmp_path, planned, succeed):
    manifest = patients(tmp_path / "pictures")
    run = RunFolder(tmp_path / "run")
    planned(run, manifest, "--folds", 3, "--seeds", 2)
    succeed(*again(run, manifest))
    assert len(list(run.root.glob("models/*/seed*/fold*/model.safetensors"))) == 12
    split = {row["case_id"]: row for row in read_csv(run.split)}
    patient = {row["case_id"]: row["patient_id"] for row in read_csv(run.cohort)}
    tested = [said for said in read_predictions(run.predictions) if said.split == "test"]
    for model in ("vit", "cnn"):
        for seed in (0, 1):
            own = [said for said in tested if (said.model, said.seed) == (model, seed)]
            assert sorted(name for said in own for name in said.case_ids) == sorted(split)
            assert all(
                split[n][f"fold{said.fold}"] == "test" for said in own for n in said.case_ids
            )
    for fold in range(3):
        trained = {patient[name] for name in split if split[name][f"fold{fold}"] == "train"}
        assert not trained & {patient[n] for n in split if split[n][f"fold{fold}"] == "test"}
    cell = read_json(run.evaluation)["sets"]["test"]["vit"]["accuracy"]
    assert cell["n"] == 30
    assert cell["spread"] is not None
    weights = {
        fold: read_json(run.model("vit", fold=fold) / "model.json")["weights_sha256"]
        for fold in range(3)
    }
    for name, row in split.items():
        extra = read_json(run.explanation(name).with_suffix(".json"))["extra"]
        fold = next(fold for fold in range(3) if row[f"fold{fold}"] == "test")
        assert extra["weights_sha256"] == weights[fold]
    assert len(read_json(run.root / "splits_final.json")) == 3
    page = run.report.read_text()
    assert "3 folds" in page
    (run.model("cnn", seed=1, fold=2) / "model.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in run.root.glob("models/*/seed*/*/model.*")}
    succeed(*again(run, manifest))
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {p.parent.name for p in before if before[p] != after[p]} == {"fold2"}
    said = succeed("predict", run.root, manifest.parent / "00.png")
    assert sum(said["predictions"][0]["probabilities"].values()) == pytest.approx(1)


def test_a_given_test_part_is_predicted_by_all_folds_together(tmp_path, planned, succeed):
    manifest = patients(tmp_path / "pictures", given_test=8)
    run = RunFolder(tmp_path / "run")
    planned(run, manifest, "--folds", 2)
    succeed(*again(run, manifest))
    said = read_predictions(run.predictions)
    assert {(one.model, one.fold, one.split) for one in said} == {
        (model, 0, part) for model in ("vit", "cnn") for part in ("validation", "test")
    }
    sizes = {one.split: len(one.case_ids) for one in said}
    assert sizes == {"validation": 44, "test": 16}


def test_each_site_is_held_out_in_turn(tmp_path, planned):
    manifest = patients(tmp_path / "pictures")
    run = RunFolder(tmp_path / "run")
    planned(run, manifest, "--hold-out-sites")
    assert yaml.safe_load(run.plan.read_text())["folds"]["value"] == 3
    site = {row["case_id"]: row["site"] for row in read_csv(run.cohort)}
    for fold in range(3):
        held = {site[r["case_id"]] for r in read_csv(run.split) if r[f"fold{fold}"] == "test"}
        assert held == {f"S{fold}"}


def test_folds_that_cannot_be_are_refused_before_anything_is_trained(
    tmp_path, planned, succeed, refused
):
    manifest = patients(tmp_path / "pictures")
    run = RunFolder(tmp_path / "run")
    succeed("inspect", manifest.parent, "--manifest", manifest, "--out", run.root)
    assert "16 folds, but class 'left' has 15 patients" in refused("plan", run.root, "--folds", 16)
    assert "drop one of the two" in refused("plan", run.root, "--folds", 2, "--hold-out-sites")
    assert "'Nowhere'; the sites are S0, S1, S2" in refused(
        "plan", run.root, "--hold-out-site", "Nowhere"
    )
    planned(run, manifest, "--folds", 2, folds=5)
    assert "folds: 5; split.csv holds 2" in refused("train", run.root)
    assert "it says folds: 5, the command line says 3" in refused("plan", run.root, "--folds", 3)
