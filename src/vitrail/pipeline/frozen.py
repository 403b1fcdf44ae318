"""Mode ``head``: the backbone runs once a picture, its features train a head, and one model comes.

Features of the whole cohort are kept in the run folder, so that folds, seeds and other heads ask
the backbone nothing again. They are made without labels, so nothing leaks from fold to fold.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitrail.data.loader import PictureDataset
from vitrail.models.heads import put_head
from vitrail.models.zoo import ModelSpec
from vitrail.pipeline.processes import leads, local_rank, meet, share
from vitrail.records import Progress, SplitName
from vitrail.runfolder import write_text
from vitrail.training.features import extract
from vitrail.training.fit import FitResult, FitSettings
from vitrail.training.heads import Features, Kind, train_head


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frozen:
    """What a head is trained on.

    Attributes:
        pictures: All cases as they are.
        augmented: The cases that some fold trains on, augmented.
        views: Of each training picture: the first as it is, the others augmented.
        head: Which head is trained.
        folder: Of the cache of features.
    """

    pictures: PictureDataset
    augmented: PictureDataset
    views: int
    head: Kind
    folder: Path


def train_frozen(
    frozen: Frozen,
    model: nn.Module,
    *,
    spec: ModelSpec,
    split: Mapping[str, SplitName],
    settings: FitSettings,
    folder: Path,
    progress: Progress,
) -> tuple[ModelSpec, FitResult]:
    """Train a head on the features of one fold and put it on the model.

    Args:
        frozen: The pictures, the head, the cache.
        model: The backbone; its classifier is replaced, it ends in eval mode on the CPU.
        spec: What it was built from.
        split: The fold.
        settings: Of the head's training; what mixes or knows pictures and layers is left out.
        folder: Takes ``log.jsonl``.
        progress: Told of the features and of the head.

    Returns:
        What the whole model is now built from, and the history.
    """
    model.to(f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu")
    trained = train_head(
        frozen.head,
        _features(frozen, model, _of(split, "train"), progress),
        validation=_features(replace(frozen, views=1), model, _of(split, "validation"), progress),
        num_classes=spec.num_classes,
        settings=replace(settings, mixup=0.0, cutmix=0.0, layer_decay=None),
        folder=folder,
        progress=progress,
    )
    put_head(model.cpu(), trained.head)
    model.eval()
    lines = [json.dumps(row, allow_nan=False) + "\n" for row in trained.history]
    if leads():
        write_text(folder / "log.jsonl", "".join(lines))
    head = {"head": dict(trained.description)} if trained.description else {}
    return replace(spec, parameters={**spec.parameters, **head}), FitResult(
        best_epoch=trained.best,
        metric=trained.metric,
        history=trained.history,
        seconds=trained.seconds,
        warnings=trained.warnings,
    )


def _of(split: Mapping[str, SplitName], part: SplitName) -> set[str]:
    return {case_id for case_id, own in split.items() if own == part}


def _features(frozen: Frozen, model: nn.Module, wanted: set[str], progress: Progress) -> Features:
    """Compute the features of all cases, or read them, and take those of some."""
    views = []
    for view in range(frozen.views):
        pictures = frozen.augmented if view else frozen.pictures
        pictures.set_epoch(view)
        values = extract(
            model, pictures, folder=frozen.folder, share=share(), meet=meet, progress=progress
        )
        rows = [row for row, case in enumerate(pictures.cases) if case.case_id in wanted]
        labels = np.array([pictures.labels[row] for row in rows], dtype=np.int64)
        views.append(values[rows])
    return Features(np.stack(views), labels, [frozen.pictures.cases[row] for row in rows])
