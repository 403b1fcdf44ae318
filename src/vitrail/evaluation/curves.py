"""What the figures are drawn from: plain lists, ready for JSON, with bands over resamples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vitrail.evaluation.measure import Sample
from vitrail.metrics.calibration import binned, equal_width_edges
from vitrail.metrics.classification import confusion_matrix, cumulative_counts, ratio
from vitrail.metrics.decision import net_benefit
from vitrail.metrics.interval import resample_weights, wilson

_MOST_POINTS = 400
_NUMBERS_AT_ONCE = 2_000_000
_TIE = 1e-12
Curve = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """How pointwise 95 % bands are made: of which clusters, how often, from which seed."""

    clusters: Int[np.ndarray, " case"]
    resamples: int = 500
    seed: int = 0

    def weights(self) -> Iterator[Float[np.ndarray, "resample case"]]:
        """Draw weights block by block."""
        generator = np.random.default_rng(self.seed)
        at_once = max(1, _NUMBERS_AT_ONCE // len(self.clusters))
        for start in range(0, self.resamples, at_once):
            count = min(at_once, self.resamples - start)
            drawn = resample_weights(int(self.clusters.max()) + 1, count, generator=generator)
            yield drawn[:, self.clusters]

    def ends(
        self, curve: Callable[..., Float[np.ndarray, "resample point"]]
    ) -> dict[str, list[float]]:
        """Give the middle 95 % of ``curve(weights)`` at each point."""
        found = np.concatenate([curve(weights) for weights in self.weights()])
        kept = found[~np.isnan(found).any(1)]
        if not len(kept):
            return {}
        low, high = np.quantile(kept, [0.025, 0.975], axis=0)
        return {"low": low.tolist(), "high": high.tolist()}


def curves(sample: Sample, classes: tuple[str, ...], *, band: Band) -> dict[str, object]:
    """Give the confusion matrix, calibration, and by class ROC and precision-recall.

    In a binary task also the decision curve.
    """
    confusion = confusion_matrix(sample.y_true, sample.decision, num_classes=len(classes))
    shown = range(len(classes)) if sample.positive is None else [sample.positive]
    truths = {k: (sample.y_true == k, sample.probabilities[:, k]) for k in shown}
    drawn: dict[str, object] = {
        "confusion": {"classes": list(classes), "counts": confusion.astype(int).tolist()},
        "roc": {classes[k]: roc_curve(*one, band=band) for k, one in truths.items()},
        "precision_recall": {
            classes[k]: precision_recall_curve(*one, band=band) for k, one in truths.items()
        },
        "calibration": calibration_curve(sample),
    }
    if sample.positive is not None:
        drawn["decision"] = decision_curve(*truths[sample.positive], band=band)
    return drawn


def _thin(length: int) -> np.ndarray:
    """Choose at most :data:`_MOST_POINTS` places, both ends among them."""
    return np.unique(np.linspace(0, length - 1, min(length, _MOST_POINTS)).astype(int))


def _counts(
    truth: Bool[np.ndarray, " case"],
    score: Float[np.ndarray, " case"],
    *,
    weights: Float[np.ndarray, "resample case"],
) -> tuple[Float[np.ndarray, "resample threshold"], Float[np.ndarray, "resample threshold"]]:
    """Count false and true positives, starting where nothing is called positive."""
    counts = cumulative_counts(truth, score, weights=weights)[:2]
    false_positive, true_positive = (np.pad(one, ((0, 0), (1, 0))) for one in counts)
    return false_positive, true_positive


def roc_curve(
    truth: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"], *, band: Band
) -> Curve | None:
    """Give the ROC curve; the band is of the true positive rate at each false positive rate."""
    if truth.all() or not truth.any():
        return None

    def rates(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        false_positive, true_positive = _counts(truth, score, weights=weights)
        return (
            ratio(false_positive, false_positive[:, -1:]),
            ratio(true_positive, true_positive[:, -1:]),
        )

    x, y = (one[0] for one in rates(np.ones((1, len(truth)))))
    keep = _thin(len(x))

    def at_points(weights: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                up[np.searchsorted(across, x[keep] + _TIE, side="right") - 1]
                for across, up in zip(*rates(weights), strict=True)
            ]
        )

    drawn = {"false_positive_rate": x[keep].tolist(), "true_positive_rate": y[keep].tolist()}
    return drawn | band.ends(at_points)


def precision_recall_curve(
    truth: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"], *, band: Band
) -> Curve | None:
    """Give precision at each recall; the band is of the precision at the same recall."""
    if not truth.any():
        return None

    def rates(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        false_positive, true_positive = (
            one[:, 1:] for one in _counts(truth, score, weights=weights)
        )
        recall = ratio(true_positive, true_positive[:, -1:])
        called = true_positive + false_positive
        return recall, np.where(called > 0, ratio(true_positive, called), 1.0)

    x, y = (one[0] for one in rates(np.ones((1, len(truth)))))
    keep = _thin(len(x))

    def at_points(weights: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                up[np.minimum(np.searchsorted(across, x[keep] - _TIE), len(up) - 1)]
                if not np.isnan(across).any()
                else np.full(len(keep), np.nan)
                for across, up in zip(*rates(weights), strict=True)
            ]
        )

    return {"recall": x[keep].tolist(), "precision": y[keep].tolist()} | band.ends(at_points)


def calibration_curve(sample: Sample) -> list[dict[str, float]]:
    """Give mean stated probability and observed frequency of each filled bin, with Wilson bands."""
    outcome, stated = sample.stated()
    count, happened, total = binned(outcome, stated, edges=equal_width_edges())
    points = []
    for n, k, s in zip(count.tolist(), happened.tolist(), total.tolist(), strict=True):
        if n > 0:
            low, high = wilson(k, n)
            point = {"probability": s / n, "frequency": k / n, "low": low, "high": high, "n": n}
            points.append(point)
    return points


def decision_curve(
    truth: Bool[np.ndarray, " case"], score: Float[np.ndarray, " case"], *, band: Band
) -> Curve:
    """Give net benefit over thresholds, of the model (with its band) and of treating everybody."""
    thresholds = np.round(np.arange(0.01, 1.0, 0.01), 2)

    def worth(weights: np.ndarray, probability: np.ndarray = score) -> np.ndarray:
        return np.stack(
            [
                net_benefit(truth, probability, weights=weights, threshold=t)
                for t in thresholds.tolist()
            ],
            axis=-1,
        )

    once = np.ones((1, len(truth)))
    return {
        "threshold": thresholds.tolist(),
        "model": worth(once)[0].tolist(),
        "treat_all": worth(once, np.ones(len(truth)))[0].tolist(),
    } | band.ends(worth)
