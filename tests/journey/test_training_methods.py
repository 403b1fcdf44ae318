"""From pictures to a report with the ways of training that a plan can ask for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vitrail.cli import app
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


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--json"])


def run(*arguments, wishes=TINY):
    options = [part for wish in wishes for part in ("--set", wish)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitrail.pipeline.plan.seconds_a_step", lambda *_, **__: 0.01)
        done = invoke("run", *arguments, *options)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def draw(root, names, *, cases):
    generator = np.random.default_rng(0)
    for number in range(cases):
        pixels = generator.integers(0, 90, size=(32, 32), dtype=np.uint8)
        pixels[8:24, 4 + 16 * (number % len(names)) :][:, :8] = 200
        folder = root / names[number % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return root


def test_a_model_that_first_fills_in_hidden_patches_is_trained_as_any(tmp_path):
    pictures = draw(tmp_path / "tiles", ["left", "right"], cases=30)
    further = draw(tmp_path / "further", ["any"], cases=8)
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
    tmp_path, weights
):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    pictures = draw(tmp_path / "tiles", ["left", "right"], cases=30)
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
    done = invoke("predict", out, next(pictures.rglob(f"{case}.png")), "--out", tmp_path / "new")
    assert done.exit_code == 0, done.stderr
    (said,) = json.loads(done.stdout)["predictions"]
    assert said["probabilities"]["left"] == pytest.approx(float(row["prob_left"]), abs=1e-3)


def test_a_wish_that_is_not_the_plans_is_refused(tmp_path):
    pictures = draw(tmp_path / "tiles", ["left", "right"], cases=20)
    asked = (pictures, "--out", tmp_path / "run")
    run(*asked, wishes=(*TINY, SMALL))
    done = invoke("run", *asked, "--set", "epochs=2")
    assert done.exit_code == 2
    assert "it says epochs: 1, the command line says 2" in " ".join(done.stderr.split())


@pytest.mark.parametrize("mode", ["scratch", "head"])
def test_the_same_command_as_two_processes_makes_one_run(tmp_path, weights, mode):
    pictures = draw(tmp_path / "tiles", ["left", "right"], cases=30)
    named, wishes = from_weights(weights) if mode == "head" else ((), (SMALL,))
    options = [part for wish in (*TINY, *wishes) for part in ("--set", wish)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "vitrail", "run", pictures, "--out", tmp_path / "run", "--json"]
    done = subprocess.run(
        [*map(str, command), "--budget", "5h", *map(str, named), *options],
        env={**os.environ, "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"},
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
