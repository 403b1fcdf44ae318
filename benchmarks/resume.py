"""Kill -9 at random points: are the final weights those of an uninterrupted training, bit for bit?

    python benchmarks/resume.py --kills 200

A small transformer with dropout, mixing, a moving average and a checkpoint every second step is
trained once to the end, then again and again with kills in between. Prints one table.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from vitrail.models.zoo import ModelSpec, build
from vitrail.training.fit import FitSettings, fit

PARAMETERS = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "drop_rate": 0.1}
SPEC = ModelSpec(
    architecture="vit", num_classes=2, img_size=(16, 16), in_chans=1, parameters=PARAMETERS
)
SETTINGS = FitSettings(
    epochs=6, batch_size=8, checkpoint_steps=2, ema_decay=0.9, mixup=0.2, num_workers=0
)


def train(folder):
    """Train to the end, or go on; keep the weights."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 16, 16, generator=generator)
    data = TensorDataset(images, torch.arange(64) % 2)
    model = build(SPEC)
    fit(model, data, data, SETTINGS, folder=folder)
    torch.save(model.state_dict(), folder / "unfinished")
    (folder / "unfinished").rename(folder / "end.pt")


def forked(folder, seconds):
    """Train in a child and kill it after some seconds, unless it ends before; was it killed?"""
    child = os.fork()
    if not child:
        train(folder)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        whole.mkdir()
        start = time.perf_counter()
        forked(whole, None)
        seconds = time.perf_counter() - start
        kills = ends = 0
        while kills < asked.kills:
            folder = Path(root) / f"cut{ends}"
            folder.mkdir(exist_ok=True)
            kills += forked(folder, draw.uniform(0, seconds / 2))
            ends += (folder / "end.pt").exists()
        folder = Path(root) / f"cut{ends}"
        folder.mkdir(exist_ok=True)
        forked(folder, None)
        expected = torch.load(whole / "end.pt", weights_only=True)
        same = [
            all(torch.equal(value, found[name]) for name, value in expected.items())
            for found in (
                torch.load(path, weights_only=True)
                for path in sorted(Path(root).glob("cut*/end.pt"))
            )
        ]
    print(f"{'kills':>8} {'trainings':>10} {'bit-identical':>14} {'seconds whole':>14}")
    print(f"{kills:>8} {len(same):>10} {sum(same):>14} {seconds:>14.1f}")
    if not all(same):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
