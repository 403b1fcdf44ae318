"""Tune, train what was chosen, and read the page: configurations tried stand beside the numbers."""

import shutil

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from vitrail.runfolder import RunFolder, read_csv, read_json

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw):
    return draw(tmp_path_factory.mktemp("tuning") / "pictures", cases=48)


@pytest.fixture
def planned(pictures, tmp_path, succeed):
    """Plan a run on bright squares left and right."""
    run = RunFolder(tmp_path / "run")
    succeed("inspect", pictures, "--out", run.root)
    succeed("plan", run.root, "--budget", "1h")
    plan = yaml.safe_load(run.plan.read_text())
    tiny = {"channels": [8, 16, 16, 16], "stem_width": 8}
    changed = {
        "epochs": 2,
        "baseline_epochs": 1,
        "image_size": [32, 32],
        "baseline": "resnet10t",
        "baseline_parameters": tiny,
        "model_parameters": {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
    }
    for name, value in changed.items():
        plan[name]["value"] = value
    run.plan.write_text(yaml.safe_dump(plan))
    return run


def test_a_grid_is_tried_and_the_chosen_one_trained_and_reported(planned, succeed, refused):
    assert "'patch'" in refused("tune", planned.root, "ptach=8")
    found = succeed("tune", planned.root, "patch=8,16,5", "heads=1,2")
    study = found["tuning"]
    assert study["configurations_tried"] == 4
    assert [one["parameters"]["patch"] for one in study["skipped"]] == [5, 5]
    assert "multiples of patch_size" in study["skipped"][0]["reason"]
    values = {one["number"]: one["value"] for one in study["trials"]}
    assert values[study["chosen"]] == max(values.values())
    assert not planned.predictions.exists()
    again = succeed("tune", planned.root, "patch=8,16,5", "heads=1,2")
    assert again["tuning"]["trials"] == study["trials"]
    for name in ("learning-curve-of-every-trial", "values-over-the-grid", "parallel-coordinates"):
        drawing = (planned.tuning.parent / "figures" / f"{name}.svg").read_text()
        assert drawing.startswith('<svg xmlns="http://www.w3.org/2000/svg"')

    copy, *commands = study["commands"]
    shutil.copy(*copy.split()[1:])
    assert yaml.safe_load(planned.plan.read_text())["seeds"]["value"] == 3
    for command in commands:
        succeed(*command.split()[1:])
    record = read_json(planned.evaluation)
    assert record["configurations_tried"] == 4
    assert record["test_openings"] == 1
    assert record["sets"]["test"]["vit"]["roc_auc_score"]["spread"] is not None
    page = planned.report.read_text()
    assert "Configurations tried: 4; validation cases chose this one." in page
    assert "Learning curve of every trial" in page

    assert "tuning comes before training" in refused("tune", planned.root, "patch=8")


def test_nested_tuning_tests_each_winner_on_cases_that_no_trial_saw(
    pictures, planned, tmp_path, succeed, refused
):
    run = RunFolder(tmp_path / "nested")
    succeed("inspect", pictures, "--out", run.root)
    settings = (
        "epochs=1",
        "baseline_epochs=1",
        "image_size=[32,32]",
        "model_parameters={patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}",
    )
    wishes = [word for setting in settings for word in ("--set", setting)]
    succeed("plan", run.root, "--budget", "1h", "--folds", "2", *wishes)
    assert "or pass --nested" in refused("tune", run.root, "heads=1,2")
    found = succeed("tune", run.root, "heads=1,2,3", "--nested")["nested"]
    assert [fold["configurations_tried"] for fold in found["folds"]] == [2, 2]
    assert all(fold["skipped"][0]["parameters"] == {"heads": 3} for fold in found["folds"])
    assert found["outer"]["configurations_tried"] == 4
    area = found["outer"]["sets"]["test"]["vit"]["roc_auc_score"]
    assert area["low"] <= area["value"] <= area["high"]

    folds = read_csv(run.split)
    for number in range(2):
        place = run.root / "tuning" / "nested" / f"fold{number}"
        held = {row["case_id"] for row in folds if row[f"fold{number}"] == "test"}
        tested = read_csv(place / "predictions.csv")
        assert {row["case_id"] for row in tested if row["split"] == "test"} == held
        for result in place.glob("trials/*/*/result.json"):
            assert not held & set(read_json(result)["cases"])
    assert not (run.root / "models").exists()
    again = succeed("tune", run.root, "heads=1,2,3", "--nested")["nested"]
    assert again == found

    for options, problem in ((("--workers", "2"), "--workers"), (("--storage", "x"), "--storage")):
        said = refused("tune", run.root, "heads=1,2,3", "--nested", *options)
        assert f"{problem}: together with --nested" in said
    refused("tune", planned.root, "heads=1,2", "--nested")


def test_trials_of_a_head_ask_the_backbone_once(pictures, tmp_path, monkeypatch, succeed):
    run = RunFolder(tmp_path / "head")
    weights = tmp_path / "w.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=7).state_dict(), weights)
    succeed("inspect", pictures, "--out", run.root)
    model = ("--model", "vit_tiny_patch16_224", "--weights", weights, "--mode", "head")
    settings = ("--head", "mlp", "--set", "image_size=[32,32]", "--set", "epochs=2")
    succeed("plan", run.root, "--budget", "1h", *model, *settings)
    asked = []
    forward = timm.models.VisionTransformer.forward_features

    def counted(self, images, *rest, **options):
        asked.append(len(images))
        return forward(self, images, *rest, **options)

    monkeypatch.setattr(timm.models.VisionTransformer, "forward_features", counted)
    settled = run.root / "features"
    found = succeed("tune", run.root, "learning_rate=1e-4,1e-3,1e-2")["tuning"]
    assert found["configurations_tried"] == 3
    extracted = list(settled.rglob("*.npy"))
    assert len(extracted) == 1
    validation = len(read_json(next(run.root.rglob("result.json")))["cases"])
    assert sum(asked) <= 48 + 3 * validation + 3  # all once; each winner's answers; sizes probed
