"""What tells the classes apart without any medicine: trivial features, and how far each gets.

For each family of features a logistic regression is fitted out of fold (five folds, clusters
whole) and its ROC AUC and accuracy are measured, with intervals by bootstrap over clusters. A
family far above chance means that a model may score well for a reason that has nothing to do with
the disease; it is named in plain words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vitrail.data.features import FAMILIES
from vitrail.records import label_names

_FOLDS = 5
_RESAMPLES = 500
_AT_ONCE = 1 << 19
_NOTEWORTHY = 0.6
_DEVIATIONS = float(ndtri(1 - 0.025 / len(FAMILIES)))
"""Many families are tried: a clean set may raise an alarm once in twenty, not for each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """How well one family of trivial features tells the classes apart.

    Attributes:
        feature: A key of `vitrail.data.features.FAMILIES`.
        roc_auc_score: Out of fold; the mean over classes (each against the rest) for three or more,
            or over labels (each against its absence) where a case can have several.
        low: Lower end of the 95 % interval.
        high: Upper end.
        accuracy: Out of fold, of the likeliest class; over labels their mean.
        accuracy_low: Lower end of its 95 % interval.
        accuracy_high: Upper end.
        finding: A sentence where it is above chance, minding that many families are tried, and at
            least 0.6; else empty.
    """

    feature: str
    roc_auc_score: float
    low: float
    high: float
    finding: str
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None


