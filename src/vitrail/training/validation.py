"""How good an epoch is on the validation cases, and what looks wrong with a training.

A hundred validation cases tell an area under the ROC curve to about .05. The largest of many such
areas is mostly the luckiest, and often an early one. So areas within one standard error of the
largest count as equal (the one-standard-error rule), and among those epochs the validation loss
decides: it is a proper score, and it varies less than ranks do.
"""

from collections.abc import Sequence
from math import isnan, log
from typing import Any

import numpy as np
from jaxtyping import Float, Int
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


def indistinguishable_from(
    history: Sequence[Scores], metric: str, *, y_true: Int[np.ndarray, "case *label"]
) -> float:
    """Return the smallest value that the validation cases cannot tell from the largest so far.

    Args:
        history: The epochs so far.
        metric: ``loss`` or the name of a score.
        y_true: Of the validation cases, as for `validation_scores`.

    Source:
        hastie2009, section 7.10 (the rule); hanley1982, equation 2 (the error of an area).

    Differs:
        The rule is between epochs of one training, not between sizes of a model. Of several
        classes the errors are averaged, as if they were one error. Cases count as independent.
    """
    values = [float(one) for row in history if (one := row.get(metric)) is not None]
    if not values:
        return float("-inf")
    top = max(values)
    return top - standard_error(top, metric, y_true=y_true)


def standard_error(value: float, metric: str, *, y_true: Int[np.ndarray, "case *label"]) -> float:
    """Return the standard error of a score by its value and the number of cases.

    Example:
        >>> y_true = np.repeat([0, 1], 59)
        >>> round(standard_error(0.8, "roc_auc_score", y_true=y_true), 3)
        0.041
    """
    truth = y_true if y_true.ndim == 2 else np.eye(int(y_true.max()) + 1, dtype=int)[y_true]
    ups = truth.sum(axis=0)
    ups = ups[ups > 0]
    if metric == "balanced_accuracy_score":
        return float(np.sqrt((value * (1 - value) / ups).sum()) / len(ups))
    downs = len(truth) - ups
    both, neither = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value)
    variance = variance + (ups - 1) * (both - value**2) + (downs - 1) * (neither - value**2)
    return float(np.sqrt((variance / (ups * downs)).clip(0)).mean())


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
