"""From pictures to a report with the ways of training that a plan can ask for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from vitrail.runfolder import RunFolder, read_csv

pytestmark = pytest.mark.journey

TINY = (
    "image_size=[32, 32]",
    "epochs=1",
    "baseline_epochs=1",
    "pretrain_epochs=1",
    "baseline=resnet10t",
    "baseline_parameters={channels: [8, 8, 8, 8], stem_width: 8}",
)
SMALL = "model_parameters={patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2, conv_stem: true}"


@pytest.fixture
def run(succeed):
    """Return a function that runs from pictures to the report, with some choices."""

    def finished(*arguments, wishes=TINY):
        return succeed("run", *arguments, *(part for wish in wishes for part in ("--set", wish)))

    return finished


def test_a_model_that_first_fills_in_hidden_patches_is_trained_as_any(tmp_path, draw, run):
    pictures = draw(tmp_path / "tiles", cases=30)
    further = draw(tmp_path / "further", cases=8, labels=["any"])
    out = tmp_path / "run"
    asked = (pictures, "--out", out, "--pretrain", "mae", "--unlabeled", further)
    run(*asked, wishes=(*TINY, SMALL))
    folder = RunFolder(out)
    assert folder.report.exists()
    model = folder.model("vit", seed=0)
    assert len((model / "pretraining" / "log.jsonl").read_text().splitlines()) == 1
    assert not (folder.model("cnn", seed=0) / "pretraining").exists()
    again = run(*asked, wishes=(*TINY, SMALL))
    assert again["stages"]["train"]["skipped"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write an untrained backbone as a file of weights."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=7)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(model.state_dict(), path)
    return path


def from_weights(weights):
    named = ("--model", "vit_tiny_patch16_224", "--weights", weights)
    return named, ("model_parameters={depth: 2}", "image_size=[48, 48]")


def test_low_rank_products_are_merged_into_a_plain_model_that_is_measured_and_explained(
    tmp_path, weights, draw, run, succeed
):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    pictures = draw(tmp_path / "tiles", cases=30)
    named, wishes = from_weights(weights)
    out = tmp_path / "run"
    tiny = [wish for wish in TINY if not wish.startswith("image_size")]
    lora = ("lora_rank=2", "learning_rate=0.004")
    asked = (pictures, "--out", out, *named, "--mode", "finetune")
    run(*asked, wishes=(*tiny, *wishes, *lora))
    folder = RunFolder(out)
    kept = load_file(folder.model("vit") / "model.safetensors")
    start = load_file(weights)
    assert not [name for name in kept if "lora" in name or "base" in name]
    moved = kept["blocks.1.attn.qkv.weight"] - start["blocks.1.attn.qkv.weight"]
    assert int(torch.linalg.matrix_rank(moved, rtol=1e-3)) == 2
    assert torch.equal(kept["blocks.1.mlp.fc1.weight"], start["blocks.1.mlp.fc1.weight"])
    content = json.loads(folder.evaluation.read_text())
    assert content["sets"]["test"]["vit"]["roc_auc_score"]["n"] > 0
    assert list(folder.explanations.glob("*.npz"))
    table = {row["case_id"]: row for row in read_csv(folder.predictions) if row["model"] == "vit"}
    case, row = next((case, row) for case, row in table.items() if row["split"] == "test")
    picture = next(pictures.rglob(f"{case}.png"))
    (said,) = succeed("predict", out, picture, "--out", tmp_path / "new")["predictions"]
    assert said["probabilities"]["left"] == pytest.approx(float(row["prob_left"]), abs=1e-3)


def test_a_wish_that_is_not_the_plans_is_refused(tmp_path, draw, run, refused):
    pictures = draw(tmp_path / "tiles", cases=20)
    asked = (pictures, "--out", tmp_path / "run")
    run(*asked, wishes=(*TINY, SMALL))
    said = refused("run", *asked, "--set", "epochs=2")
    assert "it says epochs: 1, the command line says 2" in said


@pytest.mark.parametrize("mode", ["scratch", "head"])
def test_the_same_command_as_two_processes_makes_one_run(tmp_path, weights, draw, mode):
    pictures = draw(tmp_path / "tiles", cases=30)
    named, wishes = from_weights(weights) if mode == "head" else ((), (SMALL,))
    options = [part for wish in (*TINY, *wishes) for part in ("--set", wish)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launcher, "-m", "vitrail", "run", pictures, "--json"]
    done = subprocess.run(
        [*map(str, (*command, "--out", tmp_path / "run", "--budget", "5h", *named)), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]  # one object: one process speaks
    assert list(stages) == ["inspect", "plan", "train", "evaluate", "explain", "report"]
    folder = RunFolder(tmp_path / "run")
    assert folder.report.exists()
    if mode == "head":
        files = list(folder.features.rglob("*.npy"))
        assert sum(len(np.load(path)) for path in files) == 30
        log = (folder.model("vit") / "log.jsonl").read_text().splitlines()
        assert len(log) == len({json.loads(line)["penalty"] for line in log})