def audit_shortcuts(
    measured: Sequence[Mapping[str, Sequence[float]]],
    labels: Sequence[str],
    *,
    clusters: Sequence[str],
    seed: int = 0,
) -> list[Shortcut]:
    """Try every family of features.

    Args:
        measured: Numbers of every family, one dictionary a case.
        labels: Label of each case.
        clusters: Cluster of each case; a cluster is never on both sides of a fold.
        seed: Of the folds and the bootstrap.

    Returns:
        One row a family whose features vary, the most telling first; none where a class has too
        few clusters for two folds.
    """
    groups = np.unique(np.asarray(clusters), return_inverse=True)[1]
    tasks = [task for task in _tasks(labels) if np.ptp(task.y_true) and _fewest(task, groups) >= 2]
    if not tasks:
        return []
    folds = [list(_folds(task, groups, seed=seed)) for task in tasks]
    drawn = _drawn(int(groups.max()) + 1, seed=seed)
    rows = []
    for family in (name for name in FAMILIES if name in measured[0]):
        values = np.array([case[family] for case in measured], dtype=np.float64)
        if np.ptp(values, axis=0).max() < 1e-9:
            continue
        scored = [
            _scored(task, values, parts=parts) for task, parts in zip(tasks, folds, strict=True)
        ]
        areas, draws = (
            np.stack(
                [
                    _areas(task, scores, counts=counts, groups=groups)
                    for task, scores in zip(tasks, scored, strict=True)
                ],
                axis=1,
            )
            for counts in (np.ones_like(drawn[:1]), drawn)
        )
        row = _row(family, [task.name for task in tasks], areas=areas[0], draws=draws)
        accuracy, low, high = _accuracy(tasks, scored, groups=groups, drawn=drawn)
        rows.append(replace(row, accuracy=accuracy, accuracy_low=low, accuracy_high=high))
    return sorted(rows, key=lambda row: -row.roc_auc_score)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is told apart: all classes (unnamed), or one label from its absence.

    Attributes:
        name: The label; empty for all classes.
        y_true: Class of each case.
        positive: One column a class whose ROC area is measured, true where a case is of it.
    """

    name: str
    y_true: Int[np.ndarray, " case"]
    positive: Bool[np.ndarray, "case column"]


def _tasks(labels: Sequence[str]) -> list[_Task]:
    """Make one task of all classes; where a case can have several labels, one a label."""
    if not any("|" in label for label in labels):
        classes, y_true = np.unique(np.asarray(labels), return_inverse=True)
        return [_Task(name="", y_true=y_true, positive=y_true[:, None] == np.arange(len(classes)))]
    names = [label_names(label) for label in labels]
    has = {name: np.array([name in own for own in names]) for name in sorted(set().union(*names))}
    return [
        _Task(name=name, y_true=of.astype(np.int64), positive=np.stack([~of, of], axis=1))
        for name, of in has.items()
    ]


def _fewest(task: _Task, groups: Int[np.ndarray, " case"]) -> int:
    """Count the clusters of the class that has the fewest."""
    return min(len(np.unique(groups[of])) for of in task.positive.T)


def _folds(
    task: _Task, groups: Int[np.ndarray, " case"], *, seed: int
) -> Iterator[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
    """Yield the training and test cases of each fold; a cluster is on one side."""
    count = min(_FOLDS, _fewest(task, groups))
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    yield from folds.split(task.y_true, task.y_true, groups)


def _scored(
    task: _Task, values: Float[np.ndarray, "case feature"], *, parts: Sequence[tuple[Any, Any]]
) -> Float[np.ndarray, "case column"]:
    """Score every case by a logistic regression that did not see its cluster."""
    scores = np.full(task.positive.shape, 1 / task.positive.shape[1])
    for train, test in parts:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(values[train], task.y_true[train])
        scores[np.ix_(test, model.classes_)] = model.predict_proba(values[test])
    return scores


def _drawn(clusters: int, *, seed: int) -> Int[np.ndarray, "draw cluster"]:
    """Draw clusters with replacement: how often each comes in every draw."""
    generator = np.random.default_rng(seed)
    return np.stack(
        [
            np.bincount(generator.integers(0, clusters, size=clusters), minlength=clusters)
            for _ in range(_RESAMPLES)
        ]
    )


def _accuracy(
    tasks: Sequence[_Task],
    scored: Sequence[Float[np.ndarray, "case column"]],
    *,
    groups: Int[np.ndarray, " case"],
    drawn: Int[np.ndarray, "draw cluster"],
) -> tuple[float, float, float]:
    """Return the share of right answers, with its interval by bootstrap over clusters."""
    right = np.mean(
        [
            scores.argmax(axis=1) == task.positive.argmax(axis=1)
            for task, scores in zip(tasks, scored, strict=True)
        ],
        axis=0,
    )
    sums, counts = np.bincount(groups, weights=right), np.bincount(groups)
    low, high = np.percentile(drawn @ sums / (drawn @ counts), [2.5, 97.5])
    return round(float(right.mean()), 4), round(float(low), 4), round(float(high), 4)


def _row(
    family: str,
    names: Sequence[str],
    *,
    areas: Float[np.ndarray, " task"],
    draws: Float[np.ndarray, "draw task"],
) -> Shortcut:
    """Sum one family up: the mean over the tasks with its interval, and what it tells apart."""
    means = np.nanmean(draws[np.isfinite(draws).any(axis=1)], axis=1)
    low, high = (round(float(end), 4) for end in np.percentile(means, [2.5, 97.5]))
    lows, highs = np.nanpercentile(draws, [2.5, 97.5], axis=0)
    above = areas - _DEVIATIONS * np.nanstd(draws, axis=0) > 0.5
    told = [
        f"{f'{name!r} from its absence' if name else 'the classes apart'} "
        f"(ROC AUC {area:.2f}, {bottom:.2f} to {top:.2f})"
        for name, area, bottom, top, sure in zip(names, areas, lows, highs, above, strict=True)
        if sure and area >= _NOTEWORTHY
    ]
    finding = f"{FAMILIES[family]} alone tells {', '.join(told)}; a model may learn it instead of "
    return Shortcut(
        feature=family,
        roc_auc_score=round(float(areas.mean()), 4),
        low=low,
        high=high,
        finding=f"{finding}the disease" if told else "",
    )


def _areas(
    task: _Task,
    scores: Float[np.ndarray, "case column"],
    *,
    counts: Int[np.ndarray, "draw cluster"],
    groups: Int[np.ndarray, " case"],
) -> Float[np.ndarray, " draw"]:
    """Return the mean over columns of the ROC area of each class against the rest.

    Cases are sorted once; a draw only weighs them. The area is the share of pairs of a positive
    and a negative case in which the positive has the higher score, ties counted half.

    Returns:
        For each draw; NaN where it lacks a class.
    """
    areas = np.zeros(len(counts))
    at_once = max(1, _AT_ONCE // len(groups))
    for positive, score in zip(task.positive.T, scores.T, strict=True):
        order = np.argsort(score)
        cluster, is_positive = groups[order], positive[order]
        ties = np.flatnonzero(np.diff(score[order], prepend=-1.0))
        for first in range(0, len(counts), at_once):
            drawn = slice(first, first + at_once)
            weights = counts[drawn, cluster]
            has, lacks = (
                np.add.reduceat(weights * of, ties, axis=1) for of in (is_positive, ~is_positive)
            )
            won = (has * (np.cumsum(lacks, axis=1) - lacks / 2)).sum(axis=1)
            with np.errstate(invalid="ignore"):
                areas[drawn] += won / (has.sum(axis=1) * lacks.sum(axis=1))
    areas /= task.positive.shape[1]
    return areas
