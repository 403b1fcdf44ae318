"""From pictures to a report with the ways of training that a plan can ask for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.runfolder import RunFolder

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


def test_a_wish_that_is_not_the_plans_is_refused(tmp_path):
    pictures = draw(tmp_path / "tiles", ["left", "right"], cases=20)
    asked = (pictures, "--out", tmp_path / "run")
    run(*asked, wishes=(*TINY, SMALL))
    done = invoke("run", *asked, "--set", "epochs=2")
    assert done.exit_code == 2
    assert "it says epochs: 1, the command line says 2" in " ".join(done.stderr.split())


def test_the_same_command_as_two_processes_makes_one_run(tmp_path):
    pictures = draw(tmp_path / "tiles", ["left", "right"], cases=30)
    options = [part for wish in (*TINY, SMALL) for part in ("--set", wish)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "vitrail", "run", pictures, "--out", tmp_path / "run", "--json"]
    done = subprocess.run(
        [*map(str, command), "--budget", "5h", *options],
        env={**os.environ, "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]  # one object: one process speaks
    assert list(stages) == ["inspect", "plan", "train", "evaluate", "explain", "report"]
    assert RunFolder(tmp_path / "run").report.exists()
