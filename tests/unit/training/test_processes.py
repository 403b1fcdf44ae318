"""Several processes are one training: the same loss, each validation case once, one writer."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from pathlib import Path
import torch
from torch.distributed import init_process_group
from torch.utils.data import TensorDataset
from vitrail.models.zoo import ModelSpec, build
from vitrail.training.fit import FitSettings, fit

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
images = torch.randn(43, 1, 16, 16, generator=generator)
labels = torch.arange(43) % 2
images[labels == 1, :, 4:8, 8:12] += 2
train = TensorDataset(images[:30], labels[:30])
validation = TensorDataset(images[30:], labels[30:])  # 13 cases: an odd number for two processes
parameters = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
spec = ModelSpec(
    architecture="vit", num_classes=2, img_size=(16, 16), in_chans=1, parameters=parameters
)
settings = FitSettings(  # batches of 8 and 7: one process may have a case more than the other
    epochs=2, batch_size=9, accumulation=3, ema_decay=0.9, learning_rate=1e-3, **CHANGES
)
folder = Path(sys.argv[1])
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
meeting = f"file://{folder.resolve() / 'meeting'}"  # a port that is free now may be taken then
init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
model = build(spec)
fit(model, train, validation, settings, folder=folder)
torch.save(model.state_dict(), folder / f"end{rank}.pt")
"""


def launch(script, *arguments, processes):
    """Run a script as torchrun would, as several processes."""
    count = str(processes)
    place = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    errors = [one.communicate(timeout=600)[1] for one in running]
    assert [one.returncode for one in running] == [0] * processes, "\n".join(errors)


@pytest.mark.parametrize("changes", [{"balance": "sampling"}])
def test_two_processes_agree_with_one_and_one_of_them_writes(tmp_path, changes):
    script = SCRIPT.replace("**CHANGES", f"**{changes}")
    logs, ends = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launch(script, folder, processes=processes)
        logs.append([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])
        ends.append(sorted(path.name for path in folder.glob("end*")))
        assert len(list((folder / "checkpoints").iterdir())) == 2
    assert ends == [["end0.pt"], ["end0.pt", "end1.pt"]]
    for one, two in zip(*logs, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], abs=1e-5)
        assert one["validation_loss"] == pytest.approx(two["validation_loss"], abs=1e-5)
        assert one["roc_auc_score"] == two["roc_auc_score"]
