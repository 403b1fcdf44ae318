"""How well decisions and scores agree with the truth.

One implementation serves a single number and a whole bootstrap: every function takes weights
``[*resample case]`` and returns one value a resample (a plain number without weights). Decision
metrics are functions of a confusion matrix ``[*resample class class]`` whose rows are the truth and
whose columns are the decision. A metric that is not defined (no positive case, nothing decided
positive) is NaN, never silently 0; averages over classes leave undefined classes out, like
scikit-learn.

Several labels a case: truth and scores are ``[case class]``; :func:`macro_average` takes the mean
of a binary metric over the classes, :func:`exact_match` asks for all labels at once.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

Values = Float[np.ndarray, "*resample"]
Weights = Float[np.ndarray, "*resample case"]
Confusion = Float[np.ndarray, "*resample class class"]
BinaryMetric = Callable[..., Values]


def ratio(numerator: Any, denominator: Any) -> Float[np.ndarray, "..."]:
    """Divide; 0/0 is NaN, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator))


def mean_defined(values: Float[np.ndarray, "*resample class"]) -> Values:
    """Average over the last axis, leaving NaN out; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))


def weighted_mean(values: Float[np.ndarray, " case"], weights: Weights | None = None) -> Values:
    """Average a number that every case has."""
    if weights is None:
        weights = np.ones(len(values))
    return ratio(weights @ values, weights.sum(-1))


# --- Decisions -------------------------------------------------------------------------------


def confusion_matrix(
    y_true: Int[np.ndarray, " case"],
    decision: Int[np.ndarray, " case"],
    *,
    num_classes: int,
    weights: Weights | None = None,
) -> Confusion:
    """Count the cases of each truth (row) and decision (column).

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """
    num_cases = len(y_true)
    if weights is None:
        weights = np.ones(num_cases)
    cell = y_true * num_classes + decision
    member = csr_array(
        (np.ones(num_cases), (np.arange(num_cases), cell)), shape=(num_cases, num_classes**2)
    )
    counts = np.atleast_2d(weights) @ member
    return np.asarray(counts).reshape(*weights.shape[:-1], num_classes, num_classes)


def _by_class(confusion: Confusion) -> tuple[Any, Any, Any, Any]:
    """Return true and false positives, false and true negatives ``[*resample class]``."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    false_positive = confusion.sum(-2) - hits
    false_negative = confusion.sum(-1) - hits
    total = confusion.sum((-2, -1))[..., None]
    return hits, false_positive, false_negative, total - hits - false_positive - false_negative


def _of(values: Float[np.ndarray, "*resample class"], target: int | None) -> Values:
    """Pick one class, or average over the classes where it is defined."""
    return mean_defined(values) if target is None else np.asarray(values[..., target])


def accuracy(confusion: Confusion) -> Values:
    """Share of right decisions."""
    return ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def sensitivity(confusion: Confusion, *, target: int | None = None) -> Values:
    """Share of the cases of class ``target`` that are decided so (recall).

    Without ``target``, the mean over the classes.
    """
    hits, _, missed, _ = _by_class(confusion)
    return _of(ratio(hits, hits + missed), target)


def specificity(confusion: Confusion, *, target: int | None = None) -> Values:
    """Share of the cases of other classes that are not decided ``target``."""
    _, false_alarm, _, rejected = _by_class(confusion)
    return _of(ratio(rejected, rejected + false_alarm), target)


def precision(confusion: Confusion, *, target: int | None = None) -> Values:
    """Share of the cases decided ``target`` that are so (positive predictive value)."""
    hits, false_alarm, _, _ = _by_class(confusion)
    return _of(ratio(hits, hits + false_alarm), target)


def negative_predictive_value(confusion: Confusion, *, target: int | None = None) -> Values:
    """Share of the cases not decided ``target`` that are indeed another class."""
    _, _, missed, rejected = _by_class(confusion)
    return _of(ratio(rejected, rejected + missed), target)


def balanced_accuracy(confusion: Confusion) -> Values:
    """Mean over the classes of the share decided rightly."""
    return sensitivity(confusion)


def f1_score(confusion: Confusion, *, target: int | None = None) -> Values:
    """Harmonic mean of precision and sensitivity; without ``target`` the macro average."""
    hits, false_alarm, missed, _ = _by_class(confusion)
    return _of(ratio(2 * hits, 2 * hits + false_alarm + missed), target)


def f1_weighted(confusion: Confusion) -> Values:
    """Mean over the classes of F1, weighted by how many cases each truly has."""
    hits, false_alarm, missed, _ = _by_class(confusion)
    f1 = np.nan_to_num(ratio(2 * hits, 2 * hits + false_alarm + missed))
    return ratio((f1 * (hits + missed)).sum(-1), confusion.sum((-2, -1)))


