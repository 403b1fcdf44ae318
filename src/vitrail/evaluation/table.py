"""predictions.csv: what every model said of every case, checked whenever it is read.

Columns ``model, seed, fold, case_id, split, y_true, prob_<class>…``; ``y_true`` is the class's
name, so that a person can read the file; ``prob_`` columns stand in the order of the classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.errors import DataError
from vitrail.records import Predictions
from vitrail.runfolder import read_csv, write_csv, write_text

_KEYS = ("model", "seed", "fold", "case_id", "split", "y_true")
_TOLERANCE = 1e-3


def write_predictions(path: Path, predictions: Sequence[Predictions]) -> None:
    """Write all predictions of a run into one table (float32's nine digits)."""
    check(predictions)
    classes = predictions[0].classes
    rows = (
        dict(zip(_KEYS, (p.model, p.seed, p.fold, case_id, p.split, classes[truth]), strict=True))
        | {f"prob_{name}": f"{value:.9g}" for name, value in zip(classes, row, strict=True)}
        for p in predictions
        for case_id, truth, row in zip(
            p.case_ids, p.y_true.tolist(), p.probabilities.tolist(), strict=True
        )
    )
    write_csv(path, rows, header=[*_KEYS, *(f"prob_{name}" for name in classes)])


def read_predictions(path: Path) -> tuple[Predictions, ...]:
    """Read the table back, one record for each model, seed, fold and split.

    Raises:
        DataError: If a column is missing, a class unknown, a number no number, a row double, or
            probabilities are NaN or do not sum to one.
    """
    rows = read_csv(path)
    remedy = "repeat `vitrail evaluate` so that it is written anew"
    if not rows:
        raise DataError(str(path), "it holds no rows", "each case of each model has one", remedy)
    missing = [key for key in _KEYS if key not in rows[0]]
    classes = tuple(key.removeprefix("prob_") for key in rows[0] if key.startswith("prob_"))
    if missing or len(classes) < 2:
        came = f"it lacks {', '.join(missing) or 'prob_ columns'}"
        raise DataError(str(path), came, "the columns are " + ", ".join(_KEYS), remedy)
    blocks: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for line, row in enumerate(rows, start=2):
        if row["y_true"] not in classes:
            where, came = f"{path}, line {line}, y_true", repr(row["y_true"])
            raise DataError(where, came, f"it is one of {', '.join(classes)}", remedy)
        key = (row["model"], row["seed"], row["fold"], row["split"])
        blocks.setdefault(key, []).append(row)
    try:
        predictions = tuple(_block(key, block, classes) for key, block in blocks.items())
    except ValueError as error:
        raise DataError(
            str(path), str(error), "seed, fold and prob_ are numbers", remedy
        ) from error
    check(predictions)
    return predictions


def _block(
    key: tuple[str, ...], rows: list[dict[str, str]], classes: tuple[str, ...]
) -> Predictions:
    """Make one record of the rows of one model, seed, fold and split."""
    model, seed, fold, split = key
    return Predictions(
        model=model,
        seed=int(seed),
        fold=int(fold),
        split=split,  # type: ignore[arg-type]
        classes=classes,
        case_ids=tuple(row["case_id"] for row in rows),
        y_true=np.array([classes.index(row["y_true"]) for row in rows]),
        probabilities=np.array([[float(row[f"prob_{name}"]) for name in classes] for row in rows]),
    )


def check(predictions: Sequence[Predictions]) -> None:
    """Refuse predictions that no honest number can be made of.

    Raises:
        DataError: If there are none, the classes differ, a case is double, or probabilities are
            NaN, outside [0, 1] or do not sum to one.
    """
    if not predictions:
        raise DataError("predictions", "none", "at least one model predicts", "run `vitrail train`")
    for one in predictions:
        where = f"predictions of {one.model} (seed {one.seed}, fold {one.fold}, {one.split})"
        if one.classes != predictions[0].classes:
            came = f"classes {', '.join(one.classes)}"
            rule = f"all models have the classes {', '.join(predictions[0].classes)}"
            raise DataError(where, came, rule, "evaluate them apart")
        if len(set(one.case_ids)) < len(one.case_ids):
            double = next(name for name in one.case_ids if one.case_ids.count(name) > 1)
            raise DataError(where, f"{double} twice", "a case has one row", "remove the double row")
        total = one.probabilities.sum(1)
        bad = ~(np.isfinite(total) & (np.abs(total - 1) <= _TOLERANCE))
        bad |= (one.probabilities < 0).any(1) | (one.probabilities > 1).any(1)
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            came = f"{bad.sum()} rows like {one.case_ids[place]}: {one.probabilities[place]}"
            rule = "probabilities lie in [0, 1] and sum to one"
            raise DataError(where, came, rule, "pass softmax outputs, not logits")


def write_medmnist(path: Path, predictions: Predictions) -> None:
    """Write the CSV that MedMNIST's Evaluator reads: no header; row number, one score a class.

    The rows keep the order of ``predictions``, which has to be that of the MedMNIST split.
    """
    lines = (
        ",".join([str(place), *(f"{value:.9g}" for value in row)])
        for place, row in enumerate(predictions.probabilities.tolist())
    )
    write_text(path, "\n".join(lines) + "\n")
