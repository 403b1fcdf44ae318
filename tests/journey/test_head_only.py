"""Heads on a frozen backbone, from the pictures to the report."""

import json

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def succeed(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Draw forty pictures that are bright at the left or at the right."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(40):
        pixels = generator.integers(0, 90, size=(48, 48), dtype=np.uint8)
        label = ("left", "right")[number % 2]
        pixels[8:40, 4 if label == "left" else 28 :][:, :16] = 220
        (root / label).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / label / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a randomly initialized backbone with a head of another size."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(model.state_dict(), path)
    return path


def planned(run, pictures, *options, **edits):
    succeed("inspect", pictures, "--out", run.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitrail.pipeline.plan.seconds_a_step", lambda *_, **__: 0.01)
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
    return plan


@pytest.mark.parametrize("head", ["linear", "mlp", "knn"])
def test_a_head_on_frozen_features_becomes_a_model_that_is_explained_like_any(
    head, pictures, weights, tmp_path
):
    run = RunFolder(tmp_path / "run")
    options = ("--model", "vit_tiny_patch16_224", "--weights", weights, "--head", head)
    plan = planned(run, pictures, *options, "--views", 2)
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


def test_folds_and_seeds_ask_the_backbone_nothing_again(pictures, weights, tmp_path):
    run = RunFolder(tmp_path / "run")
    options = ("--model", "vit_tiny_patch16_224", "--weights", weights)
    planned(run, pictures, *options, "--folds", 3, "--seeds", 2)
    succeed("train", run.root)
    files = list(run.features.rglob("*.npy"))
    assert sum(len(np.load(path)) for path in files) == 40
    assert len(list(run.root.glob("models/vit/seed*/fold*/model.safetensors"))) == 6


def test_a_mode_that_does_not_go_with_the_weights_is_refused(pictures, weights, tmp_path):
    run = RunFolder(tmp_path / "run")
    succeed("inspect", pictures, "--out", run.root)

    def refused(*options):
        done = invoke("plan", run.root, *options)
        assert done.exit_code == 2
        return " ".join(done.stderr.split())

    assert "--mode head: without weights" in refused("--mode", "head")
    named = ("--model", "vit_tiny_patch16_224", "--weights", weights)
    assert "from scratch starts without weights" in refused("--mode", "scratch", *named)


def test_weights_of_another_architecture_and_pickles_are_refused_by_what_they_hold(
    pictures, weights, tmp_path
):
    run = RunFolder(tmp_path / "run")
    succeed("inspect", pictures, "--out", run.root)

    def refused(path):
        done = invoke("plan", run.root, "--model", "resnet10t", "--weights", path)
        assert done.exit_code == 2
        return " ".join(done.stderr.split())

    assert "it lacks conv1.0.weight" in refused(weights)
    assert "must be of the model's own architecture" in refused(weights)
    pickled = tmp_path / "model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, pickled)
    assert "could execute code, which vitrail never does" in refused(pickled)
