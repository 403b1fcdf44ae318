"""What the figures are drawn from: plain lists, ready for JSON."""

import numpy as np

from vitrail.evaluation.measure import Sample
from vitrail.metrics.calibration import binned, equal_width_edges
from vitrail.metrics.classification import confusion_matrix, cumulative_counts
from vitrail.metrics.decision import net_benefit
from vitrail.metrics.interval import wilson

_MOST_POINTS = 400


def curves(sample: Sample, classes: tuple[str, ...]) -> dict[str, object]:
    """Give the confusion matrix, calibration, and by class ROC and precision-recall.

    In a binary task also the decision curve.
    """
    confusion = confusion_matrix(sample.y_true, sample.decision, num_classes=len(classes))
    shown = range(len(classes)) if sample.positive is None else [sample.positive]
    drawn: dict[str, object] = {
        "confusion": {"classes": list(classes), "counts": confusion.astype(int).tolist()},
        "roc": {classes[k]: _roc(sample, k) for k in shown},
        "precision_recall": {classes[k]: _precision_recall(sample, k) for k in shown},
        "calibration": calibration_curve(sample),
    }
    if sample.positive is not None:
        drawn["decision"] = _decision(sample, sample.positive)
    return drawn


def _thin(length: int) -> np.ndarray:
    """Choose at most :data:`_MOST_POINTS` places, both ends among them."""
    return np.unique(np.linspace(0, length - 1, min(length, _MOST_POINTS)).astype(int))


def _roc(sample: Sample, target: int) -> dict[str, list[float]] | None:
    truth = sample.y_true == target
    if truth.all() or not truth.any():
        return None
    false_positive, true_positive, _ = cumulative_counts(truth, sample.probabilities[:, target])
    keep = _thin(len(true_positive) + 1)
    return {
        "false_positive_rate": (np.append(0, false_positive) / (~truth).sum())[keep].tolist(),
        "true_positive_rate": (np.append(0, true_positive) / truth.sum())[keep].tolist(),
    }


def _precision_recall(sample: Sample, target: int) -> dict[str, list[float]] | None:
    truth = sample.y_true == target
    if not truth.any():
        return None
    false_positive, true_positive, _ = cumulative_counts(truth, sample.probabilities[:, target])
    keep = _thin(len(true_positive))
    return {
        "recall": (true_positive / truth.sum())[keep].tolist(),
        "precision": (true_positive / (true_positive + false_positive))[keep].tolist(),
    }


def calibration_curve(sample: Sample) -> list[dict[str, float]]:
    """Give mean stated probability and observed frequency of each filled bin, with Wilson bands."""
    outcome, stated = sample.stated()
    count, happened, total = binned(outcome, stated, equal_width_edges())
    points = []
    for n, k, s in zip(count.tolist(), happened.tolist(), total.tolist(), strict=True):
        if n > 0:
            low, high = wilson(k, n)
            point = {"probability": s / n, "frequency": k / n, "low": low, "high": high, "n": n}
            points.append(point)
    return points


def _decision(sample: Sample, positive: int) -> dict[str, list[float]]:
    """Give net benefit over thresholds, of the model and of treating everybody."""
    truth, score = sample.y_true == positive, sample.probabilities[:, positive]
    thresholds = np.arange(0.01, 1.0, 0.01)
    everybody = np.ones(len(truth))
    return {
        "threshold": [round(float(t), 2) for t in thresholds],
        "model": [float(net_benefit(truth, score, threshold=t)) for t in thresholds.tolist()],
        "treat_all": [
            float(net_benefit(truth, everybody, threshold=t)) for t in thresholds.tolist()
        ],
    }