def matthews_corrcoef(confusion: Confusion) -> Values:
    """Correlation of decision and truth; 0 where either is constant, as in scikit-learn.

    Source: gorodkin2004, eq. 8.
    """
    total, right = confusion.sum((-2, -1)), np.trace(confusion, axis1=-2, axis2=-1)
    truth, decided = confusion.sum(-1), confusion.sum(-2)
    covariance = right * total - (truth * decided).sum(-1)
    spread = (total**2 - (truth**2).sum(-1)) * (total**2 - (decided**2).sum(-1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def cohen_kappa_score(confusion: Confusion) -> Values:
    """Agreement of decision and truth beyond that expected from their margins alone.

    Source: cohen1960.
    """
    total = confusion.sum((-2, -1))
    observed = ratio(np.trace(confusion, axis1=-2, axis2=-1), total)
    expected = ratio((confusion.sum(-1) * confusion.sum(-2)).sum(-1), total**2)
    return ratio(observed - expected, 1 - expected)


def predictive_values(
    sensitivity: Values | float, specificity: Values | float, *, prevalence: float
) -> tuple[Values, Values]:
    """Give the positive and negative predictive value at a stated prevalence (Bayes' rule).

    Example:
        >>> ppv, npv = predictive_values(0.9, 0.9, prevalence=0.01)
        >>> round(float(ppv), 3), round(float(npv), 4)
        (0.083, 0.9989)
    """
    true_positive = sensitivity * prevalence
    true_negative = specificity * (1 - prevalence)
    positive = true_positive + (1 - specificity) * (1 - prevalence)
    negative = true_negative + (1 - sensitivity) * prevalence
    return ratio(true_positive, positive), ratio(true_negative, negative)


# --- Ranks -----------------------------------------------------------------------------------


def cumulative_counts(
    y_true: Bool[np.ndarray, " case"],
    y_score: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
) -> tuple[Any, Any, Float[np.ndarray, " threshold"]]:
    """Count false and true positives at every distinct score, the highest first.

    Returns:
        False positives and true positives ``[*resample threshold]`` when all scores at or above
        the threshold are called positive, and the thresholds.
    """
    if weights is None:
        weights = np.ones(len(y_score))
    order = np.argsort(-y_score, kind="stable")
    ranked = y_score[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    sorted_weights = weights[..., order]
    true_positive = np.cumsum(sorted_weights * y_true[order], axis=-1)
    false_positive = np.cumsum(sorted_weights, axis=-1) - true_positive
    if len(last_of_tie) < len(order):
        true_positive = true_positive[..., last_of_tie]
        false_positive = false_positive[..., last_of_tie]
    return false_positive, true_positive, ranked[last_of_tie]


def roc_auc_score(
    y_true: Bool[np.ndarray, " case"],
    y_score: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
) -> Values:
    """Give the chance that a positive case scores above a negative one; ties count half.

    Example:
        >>> y_true = np.array([False, False, True, True])
        >>> float(roc_auc_score(y_true, np.array([0.1, 0.4, 0.35, 0.8])))
        0.75
    """
    false_positive, true_positive, _ = cumulative_counts(y_true, y_score, weights=weights)
    middle = true_positive[..., 1:] + true_positive[..., :-1]
    area = np.einsum("...i,...i->...", np.diff(false_positive, axis=-1), middle) / 2
    area = area + false_positive[..., 0] * true_positive[..., 0] / 2
    return ratio(area, false_positive[..., -1] * true_positive[..., -1])


def average_precision_score(
    y_true: Bool[np.ndarray, " case"],
    y_score: Float[np.ndarray, " case"],
    *,
    weights: Weights | None = None,
) -> Values:
    """Average precision over the positives, the step-wise area under precision-recall."""
    false_positive, true_positive, _ = cumulative_counts(y_true, y_score, weights=weights)
    called = false_positive + true_positive
    at_threshold = np.divide(true_positive, called, where=called > 0, out=np.zeros_like(called))
    gained = np.diff(true_positive, axis=-1, prepend=0.0)
    area = np.einsum("...i,...i->...", gained, at_threshold)
    return ratio(area, true_positive[..., -1])


def macro_average(
    metric: BinaryMetric,
    y_true: Bool[np.ndarray, "case class"],
    *,
    y_score: Float[np.ndarray, "case class"],
    weights: Weights | None = None,
) -> Values:
    """Average a binary metric over the classes where it is defined.

    With ``y_true = one_hot(labels)`` it is the one-vs-rest average; with several labels a case,
    the macro average over labels.
    """
    columns = [
        np.asarray(metric(y_true[:, k], y_score[:, k], weights=weights))
        for k in range(y_true.shape[1])
    ]
    return mean_defined(np.stack(columns, axis=-1))


def one_hot(
    y_true: Int[np.ndarray, " case"], *, num_classes: int
) -> Bool[np.ndarray, "case class"]:
    """Turn class indices into one column a class."""
    return np.asarray(y_true[:, None] == np.arange(num_classes))


# --- Probabilities ---------------------------------------------------------------------------


def brier_score_loss(
    y_true: Int[np.ndarray, " case"],
    probabilities: Float[np.ndarray, "case class"],
    *,
    weights: Weights | None = None,
) -> Values:
    """Mean squared error of the probabilities.

    Two classes: of the positive class alone, in [0, 1]. More classes: summed over the classes, in
    [0, 2]. So does scikit-learn.

    Source: brier1950.
    """
    error = (probabilities - one_hot(y_true, num_classes=probabilities.shape[1])) ** 2
    scale = 0.5 if probabilities.shape[1] == 2 else 1.0
    return weighted_mean(error.sum(-1) * scale, weights)


def log_loss(
    y_true: Int[np.ndarray, " case"],
    probabilities: Float[np.ndarray, "case class"],
    *,
    weights: Weights | None = None,
) -> Values:
    """Mean negative log probability of the true class.

    A probability of zero is taken as float64's smallest step above it, as in scikit-learn.
    """
    of_truth = np.take_along_axis(probabilities, y_true[:, None], axis=1)[:, 0]
    smallest = np.finfo(np.float64).eps
    return weighted_mean(-np.log(np.clip(of_truth, smallest, 1 - smallest)), weights)
