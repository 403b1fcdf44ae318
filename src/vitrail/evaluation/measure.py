"""All metrics of one model on one set, on any number of resamples at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vitrail.metrics import classification as metric
from vitrail.metrics.calibration import (
    calibration_deviations,
    calibration_intercept_slope,
    equal_count_edges,
)

PROPORTIONS = ("accuracy", "sensitivity", "specificity", "precision", "negative_predictive_value")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What one model said of one set, with the decisions taken.

    Attributes:
        y_true: Class indices.
        probabilities: Rows sum to one.
        decision: Class indices decided.
        positive: Index of the positive class in a binary task, else None.
    """

    y_true: Int[np.ndarray, " case"]
    probabilities: Float[np.ndarray, "case class"]
    decision: Int[np.ndarray, " case"]
    positive: int | None

    def stated(self) -> tuple[Bool[np.ndarray, " case"], Float[np.ndarray, " case"]]:
        """Return the outcome and the probability stated for it.

        Binary: the positive class. More classes: whether the likeliest class was right.
        """
        if self.positive is not None:
            return self.y_true == self.positive, self.probabilities[:, self.positive]
        return self.y_true == self.probabilities.argmax(1), self.probabilities.max(1)


def measure(sample: Sample, weights: Float[np.ndarray, "*resample case"]) -> dict[str, Any]:
    """Give every metric; those that are sums of sizes as their signed parts, on a last axis."""
    classes = sample.probabilities.shape[1]
    confusion = metric.confusion_matrix(
        sample.y_true, sample.decision, num_classes=classes, weights=weights
    )
    target = sample.positive
    values: dict[str, Any] = {
        "roc_auc_score": _by_rank(metric.roc_auc_score, sample, weights=weights),
        "average_precision_score": _by_rank(
            metric.average_precision_score, sample, weights=weights
        ),
        "accuracy": metric.accuracy(confusion),
        "balanced_accuracy": metric.balanced_accuracy(confusion),
        "sensitivity": metric.sensitivity(confusion, target=target),
        "specificity": metric.specificity(confusion, target=target),
        "precision": metric.precision(confusion, target=target),
        "negative_predictive_value": metric.negative_predictive_value(confusion, target=target),
        "f1_score": metric.f1_score(confusion, target=target),
        "f1_macro": metric.f1_score(confusion),
        "f1_weighted": metric.f1_weighted(confusion),
        "matthews_corrcoef": metric.matthews_corrcoef(confusion),
        "cohen_kappa_score": metric.cohen_kappa_score(confusion),
    }
    if target is not None:
        # A class that is absent leaves these without meaning; an average would hide it.
        undefined = np.isnan(values["sensitivity"]) | np.isnan(values["specificity"])
        for name in ("balanced_accuracy", "f1_macro", "matthews_corrcoef", "cohen_kappa_score"):
            values[name] = np.where(undefined, np.nan, values[name])
    return values | measure_probabilities(sample, weights)


def _by_rank(function: metric.BinaryMetric, sample: Sample, *, weights: Any) -> Any:
    """Give a rank metric: of the positive class, or averaged one-vs-rest."""
    if sample.positive is not None:
        score = sample.probabilities[:, sample.positive]
        return function(sample.y_true == sample.positive, score, weights=weights)
    truth = metric.one_hot(sample.y_true, num_classes=sample.probabilities.shape[1])
    return metric.macro_average(function, truth, y_score=sample.probabilities, weights=weights)


def measure_probabilities(
    sample: Sample, weights: Float[np.ndarray, "*resample case"]
) -> dict[str, Any]:
    """Give the metrics that calibration changes; see :func:`measure` on sums of sizes."""
    outcome, stated = sample.stated()
    edges = equal_count_edges(stated)
    values: dict[str, Any] = {
        "brier_score_loss": metric.brier_score_loss(
            sample.y_true, sample.probabilities, weights=weights
        ),
        "log_loss": metric.log_loss(sample.y_true, sample.probabilities, weights=weights),
        "expected_calibration_error": calibration_deviations(outcome, stated, weights=weights),
        "adaptive_calibration_error": calibration_deviations(
            outcome, stated, weights=weights, edges=edges
        ),
    }
    if sample.positive is not None:
        intercept, slope = calibration_intercept_slope(outcome, stated, weights=weights)
        values |= {"calibration_intercept": intercept, "calibration_slope": slope}
    return values


def proportions(sample: Sample) -> dict[str, tuple[float, float]]:
    """Give successes and trials of the metrics that are proportions of cases."""
    right = sample.y_true == sample.decision
    counts = {"accuracy": (float(right.sum()), float(len(right)))}
    if sample.positive is not None:
        truth, decided = sample.y_true == sample.positive, sample.decision == sample.positive
        among = zip(PROPORTIONS[1:], (truth, ~truth, decided, ~decided), strict=True)
        counts |= {name: (float(right[part].sum()), float(part.sum())) for name, part in among}
    return counts
