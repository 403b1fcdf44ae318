"""predictions.csv: what every model said of every case, checked whenever it is read.

Columns ``model, seed, fold, case_id, split, y_true, prob_<class>…``; ``y_true`` is the class's
name, so that a person can read the file; ``prob_`` columns stand in the order of the classes.
Where a case can have several labels, ``y_true`` always holds a bar: ``a|b``, ``a|``, ``|`` (none).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.errors import DataError
from vitrail.records import Predictions, join_labels
from vitrail.runfolder import read_csv, write_csv

_KEYS = ("model", "seed", "fold", "case_id", "split", "y_true")
_TOLERANCE = 1e-3


def write_predictions(path: Path, predictions: Sequence[Predictions]) -> None:
    """Write all predictions of a run into one table (float32's nine digits)."""
    check(predictions)
    classes = predictions[0].classes
    rows = (
        dict(zip(_KEYS, (p.model, p.seed, p.fold, case_id, p.split, truth), strict=True))
        | {f"prob_{name}": f"{value:.9g}" for name, value in zip(classes, row, strict=True)}
        for p in predictions
        for case_id, truth, row in zip(
            p.case_ids, _written(p.y_true, classes), p.probabilities.tolist(), strict=True
        )
    )
    write_csv(path, rows, header=[*_KEYS, *(f"prob_{name}" for name in classes)])


def _written(y_true: np.ndarray, classes: tuple[str, ...]) -> list[str]:
    """Write truths by name."""
    if y_true.ndim == 1:
        return [classes[truth] for truth in y_true.tolist()]
    return [
        join_labels([name for name, has in zip(classes, row, strict=True) if has])
        for row in y_true.tolist()
    ]


def _truth(cells: Sequence[str], classes: tuple[str, ...]) -> np.ndarray:
    """Read truths: class indices, or which labels each case has."""
    if not any("|" in cell for cell in cells):
        return np.array([classes.index(cell) for cell in cells])
    return np.array([[name in cell.split("|") for name in classes] for cell in cells])


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
        named = row["y_true"].split("|") if "|" in row["y_true"] else [row["y_true"]]
        if not {name for name in named if name or len(named) == 1} <= set(classes):
            where, came = f"{path}, line {line}, y_true", repr(row["y_true"])
            raise DataError(where, came, f"it is one of {', '.join(classes)}", remedy)
        key = (row["model"], row["seed"], row["fold"], row["split"])
        blocks.setdefault(key, []).append(row)
    try:
        predictions = tuple(_block(key, block, classes=classes) for key, block in blocks.items())
    except ValueError as error:
        raise DataError(
            str(path), str(error), "seed, fold and prob_ are numbers", remedy
        ) from error
    check(predictions)
    return predictions


def _block(
    key: tuple[str, ...], rows: list[dict[str, str]], *, classes: tuple[str, ...]
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
        y_true=_truth([row["y_true"] for row in rows], classes),
        probabilities=np.array([[float(row[f"prob_{name}"]) for name in classes] for row in rows]),
    )


def check(predictions: Sequence[Predictions]) -> None:
    """Refuse predictions that no honest number can be made of.

    Raises:
        DataError: If there are none, the classes differ, a case is double, or probabilities are
            NaN, outside [0, 1] or (of cases with one label) do not sum to one.
    """
    if not predictions:
        raise DataError("predictions", "none", "at least one model predicts", "run `vitrail train`")
    first = predictions[0]
    for one in predictions:
        where = f"predictions of {one.model} (seed {one.seed}, fold {one.fold}, {one.split})"
        if one.classes != first.classes or one.y_true.ndim != first.y_true.ndim:
            came = f"classes {', '.join(one.classes)} and {one.y_true.ndim}-dimensional truth"
            rule = f"all models have the classes {', '.join(first.classes)}, and one kind of truth"
            raise DataError(where, came, rule, "evaluate them apart")
        if not one.case_ids:
            raise DataError(where, "no cases", "a set has cases", "leave the set out")
        if len(set(one.case_ids)) < len(one.case_ids):
            double = Counter(one.case_ids).most_common(1)[0][0]
            raise DataError(where, f"{double} twice", "a case has one row", "remove the double row")
        _check_probabilities(one, where)


def _check_probabilities(one: Predictions, where: str) -> None:
    """Refuse what is no probability; the message counts the rows and shows the first."""
    values, rule = one.probabilities, "probabilities lie in [0, 1]"
    bad = ~(np.isfinite(values) & (values >= 0) & (values <= 1)).all(1)
    if one.y_true.ndim == 1:
        bad |= ~(np.abs(values.sum(1) - 1) <= _TOLERANCE)
        rule += " and sum to one"
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        came = f"{bad.sum()} rows like {one.case_ids[place]}: {values[place]}"
        raise DataError(where, came, rule, "pass softmax or sigmoid outputs, not logits")
