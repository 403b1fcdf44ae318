"""The file that MedMNIST's own Evaluator reads, so that results compare directly."""

import re
from pathlib import Path

import numpy as np

from vitrail.errors import InputError
from vitrail.metrics.classification import macro_average, one_hot, roc_auc_score
from vitrail.records import Predictions
from vitrail.runfolder import write_text

_FLAG = re.compile(r"[a-z0-9]+mnist[a-z0-9]*(_\d+)?")


def write_medmnist(folder: Path, predictions: Predictions, *, flag: str) -> Path:
    """Write one model's answers to a MedMNIST test set.

    No header; a row is the case's place in the set, then one probability a class. The places are
    the last numbers in the case ids, the classes are named by their labels: ``0``, ``1``, …

    Args:
        folder: Where the file goes; its name holds the Evaluator's AUC and ACC.
        predictions: Of the whole test set.
        flag: MedMNIST's name of the set, ``pathmnist`` or ``pathmnist_224``.

    Returns:
        The file.

    Raises:
        InputError: If the flag is none, or cases or classes are not numbered.

    Example:
        ``pathmnist_test_[AUC]0.983_[ACC]0.907@vit-seed0.csv``
    """
    if not _FLAG.fullmatch(flag):
        rule, remedy = "it is MedMNIST's name of the set", "write pathmnist or pathmnist_224"
        raise InputError("--medmnist", repr(flag), rule, remedy)
    cases = _numbers("cases", predictions.case_ids)
    classes = _numbers("classes", predictions.classes)
    ordered = predictions.probabilities[:, np.argsort(classes)]
    area, accuracy = _scores(predictions)
    run = f"{predictions.model}-seed{predictions.seed}-fold{predictions.fold}"
    path = folder / f"{flag}_test_[AUC]{area:.3f}_[ACC]{accuracy:.3f}@{run}.csv"
    lines = sorted(zip(cases, ordered.tolist(), strict=True))
    write_text(path, "".join(f"{n},{','.join(f'{v:.9g}' for v in row)}\n" for n, row in lines))
    return path


def _numbers(what: str, names: tuple[str, ...]) -> list[int]:
    """Read the last number in each name; all have to differ."""
    found = [re.findall(r"\d+", name) for name in names]
    numbers = [int(digits[-1]) for digits in found if digits]
    if len(set(numbers)) < len(names):
        odd = next(
            (name for name, digits in zip(names, found, strict=True) if not digits), names[0]
        )
        rule = "each has its own number, as in MedMNIST's files"
        raise InputError(what, repr(odd), rule, "name classes 0, 1, … and pictures by their place")
    return numbers


def _scores(predictions: Predictions) -> tuple[float, float]:
    """Give the Evaluator's AUC (mean over classes or labels) and ACC (threshold one half).

    Of two classes the Evaluator reads the last column, so that ACC is that of the likelier class.
    """
    truth, values = predictions.y_true, predictions.probabilities.astype(np.float64)
    if truth.ndim == 2:
        area = macro_average(roc_auc_score, truth, y_score=values)
        return float(area), float(((values > 0.5) == truth).mean())
    known = one_hot(truth, num_classes=values.shape[1])
    area = macro_average(roc_auc_score, known, y_score=values)
    return float(area), float((values.argmax(1) == truth).mean())
