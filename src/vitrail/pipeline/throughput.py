"""How many pictures a second the models of several runs label, measured side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from vitrail.data.cohort import load_cohort
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import read_plan
from vitrail.pipeline.train import dataset, trainings
from vitrail.records import Progress, no_progress
from vitrail.runfolder import RunFolder
from vitrail.training.predict import device_of, predict

BATCH_SIZE, PICTURES, ROUNDS = 16, 64, 5


@dataclass(frozen=True, slots=True, eq=False)
class _Timed:
    """A model, and the test pictures that it labels."""

    model: nn.Module
    pictures: Dataset[Any]
    count: int

    def pictures_per_s(self) -> float:
        """Label them all, from the kept pictures to probabilities."""
        started = perf_counter()
        predict(self.model, self.pictures, batch_size=BATCH_SIZE)
        return self.count / (perf_counter() - started)


def throughput(
    runs: Mapping[str, RunFolder], *, progress: Progress = no_progress
) -> dict[str, Any]:
    """Time the models of several runs on test pictures, in one process, in turn.

    Each labels the first test pictures as `vitrail predict` does, batch by batch, once unmeasured
    and then as often as ``ROUNDS`` says. The rounds take turns, so that a machine that slows down
    slows all of them.

    Args:
        runs: Trained runs by their names; of each the first training of its model is timed.
        progress: Told after each pass.

    Returns:
        ``batch_size``, ``pictures``, ``rounds``, ``device``, ``threads``, and ``models``: run →
        ``pictures_per_s`` (the median of the rounds), ``low`` and ``high`` (the slowest and the
        fastest).

    Raises:
        RunFolderError: If a run was not trained.
    """
    timed = {name: _timed(run) for name, run in runs.items()}
    rounds: dict[str, list[float]] = {name: [] for name in runs}
    total = (ROUNDS + 1) * len(timed)
    for number in range(ROUNDS + 1):
        for place, (name, one) in enumerate(timed.items(), start=1):
            rate = one.pictures_per_s()
            if number:
                rounds[name].append(rate)
            progress("throughput", done=number * len(timed) + place, total=total, note=name)
    first = next(iter(timed.values()))
    return {
        "batch_size": BATCH_SIZE,
        "pictures": first.count,
        "rounds": ROUNDS,
        "device": str(device_of(first.model)),
        "threads": torch.get_num_threads(),
        "models": {
            name: {"pictures_per_s": median(rates), "low": min(rates), "high": max(rates)}
            for name, rates in rounds.items()
        },
    }


def _timed(run: RunFolder) -> _Timed:
    """Take the first training of a run's own model, and its first test pictures."""
    plan = read_plan(run.require(run.plan, "plan"))
    cohort = load_cohort(run.cohort)
    training = next(trainings(run, plan, classes=len(cohort.classes)))
    run.require(training.folder / bundle.DESCRIPTION, "train")
    split = crossvalidation.read(run, cohort, plan=plan).each[training.fold]
    tested = dataset(cohort, split, plan=plan, part="test", cache=run.cache)
    count = min(PICTURES, len(tested))
    model = bundle.load(training.folder).model
    return _Timed(model, Subset(tested, range(count)), count)


def sentences(measured: Mapping[str, Any]) -> list[str]:
    """Say how fast each model is."""
    where = f"{measured['device']}, {measured['threads']} threads, batches of "
    where += str(measured["batch_size"])
    return [
        f"{name}: {one['pictures_per_s']:.1f} pictures a second ({one['low']:.1f} to "
        f"{one['high']:.1f} in {measured['rounds']} rounds; {where})"
        for name, one in measured["models"].items()
    ]
