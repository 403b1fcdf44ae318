"""How good an epoch is on the validation cases, and what looks wrong with a training.

A hundred validation cases tell an area under the ROC curve to about .05, and hundred slices of ten
patients to less. The largest of many such areas is mostly the luckiest, and often an early one. So
areas within one standard error of the largest count as equal (the one-standard-error rule), and
among those epochs the validation loss decides: it is a proper score, and it varies less than ranks
do. The error is that of drawing patients (groups, where patients are unknown), not slices.
"""

from collections.abc import Sequence
from math import isnan, log
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

Scores = dict[str, float | int | None]
_NEVER_LEAVES = 0.98


def validation_scores(
    y_true: Int[np.ndarray, "case *label"], probabilities: Float[np.ndarray, "case class"]
) -> Scores:
    """Score the validation cases.

    Args:
        y_true: Class indices, or one row of zeros and ones a case where there are several labels.
        probabilities: Of each class.

    Returns:
        ``validation_loss``, ``roc_auc_score`` (mean over the classes, each against the rest; None
        where no class has cases on both sides), ``balanced_accuracy_score`` (None for several
        labels) and ``classes_predicted``, the number of different decisions.
    """
    several = y_true.ndim == 2
    truth = y_true if several else np.eye(probabilities.shape[1])[y_true]
    inside = probabilities.clip(1e-12, 1 - 1e-12)
    loss = -(truth * np.log(inside)).sum(axis=1)
    if several:
        loss = (loss - ((1 - truth) * np.log1p(-inside)).sum(axis=1)) / truth.shape[1]
    areas = [
        _area(truth[:, index].astype(bool), probabilities[:, index])
        for index in range(truth.shape[1])
    ]
    defined = [area for area in areas if not isnan(area)]
    decision = (probabilities >= 0.5) if several else probabilities.argmax(axis=1)
    recalls = [np.mean(decision[y_true == index] == index) for index in np.unique(y_true)]
    return {
        "validation_loss": float(loss.mean()),
        "roc_auc_score": float(np.mean(defined)) if len(defined) == len(areas) else None,
        "balanced_accuracy_score": None if several else float(np.mean(recalls)),
        "classes_predicted": len(np.unique(decision, axis=0)),
    }


