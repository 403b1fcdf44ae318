"""Learning before labels: which pictures serve, and how it stands in a run."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from vitrail.data.cohort import list_pictures
from vitrail.data.loader import PictureDataset
from vitrail.data.raster import read_raster
from vitrail.data.scan import content_hash
from vitrail.data.stacks import dataset_of
from vitrail.errors import UnreadableFileError
from vitrail.pipeline.choices import Plan
from vitrail.records import Case, Progress, no_progress
from vitrail.training.masked import pretrain
from vitrail.training.settings import FitSettings

_log = logging.getLogger("vitrail")
_NO_LABEL = "unlabeled"
FOLDER = "pretraining"
"""Beside a model's other files: the log and the checkpoints of what came before."""


def count_pictures(folder: Path | None) -> int:
    """Count the pictures of ``--unlabeled``.

    Raises:
        DataError: If the folder is missing.
    """
    return 0 if folder is None else len(list_pictures(folder))


def pretrain_first(
    model: nn.Module,
    train: PictureDataset,
    *,
    plan: Plan,
    settings: FitSettings,
    held_out: Sequence[Case],
    folder: Path,
    progress: Progress = no_progress,
) -> tuple[str, ...]:
    """Pretrain a model as the plan says, on pictures that it will not be judged by.

    Args:
        model: Is trained in place.
        train: The training cases.
        plan: Says how long, and which further pictures serve.
        settings: Of the training that follows; the machine's part of them is kept.
        held_out: Cases that must not be seen, with or without labels.
        folder: The model's.
        progress: Told after each step.

    Returns:
        What belongs beside the model's numbers: that it had less time than planned.
    """
    cases = [replace(case, label=_NO_LABEL) for case in train.cases]
    if plan.unlabeled.value:
        cases += unlabeled_cases(Path(plan.unlabeled.value), train=train, held_out=held_out)
    pictures = dataset_of(train.preprocessing)(
        cases,
        train.root,
        preprocessing=train.preprocessing,
        classes=[_NO_LABEL],
        augment=train.augment,
        seed=train.seed,
    )
    pretrained = pretrain(
        model,
        pictures,
        settings=replace(
            settings,
            epochs=plan.pretrain_epochs.value,
            learning_rate=plan.pretrain_learning_rate.value,
            balance="none",
            layer_decay=None,
            most_minutes=plan.pretrain_most_minutes.value,
            multi_label=False,
        ),
        folder=folder / FOLDER,
        mask_ratio=plan.mask_ratio.value,
        progress=progress,
    )
    return pretrained.warnings


def unlabeled_cases(folder: Path, *, train: PictureDataset, held_out: Sequence[Case]) -> list[Case]:
    """Take the pictures of a folder that can be read and that no held-out case shows.

    Args:
        folder: Of pictures, in any order.
        train: Says how they are read.
        held_out: Cases of validation and test: a file with one's content is left out.
    """
    secret = {content_hash(train.root / case.path) for case in held_out}
    taken, unreadable, shown = [], 0, 0
    for name in list_pictures(folder):
        path = folder.resolve() / name
        if content_hash(path) in secret:
            shown += 1
            continue
        try:
            read_raster(path, channels=train.preprocessing.channels)
        except UnreadableFileError:
            unreadable += 1
            continue
        # An absolute path stays itself below any root.
        taken.append(Case(case_id=f"{_NO_LABEL}/{name}", path=str(path), label=_NO_LABEL))
    _log.info(
        "%s: %d pictures without labels; left out are %d that cannot be read and %d that "
        "validation or test cases show",
        folder,
        len(taken),
        unreadable,
        shown,
    )
    return taken
