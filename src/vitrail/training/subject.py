"""What the loop asks of a model and its datasets: labels, names, balance, and whether they fit."""

import json
import logging
from collections.abc import Sequence, Sized
from dataclasses import asdict
from hashlib import sha256
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from vitrail.errors import InputError
from vitrail.training.order import class_counts, class_weights, smallest_pass
from vitrail.training.predict import device_of
from vitrail.training.settings import FitSettings

_log = logging.getLogger("vitrail")
_WEIGH_FROM, _SAMPLE_FROM = 1.5, 10.0
_INDIFFERENT = ("num_workers", "checkpoint_steps", "accumulation", "tracker", "most_minutes")


def size(dataset: Dataset[Any]) -> int:
    """Count the cases."""
    return len(cast("Sized", dataset))


def labels_of(dataset: Dataset[Any]) -> Int[np.ndarray, "case *label"]:
    """Return the labels: the dataset's own ``labels``, else read from every item."""
    labels = getattr(dataset, "labels", None)
    if labels is None:
        labels = [np.asarray(dataset[index][1]) for index in range(size(dataset))]
    return np.asarray(labels).astype(np.int64)


def names_of(dataset: Dataset[Any], indices: list[int]) -> list[str]:
    """Name cases by their ids, where the dataset has ``cases``, else by their places."""
    cases = getattr(dataset, "cases", None)
    return [str(index) if cases is None else cases[index].case_id for index in indices]


def clusters_of(dataset: Dataset[Any]) -> list[str]:
    """Name what each case comes from: its patient, else its group, else itself."""
    cases = getattr(dataset, "cases", None)
    if cases is None:
        return names_of(dataset, list(range(size(dataset))))
    return [
        f"patient {case.patient_id}"
        if case.patient_id
        else f"group {case.group}"
        if case.group
        else f"case {case.case_id}"
        for case in cases
    ]


def num_classes_of(model: nn.Module, train: Dataset[Any], *, settings: FitSettings) -> int:
    """Run one case through the model, and check that model, data and settings fit each other.

    Returns:
        The length of the logits.

    Raises:
        InputError: If they do not.
    """
    cases = size(train)
    least = smallest_pass(cases, settings.batch_size, passes=settings.accumulation) if cases else 0
    if cases < 2 or (least < 2 and _has_batch_norm(model)):
        raise InputError(
            "batch_size",
            f"{settings.batch_size} in {settings.accumulation} passes, of {cases} cases",
            "there must be two training cases, and two a pass for batch normalization",
            "choose a batch of three or more, fewer passes (accumulation), or more cases",
        )
    image = cast("Tensor", train[0][0])
    model.eval()
    with torch.inference_mode():
        logits = model(image[None].to(device_of(model)))
    labels = labels_of(train)
    needed = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    if settings.multi_label != (labels.ndim == 2) or logits.ndim != 2 or logits.shape[1] < needed:
        raise InputError(
            "model",
            f"logits of shape {list(logits.shape)} for labels of shape {list(labels.shape)}",
            "one row of logits a case, one logit a class; multi_label takes a row of labels a case",
            f"build the model with num_classes={needed}",
        )
    return int(logits.shape[1])


def _has_batch_norm(model: nn.Module) -> bool:
    """Tell whether the model normalizes over its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())  # noqa: SLF001, the only base of them all


def balance(
    train: Dataset[Any], settings: FitSettings, *, num_classes: int
) -> tuple[Float[np.ndarray, " case"] | None, Float[np.ndarray, " class"] | None]:
    """Decide how unequal classes are made to count alike, and log it.

    Returns:
        Weights to draw the cases by, and weights of the classes in the loss; None for none.
    """
    if settings.multi_label or settings.balance == "none":
        return None, None
    labels = labels_of(train)
    counts = class_counts(labels, num_classes)
    present = counts[counts > 0]
    ratio = present.max() / present.min()
    way: str = settings.balance
    if way == "auto":
        way = "none" if ratio < _WEIGH_FROM else "weights" if ratio < _SAMPLE_FROM else "sampling"
    if way == "none":
        return None, None
    weights = class_weights(labels, num_classes)
    _log.info(
        "the largest class has %.1f times the cases of the smallest: %s",
        ratio,
        f"the loss is weighed by {np.round(weights, 2).tolist()}"
        if way == "weights"
        else "cases are drawn so that classes come equally often",
    )
    return (None, weights) if way == "weights" else (weights[labels], None)


def fingerprint(
    model: nn.Module, datasets: Sequence[Dataset[Any]], *, settings: FitSettings
) -> str:
    """Hash everything that the final weights depend on: settings, cases, starting weights."""
    choices = {name: v for name, v in asdict(settings).items() if name not in _INDIFFERENT}
    digest = sha256(json.dumps(choices, sort_keys=True).encode())
    for dataset in datasets:
        digest.update("\0".join(names_of(dataset, list(range(size(dataset))))).encode())
        digest.update(labels_of(dataset).tobytes())
    for name, value in model.state_dict().items():
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