def _area(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve, by ranks; NaN if one side is empty."""
    ups = int(positive.sum())
    downs = len(positive) - ups
    if not ups or not downs:
        return float("nan")
    return float((rankdata(score)[positive].sum() - ups * (ups + 1) / 2) / (ups * downs))


def indistinguishable_from(history: Sequence[Scores], metric: str) -> float:
    """Return the smallest value that the validation cases cannot tell from the largest so far.

    Args:
        history: The epochs so far, each with the ``standard_error`` of its value; None where it
            cannot be known.
        metric: ``loss`` or the name of a score.

    Source:
        hastie2009, section 7.10.

    Differs:
        The rule is between epochs of one training, not between sizes of a model.
    """
    values = [
        (float(value), row.get("standard_error", 0.0))
        for row in history
        if (value := row.get(metric)) is not None
    ]
    top, error = max(values, default=(float("-inf"), 0.0), key=itemgetter(0))
    return top - (float("inf") if error is None else error)


def standard_error(
    y_true: Int[np.ndarray, "case *label"],
    probabilities: Float[np.ndarray, "case class"],
    *,
    metric: str,
    clusters: Sequence[str],
) -> float | None:
    """Return the standard error of a score over draws of clusters; None where it is not defined.

    A score is near enough a sum over the cases of what each adds to it. What the cases of a cluster
    add counts as one number, so that cases alike are not taken for many.

    Args:
        y_true: As for `validation_scores`.
        probabilities: Of each class.
        metric: ``roc_auc_score`` or ``balanced_accuracy_score``; a loss has none here.
        clusters: Of each case: who or what it comes from.

    Source:
        delong1988, equations 4 to 6 (what a case adds to an area); obuchowski1997 (clusters).

    Differs:
        Of several classes, what a case adds to the mean of their areas. The sums are centered as
        one sample of clusters, so that the covariance between the classes' cases is in them.

    Example:
        Each case once, and the same cases as two pictures each of the same patients:

        >>> y_true, score = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.4, 0.6, 0.3, 0.7, 0.9])
        >>> both, names = np.stack([1 - score, score], 1), list("abcdef")
        >>> area = "roc_auc_score"
        >>> once = standard_error(y_true, both, metric=area, clusters=names)
        >>> y_true, both, names = np.tile(y_true, 2), np.tile(both, (2, 1)), names * 2
        >>> twice = standard_error(y_true, both, metric=area, clusters=names)
        >>> round(once, 3), round(twice, 3)
        (0.222, 0.222)
    """
    members = np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(members.max()) + 1
    several = y_true.ndim == 2
    truth = (y_true if several else np.eye(probabilities.shape[1])[y_true]).astype(bool)
    added = []
    if metric == "roc_auc_score" and truth.any(axis=0).all() and not truth.all(axis=0).any():
        added = [_placements(truth[:, k], probabilities[:, k]) for k in range(truth.shape[1])]
    elif metric == "balanced_accuracy_score" and not several:
        hit = probabilities.argmax(axis=1) == y_true
        added = [_hits(truth[:, k], hit) for k in np.flatnonzero(truth.any(axis=0))]
    if count < 2 or not added:
        return None
    sums = np.bincount(members, np.mean(added, axis=0))
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()))


def _placements(
    positive: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"]
) -> Float[np.ndarray, " case"]:
    """Tell what each case adds to the area: how its own place differs from its side's mean."""
    added: Float[np.ndarray, " case"] = rankdata(score)
    for side in (positive, ~positive):
        added[side] -= rankdata(score[side])
        added[side] = (added[side] - added[side].mean()) / (side.sum() * (~side).sum())
    added[~positive] *= -1
    return added


def _hits(
    of_class: Bool[np.ndarray, " case"], hit: Bool[np.ndarray, " case"]
) -> Float[np.ndarray, " case"]:
    """Tell what each case adds to the share of a class that is recognized."""
    added: Float[np.ndarray, " case"] = of_class * (hit - hit[of_class].mean()) / of_class.sum()
    return added


def rank(scores: Scores, metric: str, *, least: float) -> tuple[bool, float]:
    """Return what to compare epochs by; larger is better.

    Args:
        scores: Of an epoch.
        metric: What epochs are chosen by.
        least: From `indistinguishable_from`.

    Returns:
        Whether the metric is as good as any, and the loss with its sign changed.
    """
    loss, value = scores["validation_loss"], scores.get(metric)
    smaller = float("-inf") if loss is None or isnan(loss) else -loss
    return metric == "loss" or (value is not None and value >= least), smaller


def suspicions(history: list[dict[str, Any]], num_classes: int, *, multi_label: bool) -> list[str]:
    """Say what looks wrong with a training so far.

    Args:
        history: Rows of the epochs that are done.
        num_classes: Length of the logits.
        multi_label: Whether labels are independent of each other.

    Returns:
        Sentences, each with what to do.
    """
    found = []
    chance = log(2 if multi_label else num_classes)
    losses = [row["train_loss"] for row in history if row["train_loss"] is not None]
    if losses and min(losses) > _NEVER_LEAVES * chance:
        found.append(
            f"the training loss never left chance ({min(losses):.3f}, guessing gives "
            f"{chance:.3f}): try a learning rate ten times smaller or larger, more epochs, or "
            "pretrained weights"
        )
    if history and history[-1]["classes_predicted"] == 1:
        found.append(
            "the model puts every validation case into one class: check the labels, balance the "
            "classes (balance: sampling), or train longer"
        )
    return found
