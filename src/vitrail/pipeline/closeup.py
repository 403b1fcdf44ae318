"""A close look at single cases: what the viewer needs beyond one map a case.

``explanations/attention/<case>.npz`` holds, for chosen cases:

============== ======================== =========================================================
``attention``  layer head row column    of the read-out row, float16
``matrices``   layer head query key     whole attention in 255 steps of ``scales`` of its row
``scales``     layer head query         largest attention of the row: value = step * scale / 255
``importance`` layer head               how much the decision hangs on the head
``lens``       layer class              probabilities if the model stopped after the layer
``values``     class row column         a class-specific map of every class, raw
============== ======================== =========================================================

and the numbers ``prefix`` and ``method``. What a model cannot give is not there.
"""

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitrail.data.loader import PictureDataset
from vitrail.data.stacks import VolumeDataset
from vitrail.errors import MethodError, VitrailError
from vitrail.evaluation.table import read_predictions
from vitrail.explain import (
    anatomy,
    attention_maps,
    attention_matrices,
    explain,
    head_importance,
    logit_lens,
)
from vitrail.models import bundle
from vitrail.pipeline.pictures import keep
from vitrail.pipeline.scans import keep_montage
from vitrail.records import Cohort, Predictions
from vitrail.runfolder import RunFolder, file_name, read_json, write_bytes, write_json

MATRIX_BYTES = 48 << 20
"""Attention matrices of a run, before compression; later cases keep their read-out rows alone."""

CLASS_METHOD = "relevance"
"""The class-specific method by which two classes of one case are compared."""

MOST_CLASSES = 10
"""Classes up to which a case gets a map of each."""

ROUNDS = 3
"""Cases of each class and outcome that are looked at closely."""

MOST_TRAINING = 2000
"""Training cases among which similar ones are looked for; of more, every second, third, …"""

NEIGHBORS = 3
SIMILAR = "similar.json"

_LOG = logging.getLogger("vitrail")


def close_up(
    model: nn.Module, image: Tensor, *, several: bool = False, whole: bool = True
) -> dict[str, np.ndarray]:
    """Look at one case closely.

    Args:
        model: The run's, in eval mode.
        image: Its input, a batch of one.
        several: Whether a case can have several labels, each with a probability of its own.
        whole: Whether to keep the whole matrices.

    Returns:
        The arrays of the table above, those that the model can give.
    """
    found = {
        "attention": attention_maps(model, image)[:, 0].half().cpu().numpy(),
        "prefix": np.asarray(anatomy(model, image).num_prefix_tokens),
    }
    if whole:
        found["matrices"], found["scales"] = quantized(attention_matrices(model, image))
    try:
        found["importance"] = head_importance(model, image, target="predicted")[:, 0].numpy()
        lens = logit_lens(model, image)
        logits = lens.logits[:, 0].double()
        found["lens"] = (logits.sigmoid() if several else logits.softmax(dim=-1)).float().numpy()
        if lens.logits.shape[-1] <= MOST_CLASSES:
            maps = explain(model, image, method=CLASS_METHOD, target="all")
            found["values"] = maps.values[:, 0].float().numpy()
            found["method"] = np.asarray(CLASS_METHOD)
    except VitrailError as error:
        _LOG.info("a view of the layers is left out: %s", error)
    return found


