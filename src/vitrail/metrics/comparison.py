"""Is one model better than another on the same cases, and how to say it without overclaiming."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri
from scipy.stats import binomtest, norm

from vitrail.metrics.interval import LEVEL, Draws, delong_components

MINUS = "\N{MINUS SIGN}"


def lower_is_better(metric: str) -> bool:
    """Tell a metric's direction from its name: ``*_error`` and ``*_loss`` go down.

    Example:
        >>> lower_is_better("brier_score_loss"), lower_is_better("roc_auc_score")
        (True, False)
    """
    return metric.endswith(("_error", "_loss"))


def bootstrap_p_value(difference: Draws) -> float:
    """Give the two-sided p-value of no difference: twice the share of resamples beyond zero.

    One is added to both counts, so that it is never 0.

    Source: davison1997, section 4.2.
    """
    finite = difference.draws[np.isfinite(difference.draws)]
    if len(finite) == 0:
        return float("nan")
    beyond = min(np.sum(finite <= 0), np.sum(finite >= 0))
    return float(min(1.0, 2 * (beyond + 1) / (len(finite) + 1)))


def delong_test(
    y_true: Bool[np.ndarray, " case"],
    scores: Float[np.ndarray, "2 case"],
    *,
    level: float = LEVEL,
) -> tuple[float, float, float, float]:
    """Compare two ROC areas of the same cases, one score a patient.

    Returns:
        The difference (first minus second), its interval's ends and the two-sided p-value.

    Source: delong1988.
    """
    area, covariance = delong_components(y_true, scores)
    difference = float(area[0] - area[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 0:
        return difference, difference, difference, 1.0 if difference == 0 else float("nan")
    error = np.sqrt(variance)
    half = float(-ndtri((1 - level) / 2) * error)
    p_value = float(2 * norm.sf(abs(difference) / error))
    return difference, difference - half, difference + half, p_value


def mcnemar_test(first: Bool[np.ndarray, " case"], second: Bool[np.ndarray, " case"]) -> float:
    """Give the exact p-value that two models are right equally often, from where they disagree.

    Args:
        first: Whether the first model was right on each case.
        second: Whether the second one was.

    Source: mcnemar1947 (exact binomial form).
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several comparisons (Holm's step-down); NaN stays NaN.

    Source: holm1979.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    adjusted = [float("nan")] * len(p_values)
    known = sorted((p, place) for place, p in enumerate(p_values) if np.isfinite(p))
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted


def signed(number: float) -> str:
    """Write a number with its sign and three decimals, a true minus, and no negative zero."""
    text = f"{number:+.3f}"
    return "+0.000" if text == "-0.000" else text.replace("-", MINUS)


def sentence(names: tuple[str, str], metric: str, *, interval: tuple[float, float, float]) -> str:
    """Say in words what a paired difference shows.

    Args:
        names: The two models; the difference is the first minus the second.
        metric: Name of the metric; it tells the direction.
        interval: Difference, lower end, upper end.

    Example:
        >>> sentence(("vit", "cnn"), "roc_auc_score", interval=(0.011, -0.014, 0.037))
        'vit against cnn, ROC AUC: no evidence of a difference: +0.011 [−0.014, +0.037]'
    """  # noqa: RUF002
    first, second = names
    difference, low, high = interval
    opening = f"{first} against {second}, {in_words(metric)}: "
    if not np.isfinite(difference):
        return f"{opening}cannot be compared, the metric is not defined on these cases"
    if not np.isfinite(low):
        return f"{opening}{signed(difference)}; no interval can be stated"
    numbers = f"{signed(difference)} [{signed(low)}, {signed(high)}]"
    if low <= 0 <= high:
        return f"{opening}no evidence of a difference: {numbers}"
    better = (difference < 0) if lower_is_better(metric) else (difference > 0)
    return f"{opening}{first} is {'better' if better else 'worse'}: {numbers}"


_WORDS = {"roc_auc_score": "ROC AUC", "f1_score": "F1", "f1_macro": "macro F1"}
_WORDS |= {"brier_score_loss": "Brier score", "matthews_corrcoef": "Matthews correlation"}
_WORDS |= {"cohen_kappa_score": "Cohen's kappa", "average_precision_score": "average precision"}


def in_words(metric: str) -> str:
    """Write a metric's name as people say it.

    Example:
        >>> in_words("balanced_accuracy")
        'balanced accuracy'
    """
    return _WORDS.get(metric, metric.replace("_", " "))
