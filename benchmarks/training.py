"""Training, measured side by side in one run: ``python benchmarks/training.py``.

Two questions:

- *head*: a head on frozen features that are computed once, against loops that run the frozen
  backbone in each of 20 epochs: a plain one, timm's and Transformers'.
- *step*: pictures a second of vitrail's loop, of timm's training script and of Transformers'
  Trainer, on the same model, pictures, batch, optimizer and precision; the share of time in which
  vitrail's loop waits for pictures; the peak memory of each in a process of its own.

timm's ``train.py`` is in its repository, not in its wheel: its step (``train_one_epoch``, its
documented defaults, AdamW for all three) is re-stated here. Candidates run in turn, round after
round, so that other work on the machine disturbs all alike; the processor time, which other
programs hardly touch, is the one to read on a busy machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from vitrail.data.loader import PictureDataset
from vitrail.models.heads import classifier, features_seen
from vitrail.records import Case, Preprocessing
from vitrail.training.features import extract
from vitrail.training.fit import FitSettings, fit
from vitrail.training.heads import Features, train_head

EPOCHS = 20
LEARNING_RATE = 1e-4
Clock = Callable[[], None]


class Stamps:
    """Wall and processor time after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def __call__(self, *_: object, **__: object) -> None:
        """Look at both clocks."""
        self.seen.append((time.perf_counter(), time.process_time()))

    def seconds_a_step(self) -> tuple[float, float]:
        """Return the median wall and processor seconds of the steps after the first."""
        gaps = np.diff(np.array(self.seen), axis=0)
        wall, processor = np.median(gaps, axis=0)
        return float(wall), float(processor)


