"""Heads on a frozen backbone, from the pictures to the report."""

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw):
    return draw(tmp_path_factory.mktemp("pictures"), cases=40, size=(48, 48))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a randomly initialized backbone with a head of another size."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture
def planned(pictures, tmp_path, succeed):
    """Return a function that plans a head on frozen features; the run and its plan."""

    def made(*options, **edits):
        run = RunFolder(tmp_path / "run")
        succeed("inspect", pictures, "--out", run.root)
        succeed("plan", run.root, "--budget", "1h", *options)
        plan = yaml.safe_load(run.plan.read_text())
        assert plan["mode"]["value"] == "head"
        changed = {
            "image_size": [48, 48],
            "baseline": "resnet10t",
            "baseline_parameters": {"channels": [8, 8, 8, 8], "stem_width": 8},
            "baseline_epochs": 1,
            "epochs": 6,
            **edits,
        }
        for name, value in changed.items():
            plan[name]["value"] = value
        run.plan.write_text(yaml.safe_dump(plan))
        return run, plan

    return made


@pytest.mark.parametrize("head", ["linear", "mlp", "knn"])
def test_a_head_on_frozen_features_becomes_a_model_that_is_explained_like_any(
    head, pictures, weights, planned, succeed
):
    options = ("--model", "vit_tiny_patch16_224", "--weights", weights, "--head", head)
    run, plan = planned(*options, "--views", 2)
    assert "runs once a picture" in plan["mode"]["reason"]
    succeed("run", pictures, "--out", run.root)
    kept = load_file(run.model("vit") / "model.safetensors")
    start = load_file(weights)
    for name, value in start.items():
        if not name.startswith(("head.", "pos_embed")):
            assert torch.equal(kept[name], value)
    described = read_json(run.model("vit") / "model.json")
    assert described["architecture"]["parameters"].get("head", {}).get("kind") == (
        None if head == "linear" else head
    )
    assert list(run.explanations.glob("*.npz"))
    assert (run.model("vit") / "log.jsonl").read_text().count("\n") == described["extra"]["epochs"]
    assert "What the other presets would do" in run.report.read_text()
    with Image.open(run.augmentation("ct")) as grid:
        assert np.ptp(np.asarray(grid)) > 100


def test_folds_and_seeds_ask_the_backbone_nothing_again(weights, planned, succeed):
    options = ("--model", "vit_tiny_patch16_224", "--weights", weights)
    run, _ = planned(*options, "--folds", 3, "--seeds", 2)
    succeed("train", run.root)
    files = list(run.features.rglob("*.npy"))
    assert sum(len(np.load(path)) for path in files) == 40
    assert len(list(run.root.glob("models/vit/seed*/fold*/model.safetensors"))) == 6


def test_a_mode_that_does_not_go_with_the_weights_is_refused(
    pictures, weights, tmp_path, succeed, refused
):
    run = tmp_path / "run"
    succeed("inspect", pictures, "--out", run)
    assert "--mode head: without weights" in refused("plan", run, "--mode", "head")
    named = ("--model", "vit_tiny_patch16_224", "--weights", weights)
    said = refused("plan", run, "--mode", "scratch", *named)
    assert "from scratch starts without weights" in said


def test_weights_of_another_architecture_and_pickles_are_refused_by_what_they_hold(
    pictures, weights, tmp_path, succeed, refused
):
    run = tmp_path / "run"
    succeed("inspect", pictures, "--out", run)
    other = refused("plan", run, "--model", "resnet10t", "--weights", weights)
    assert "it lacks conv1.0.weight" in other
    assert "must be of the model's own architecture" in other
    pickled = tmp_path / "model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, pickled)
    said = refused("plan", run, "--model", "resnet10t", "--weights", pickled)
    assert "could execute code, which vitrail never does" in said
