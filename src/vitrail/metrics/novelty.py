"""Is a new picture unlike those that a model was trained on?

Two looks at it: a fingerprint of the intensities (a scanner, a window or a color that training
never showed) and the model's own features. For both, distance is Mahalanobis's to the training
cases, and the threshold is a quantile of held-out cases, so that the rate of false alarms is
measured and not hoped for.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vitrail.errors import InputError
from vitrail.metrics.interval import wilson

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SHRINKAGE = 0.1
_FEWEST = 20


def intensity_fingerprint(
    picture: Float[np.ndarray, "channel height width"],
) -> Float[np.ndarray, " feature"]:
    """Describe intensities, channel by channel: mean, spread, quantiles, shares of black and white.

    Args:
        picture: Values in [0, 1].
    """
    values = picture.reshape(len(picture), -1).astype(np.float64)
    parts = [
        values.mean(1),
        values.std(1),
        *np.quantile(values, _QUANTILES, axis=1),
        (values <= 1 / 255).mean(1),
        (values >= 254 / 255).mean(1),
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingRange:
    """What training cases look like, and how far is too far.

    Attributes:
        center: Mean of the training cases.
        precision: Inverse of their shrunken covariance.
        threshold: Distance above which a case is out of range.
        false_alarms: Share of the cases kept for it that lie above the threshold, and its ends.
        num_measured: How many cases that rate was measured on.
    """

    center: Float[np.ndarray, " feature"]
    precision: Float[np.ndarray, "feature feature"]
    threshold: float
    false_alarms: tuple[float, float, float]
    num_measured: int

    def distance(self, features: Float[np.ndarray, "case feature"]) -> Float[np.ndarray, " case"]:
        """Give Mahalanobis's distance of each case from the training cases."""
        away = features - self.center
        return np.asarray(np.sqrt(np.einsum("ni,ij,nj->n", away, self.precision, away)))

    def is_outside(self, features: Float[np.ndarray, "case feature"]) -> Bool[np.ndarray, " case"]:
        """Tell which cases are unlike the training cases."""
        return self.distance(features) > self.threshold


def fit_training_range(
    training: Float[np.ndarray, "case feature"],
    held_out: Float[np.ndarray, "held feature"],
    *,
    false_alarm_rate: float = 0.05,
    seed: int = 0,
) -> TrainingRange:
    """Learn the range of the training cases.

    Half of the held-out cases choose the threshold, the other half measures how often it warns of
    cases that are like the training set.

    Args:
        training: Features of the training cases.
        held_out: Features of validation cases; twenty at least.
        false_alarm_rate: Wanted share of warnings among such cases.
        seed: Of the halving.

    Raises:
        InputError: If there are too few cases or a feature is not finite.

    Source: lee2018 (here with one center for all classes).
    """
    if not (np.isfinite(training).all() and np.isfinite(held_out).all()):
        rule = "features are finite"
        raise InputError("features", "NaN or infinity", rule, "leave unreadable pictures out")
    if len(training) < 2 or len(held_out) < _FEWEST:
        came = f"{len(training)} training and {len(held_out)} held-out cases"
        rule = f"2 and {_FEWEST} at least are needed to measure false alarms"
        raise InputError("held_out", came, rule, "go without the out-of-range warning")
    covariance = np.atleast_2d(np.cov(training, rowvar=False))
    scale = np.diag(np.diag(covariance) + 1e-9)
    shrunken = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * scale + 1e-9 * np.eye(len(scale))
    order = np.random.default_rng(seed).permutation(len(held_out))
    choosing, measuring = held_out[order[::2]], held_out[order[1::2]]
    plain = TrainingRange(
        center=training.mean(0),
        precision=np.linalg.inv(shrunken),
        threshold=np.inf,
        false_alarms=(0.0, 0.0, 1.0),
        num_measured=len(measuring),
    )
    threshold = float(np.quantile(plain.distance(choosing), 1 - false_alarm_rate, method="higher"))
    alarms = int((plain.distance(measuring) > threshold).sum())
    return TrainingRange(
        center=plain.center,
        precision=plain.precision,
        threshold=threshold,
        false_alarms=(alarms / len(measuring), *wilson(float(alarms), float(len(measuring)))),
        num_measured=len(measuring),
    )