def pictures(folder: Path, cases: int, size: int) -> PictureDataset:
    """Write noise as PNG files and return them as a dataset of two classes."""
    generator = np.random.default_rng(0)
    for number in range(cases):
        pixels = generator.integers(0, 255, size=(size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return PictureDataset(
        [
            Case(case_id=str(number), path=f"{number}.png", label="ab"[number % 2])
            for number in range(cases)
        ],
        folder,
        preprocessing=Preprocessing(
            image_size=(size, size), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3
        ),
        classes=("a", "b"),
    )


def model_of(name: str, size: int, *, frozen: bool = False) -> nn.Module:
    """Build the model, the same for every candidate; frozen, its head alone is trained."""
    torch.manual_seed(0)
    sized = {"img_size": size} if "vit" in name else {}
    model = timm.create_model(name, num_classes=2, **sized)
    if frozen:
        model.requires_grad_(requires_grad=False)
        model.get_classifier().requires_grad_(requires_grad=True)
    return model


def run_vitrail(model: nn.Module, data: PictureDataset, batch: int, clock: Clock) -> float:
    """Train one epoch by vitrail's loop; return the share of time that it waited for pictures."""
    settings = FitSettings(epochs=1, batch_size=batch, learning_rate=LEARNING_RATE, balance="none")
    few = PictureDataset(
        data.cases[:2], data.root, preprocessing=data.preprocessing, classes=data.classes
    )
    with tempfile.TemporaryDirectory() as folder:
        result = fit(model, data, few, settings, folder=Path(folder), progress=clock)
    return float(result.history[0]["waiting_share"])


def run_timm(
    model: nn.Module, data: PictureDataset, batch: int, clock: Clock, *, epochs: int = 1
) -> float:
    """Train as timm's ``train_one_epoch`` does."""
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=LEARNING_RATE, weight_decay=0.05)
    scheduler = CosineLRScheduler(optimizer, t_initial=epochs * len(loader), t_in_epochs=False)
    loss_fn = LabelSmoothingCrossEntropy(smoothing=0.1)
    model.train()
    batches = (one for _ in range(epochs) for one in loader)
    for update, (images, labels, _) in enumerate(batches, start=1):
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step_update(num_updates=update)
        clock()
    return float("nan")


class _WithLoss(nn.Module):
    """The form in which Trainer wants a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(pixel_values)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def run_trainer(
    model: nn.Module, data: PictureDataset, batch: int, clock: Clock, *, epochs: int = 1
) -> float:
    """Train by Transformers' Trainer with its defaults."""

    class Told(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock()

    def collate(items: list[tuple[Tensor, int, int]]) -> dict[str, Tensor]:
        return {
            "pixel_values": torch.stack([item[0] for item in items]),
            "labels": torch.tensor([item[1] for item in items]),
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=batch,
            learning_rate=LEARNING_RATE,
            weight_decay=0.05,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        Trainer(
            _WithLoss(model),
            arguments,
            train_dataset=data,
            data_collator=collate,
            callbacks=[Told()],
        ).train()
    return float("nan")


CANDIDATES = {"vitrail": run_vitrail, "timm": run_timm, "Trainer": run_trainer}


def peak_mb() -> float:
    """Return this process's largest resident size."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def race(name: str, args: argparse.Namespace, data: PictureDataset) -> None:
    """Print a table of one model: pictures a second, ratios, waiting, memory."""
    seen: dict[str, list[tuple[float, float]]] = {one: [] for one in CANDIDATES}
    waiting = []
    for _ in range(args.rounds):
        for one, work in CANDIDATES.items():
            stamps = Stamps()
            share = work(model_of(name, args.size), data, args.batch, stamps)
            seen[one].append(stamps.seconds_a_step())
            waiting += [share] if one == "vitrail" else []
    print(f"\n{name}, {args.size} px, batch {args.batch}, {torch.get_num_threads()} threads, fp32")
    print(
        "| loop | pictures/s, wall | pictures/s, processor | vitrail / it, wall | vitrail / it, "
        "processor | peak MB |\n|---|---|---|---|---|---|"
    )
    ours = np.median(seen["vitrail"], axis=0)
    for one, times in seen.items():
        step = np.median(times, axis=0)
        memory = child(name, one, args)
        print(
            f"| {one} | {args.batch / step[0]:.1f} | {args.batch / step[1]:.1f} | "
            f"{step[0] / ours[0]:.2f} | {step[1] / ours[1]:.2f} | {memory:.0f} |"
        )
    print(f"vitrail waits for pictures {statistics.median(waiting):.1%} of the time")


def child(name: str, one: str, args: argparse.Namespace) -> float:
    """Return the peak memory of one candidate in a process of its own."""
    command = [sys.executable, __file__, "--only", f"{name}:{one}", "--size", str(args.size)]
    command += ["--batch", str(args.batch), "--threads", str(args.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def loop_each_epoch(model: nn.Module, data: PictureDataset, batch: int) -> None:
    """Train a linear layer while the frozen backbone runs over every picture in every epoch."""
    head = nn.Linear(classifier(model)[1].in_features, 2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    model.eval()
    with features_seen(model) as seen:
        for _ in range(EPOCHS):
            for images, labels, _ in DataLoader(data, batch_size=batch, shuffle=True):
                with torch.inference_mode():
                    model(images)
                loss = cross_entropy(head(seen.pop().clone()), labels)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()


def _nothing() -> None:
    """Look at no clock."""


FROZEN = {
    "plain loop": loop_each_epoch,
    "timm": lambda *how: run_timm(*how, _nothing, epochs=EPOCHS),
    "Trainer": lambda *how: run_trainer(*how, _nothing, epochs=EPOCHS),
}


def heads(name: str, args: argparse.Namespace, data: PictureDataset) -> None:
    """Print how much longer loops take that run the backbone, than heads on cached features."""
    print(f"\n{name}, {args.size} px, {len(data)} pictures, {torch.get_num_threads()} threads")
    print(f"| {EPOCHS} epochs with a frozen backbone | s, wall | s, processor |\n|---|---|---|")
    loops = {}
    for one, work in FROZEN.items():
        model = model_of(name, args.size, frozen=True)
        started = time.perf_counter(), time.process_time()
        work(model, data, args.batch)
        loops[one] = time.perf_counter() - started[0], time.process_time() - started[1]
        print(f"| {one} | {loops[one][0]:.1f} | {loops[one][1]:.1f} |")
    print(
        f"\n| head | features + head, s | {' | '.join(f'{one} / it' for one in loops)} | "
        f"again (features kept), s |\n|---|---|{'---|' * len(loops)}---|"
    )
    model = model_of(name, args.size)
    labels = np.array(data.labels)
    half = np.arange(len(data)) % 4 < 3
    for kind in ("linear", "mlp", "knn"):
        with tempfile.TemporaryDirectory() as folder:
            times = []
            for again in range(2):
                started = time.perf_counter(), time.process_time()
                values = extract(model, data, folder=Path(folder), batch_size=args.batch)[None]
                train_head(
                    kind,
                    Features(values[:, half], labels[half]),
                    validation=Features(values[:, ~half], labels[~half]),
                    num_classes=2,
                    settings=FitSettings(epochs=EPOCHS, batch_size=args.batch, balance="none"),
                    folder=Path(folder) / f"fit{again}",
                )
                times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        (wall, processor), again = times[0], times[1][0]
        ratios = " | ".join(
            f"{one[0] / wall:.1f} ({one[1] / processor:.1f})" for one in loops.values()
        )
        print(f"| {kind} | {wall:.1f} | {ratios} | {again:.2f} |")
    print("ratios by the clock; in brackets those of processor time")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="vit_tiny_patch16_224,resnet18")
    parser.add_argument("--part", choices=("head", "step", "all"), default="all")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=200, help="pictures of the heads' part")
    parser.add_argument("--steps", type=int, default=9, help="steps of each loop in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="MODEL:LOOP, for the memory of one alone")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        if args.only:
            name, one = args.only.split(":")
            data = pictures(Path(folder), 5 * args.batch, args.size)
            CANDIDATES[one](model_of(name, args.size), data, args.batch, Stamps())
            print(json.dumps({"peak_mb": peak_mb()}))
            return
        for name in args.models.split(","):
            where = Path(folder) / name
            where.mkdir()
            if args.part != "step":
                heads(name, args, pictures(where, args.cases, args.size))
            if args.part != "head":
                race(name, args, pictures(where, args.steps * args.batch, args.size))


if __name__ == "__main__":
    main()