def quantized(
    attention: Float[Tensor, "layer head query key"],
) -> tuple[UInt8[np.ndarray, "layer head query key"], Float[np.ndarray, "layer head query"]]:
    """Store each row of attention in 255 steps of its own largest value.

    Returns:
        Steps and scales; ``steps * scales / 255`` is off by at most ``scales / 510``.

    Example:
        >>> steps, scales = quantized(torch.tensor([[[[0.75, 0.25]]]]))
        >>> steps.tolist(), scales.tolist()
        ([[[[255, 85]]]], [[[0.75]]])
    """
    scales = attention.amax(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    steps = (attention / scales[..., None] * 255).round()
    return steps.to(torch.uint8).numpy(), scales.float().numpy()


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Compress arrays into the bytes of an ``.npz``."""
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def choose(said: Predictions, *, rounds: int = ROUNDS) -> list[str]:
    """Choose cases to look at closely: the surest right and the surest wrong of each class.

    Args:
        said: What the model said of the test cases.
        rounds: How often each class and outcome has its turn.
    """
    decision = said.probabilities.argmax(axis=1)
    certainty = said.probabilities.max(axis=1)
    order = np.argsort(-certainty, kind="stable")
    chosen: list[str] = []
    several = said.y_true.ndim == 2
    for turn in range(rounds):
        for label in range(len(said.classes)):
            has = said.y_true[:, label] if several else said.y_true == label
            mine = [row for row in order if has[row]]
            right = [row for row in mine if decision[row] == label]
            wrong = [row for row in mine if decision[row] != label]
            chosen += [said.case_ids[row] for row in (*right[turn:][:1], *wrong[turn:][:1])]
    return list(dict.fromkeys(chosen))


def features(
    model: nn.Module, cases: PictureDataset, *, indices: Sequence[int], batch: int = 16
) -> Float[np.ndarray, "case dim"]:
    """Return what the head reads of some cases, in rows of length one.

    Raises:
        MethodError: If the model's head cannot be told.
    """
    rows = []
    for start in range(0, len(indices), batch):
        images = torch.stack([cases[index][0] for index in indices[start : start + batch]])
        rows.append(logit_lens(model, images).features.float().numpy())
    found = np.concatenate(rows)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def nearest(
    query: Float[np.ndarray, "case dim"], known: Float[np.ndarray, "other dim"], *, count: int
) -> list[list[tuple[int, float]]]:
    """Find the nearest known rows of each queried one, by cosine distance.

    Example:
        >>> nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]]), count=1)
        [[(1, 0.0)]]
    """
    distances = 1.0 - query @ known.T
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return [
        [(int(place), max(0.0, float(row[place]))) for place in places]
        for row, places in zip(distances, order, strict=True)
    ]


def look_closer(
    run: RunFolder,
    cohort: Cohort,
    *,
    cases: PictureDataset,
    training: PictureDataset,
    folder: Path,
) -> list[str]:
    """Write close looks at chosen cases, and the training cases that each case is most like.

    Args:
        run: Its predictions are there.
        cohort: Holds the pictures.
        cases: The cases that one model explains.
        training: What the same model was trained on, without augmentation.
        folder: The model's.

    Returns:
        Sentences on what was written.
    """
    model = bundle.load(folder).model
    said = [_close_ups(run, cases, model=model), _similar(run, cases, training, model=model)]
    _keep_neighbors(run, cohort, training)
    return said


def _close_ups(run: RunFolder, cases: PictureDataset, *, model: nn.Module) -> str:
    """Write close looks; the whole matrices are kept while they fit."""
    spoken = [
        said
        for said in read_predictions(run.predictions)
        if said.model == "vit" and said.split == "test"
    ]
    place = {case.case_id: index for index, case in enumerate(cases.cases)}
    chosen = [case_id for case_id in choose(spoken[0]) if case_id in place]
    room, whole = MATRIX_BYTES, 0
    for case_id in chosen:
        image = cases[place[case_id]][0][None]
        found = close_up(model, image, several=cases.multi_label, whole=room > 0)
        size = found["matrices"].nbytes if "matrices" in found else 0
        room -= size
        whole += size > 0
        write_bytes(run.explanations / "attention" / f"{file_name(case_id)}.npz", packed(found))
    return f"attention of each layer and head for {len(chosen)} cases, of each patch for {whole}"


def _similar(
    run: RunFolder, cases: PictureDataset, training: PictureDataset, *, model: nn.Module
) -> str:
    """Write the training cases that are most like each case to the model."""
    step = max(1, -(-len(training) // MOST_TRAINING))
    chosen = range(0, len(training), step)
    try:
        known = features(model, training, indices=chosen)
        found = nearest(features(model, cases, indices=range(len(cases))), known, count=NEIGHBORS)
    except MethodError as error:
        return f"no similar training cases: {error.came}"
    near = {
        case.case_id: [
            {"case_id": training.cases[chosen[other]].case_id, "distance": round(distance, 4)}
            for other, distance in row
        ]
        for case, row in zip(cases.cases, found, strict=True)
    }
    among = f"{len(chosen)} of {len(training)} training cases"
    write_json(run.explanations / SIMILAR, {"among": among, "cases": near})
    return f"similar training cases among {among}"


def _keep_neighbors(run: RunFolder, cohort: Cohort, training: PictureDataset) -> None:
    """Keep the pictures of the training cases that some case is like."""
    path = run.explanations / SIMILAR
    if not path.exists():
        return
    content = cast("Mapping[str, Any]", read_json(path))
    near = {one["case_id"] for row in content["cases"].values() for one in row}
    for index, case in enumerate(training.cases):
        if case.case_id not in near:
            continue
        if isinstance(training, VolumeDataset):
            keep_montage(run, case.case_id, stack=training.stack(index))
        else:
            keep(run, cohort, cases=[case])
