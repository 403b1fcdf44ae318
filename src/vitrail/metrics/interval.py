"""How sure a number is: the bootstrap over clusters, and closed forms where they apply.

Cases of one patient resemble each other, so whole clusters (patients) are drawn, not cases. A
resample is a row of weights: how often each cluster was drawn. Everything measured in one call of
:func:`bootstrap` sees the same resamples, so differences of two models come out paired.
"""

import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from vitrail.errors import InputError
from vitrail.records import Progress, no_progress

Key = TypeVar("Key", bound=Hashable)
Statistic = Callable[[Float[np.ndarray, "resample case"]], Mapping[Key, Float[np.ndarray, "*"]]]

LEVEL = 0.95
FEW_CLUSTERS = 30
"""Below this many clusters the bootstrap is flagged: its intervals are too narrow."""
_MANY_CLUSTERS = 2000
"""Above this many, BCa and percentile intervals no longer differ and the jackknife is spared."""
_WEIGHTS_AT_ONCE = 500_000
_ROUNDING = 1e-12
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """A number, what resampling made of it, and what leaving one cluster out made of it.

    Attributes:
        value: The number on all cases.
        draws: The number on each resample; NaN where a resample does not define it.
        jackknife: The number without each cluster in turn; empty where BCa is not wanted.
        num_clusters: How many clusters were drawn from.
        parts: Of a number that is a sum of sizes, ``|a| + |b| + …``: its signed parts, last of them
            those of all cases; see :func:`folded_interval`. None for any other number.
    """

    value: float
    draws: Float[np.ndarray, " resample"]
    jackknife: Float[np.ndarray, " cluster"]
    num_clusters: int
    parts: Float[np.ndarray, "resample_and_all part"] | None = None

    def __sub__(self, other: "Draws") -> "Draws":
        """Return the paired difference; what only rounding left of it is 0."""

        def difference(a: Any, b: Any) -> Any:
            return np.where(np.abs(a - b) < _ROUNDING, 0.0, a - b)

        return Draws(
            float(difference(self.value, other.value)),
            difference(self.draws, other.draws),
            difference(self.jackknife, other.jackknife),
            self.num_clusters,
        )

    @property
    def is_constant(self) -> bool:
        """Tell whether every resample gave one same value, so that no interval can be stated."""
        finite = self.draws[np.isfinite(self.draws)]
        return len(finite) == 0 or bool(np.ptp(finite) < _ROUNDING)


def mean_draws(runs: list[Draws]) -> Draws:
    """Average over runs (seeds): the draws of the mean, not the mean of the ends."""
    parts = [run.parts / len(runs) for run in runs if run.parts is not None]
    return Draws(
        float(np.mean([run.value for run in runs])),
        np.mean([run.draws for run in runs], axis=0),
        np.mean([run.jackknife for run in runs], axis=0),
        runs[0].num_clusters,
        np.concatenate(parts, axis=1) if parts else None,
    )


def resample_weights(
    num_clusters: int, num_resamples: int, *, generator: np.random.Generator
) -> Float[np.ndarray, "resample cluster"]:
    """Draw clusters with replacement; a row tells how often each was drawn."""
    drawn = generator.integers(num_clusters, size=(num_resamples, num_clusters))
    offset = np.arange(num_resamples)[:, None] * num_clusters
    counts = np.bincount((drawn + offset).ravel(), minlength=num_resamples * num_clusters)
    return counts.reshape(num_resamples, num_clusters).astype(np.float64)


def bootstrap(
    statistic: Statistic[Key],
    clusters: Int[np.ndarray, " case"],
    *,
    resamples: int = 2000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[Key, Draws]:
    """Measure on all cases, on resampled clusters, and without each cluster in turn.

    Args:
        statistic: Takes weights ``[resample case]``, returns the values ``[resample]`` of each key,
            or of a sum of sizes its signed parts ``[resample part]``.
        clusters: Cluster of each case, numbered from 0 without a gap.
        resamples: How many resamples.
        seed: Of the resampling.
        progress: Told after every block of resamples.

    Source: efron1993, chapters 13 and 14; field2007 (drawing whole clusters).
    """
    num_clusters = int(clusters.max()) + 1
    generator = np.random.default_rng(seed)
    values = statistic(np.ones((1, len(clusters))))
    at_once = max(1, _WEIGHTS_AT_ONCE // len(clusters))

    def resampled() -> Iterator[Float[np.ndarray, "resample case"]]:
        for start in range(0, resamples, at_once):
            count = min(at_once, resamples - start)
            drawn = resample_weights(num_clusters, count, generator=generator)
            progress("bootstrap", done=start + count, total=resamples)
            yield drawn[:, clusters]

    def left_out() -> Iterator[Float[np.ndarray, "resample case"]]:
        wanted = num_clusters if FEW_CLUSTERS <= num_clusters <= _MANY_CLUSTERS else 0
        for start in range(0, wanted, at_once):
            out = np.arange(start, min(start + at_once, wanted))
            yield (clusters != out[:, None]).astype(np.float64)

    draws = _measured(statistic, resampled())
    jackknife = _measured(statistic, left_out())
    nothing = {key: np.empty((0, *value.shape[1:])) for key, value in values.items()}
    return {
        key: _gathered(value, draws[key], (nothing | jackknife)[key], num_clusters=num_clusters)
        for key, value in values.items()
    }


def _gathered(
    value: Float[np.ndarray, "one *part"],
    draws: Float[np.ndarray, "resample *part"],
    jackknife: Float[np.ndarray, "cluster *part"],
    *,
    num_clusters: int,
) -> Draws:
    """Make a record of a number's values, or of the signed parts of a sum of sizes."""
    if value.ndim == 1:
        return Draws(float(value[0]), draws, jackknife, num_clusters)
    plain = [np.abs(one).sum(-1) for one in (value, draws, jackknife)]
    parts = np.concatenate([draws, value])
    return Draws(float(plain[0][0]), plain[1], plain[2], num_clusters, parts)


def _measured(
    statistic: Statistic[Key], blocks: Iterator[Float[np.ndarray, "resample case"]]
) -> dict[Key, Float[np.ndarray, "resample *part"]]:
    """Measure block by block, as many at a time as there are cores; numpy lets threads run."""
    found: dict[Key, list[np.ndarray]] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        while ahead := list(islice(blocks, _THREADS)):
            for values in pool.map(statistic, ahead):
                for key, value in values.items():
                    found.setdefault(key, []).append(value)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def percentile(draws: Draws, *, level: float = LEVEL) -> tuple[float, float]:
    """Give the percentile interval: what the middle ``level`` of the resamples span."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws.draws, [tail, 1 - tail])
    return float(low), float(high)


def bias_corrected_accelerated(draws: Draws, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Give the BCa interval, corrected for median bias and skewness.

    Returns:
        Its ends, or None where it is not defined (no jackknife, or the value lies at an end of the
        resamples).

    Source: efron1987, eq. 2.3 and 6.6.
    """
    finite = draws.draws[np.isfinite(draws.draws)]
    jackknife = draws.jackknife[np.isfinite(draws.jackknife)]
    if len(jackknife) < 2 or len(finite) == 0 or np.ptp(jackknife) < _ROUNDING:
        return None
    below = np.mean(finite < draws.value) + np.mean(finite == draws.value) / 2
    if not 1 / len(finite) < below < 1 - 1 / len(finite):
        return None
    bias = ndtri(below)
    distance = jackknife.mean() - jackknife
    acceleration = (distance**3).sum() / (6 * (distance**2).sum() ** 1.5)
    tail = ndtri((1 - level) / 2)
    shifted = bias + np.array([tail, -tail])
    shares = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(finite, shares)
    return float(low), float(high)


_LARGEST_FACTOR = 16.0
_HALVINGS = 30


def folded_interval(draws: Draws, *, level: float = LEVEL) -> tuple[float, float, float]:
    """Give a sum of sizes without the part that chance adds, and its interval.

    A sum of sizes ``T = |d_1| + |d_2| + …`` of noisy parts is too high, its resamples are so twice,
    and both the percentile and the BCa interval can lie wholly above the truth. So the interval is
    read off by inverting a test: of all true values ``f T``, whose parts are ``f d``, those are
    kept under which the ``T`` that was found is no surprise, the noise of the parts being that of
    the resamples. The value is where ``T`` would be the median.

    Args:
        draws: With their parts.
        level: Of the interval.

    Returns:
        The value and the interval's ends; ``low <= value <= high``, and ``low`` is 0 where no true
        miscalibration is needed to explain ``T``.

    Source: carpenter1999 (test inversion by the bootstrap, one parameter).

    Differs: sun2024 derives an asymptotic interval of the squared error of independent cases.
    """
    if draws.parts is None:
        rule, remedy = "a sum of sizes comes with its signed parts", "use bootstrap_interval"
        raise InputError("draws", "no parts", rule, remedy)
    found = draws.parts[-1]
    noise = draws.parts[:-1] - found
    tail = (1 - level) / 2

    def factor(chance: float) -> float:
        low, high = 0.0, _LARGEST_FACTOR
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = np.mean(np.abs(middle * found + noise).sum(1) <= draws.value)
            low, high = (middle, high) if below > chance else (low, middle)
        return round(low, 6)

    low, value, high = (factor(chance) * draws.value for chance in (1 - tail, 0.5, tail))
    return value, low, high


def bootstrap_interval(draws: Draws, *, level: float = LEVEL) -> tuple[float, float, str]:
    """Give the BCa interval, or the percentile one where BCa is not defined or not needed.

    Returns:
        Its ends (NaN where every resample gave one same value) and the method's name.
    """
    if draws.is_constant or not np.isfinite(draws.value):
        return float("nan"), float("nan"), "none"
    corrected = bias_corrected_accelerated(draws, level=level)
    low, high = corrected or percentile(draws, level=level)
    name = "BCa" if corrected else "percentile"
    if draws.num_clusters < FEW_CLUSTERS:
        name += " (few clusters: too narrow)"
    return low, high, name


def wilson(successes: float, trials: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Give Wilson's score interval of a proportion.

    Source: wilson1927.

    Example:
        >>> low, high = wilson(10.0, 10.0)
        >>> round(low, 3), round(high, 3)
        (0.722, 1.0)
    """
    if trials <= 0:
        return float("nan"), float("nan")
    z = float(-ndtri((1 - level) / 2))
    share = successes / trials
    center = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / (1 + z**2 / trials)
    return float(max(center - half, 0.0)), float(min(center + half, 1.0))


def delong_components(
    y_true: Bool[np.ndarray, " case"], y_score: Float[np.ndarray, "score case"]
) -> tuple[Float[np.ndarray, " score"], Float[np.ndarray, "score score"]]:
    """Give the areas under the ROC curves of scores of the same cases, and their covariance.

    Source: delong1988, eq. 4 to 6; sun2014 (by ranks, in O(n log n)).
    """
    positive, negative = y_score[:, y_true], y_score[:, ~y_true]
    m, n = positive.shape[1], negative.shape[1]
    rank = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    of_positive = (rank[:, :m] - rankdata(positive, axis=1)) / n
    of_negative = 1 - (rank[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.atleast_2d(np.cov(of_positive)) / m + np.atleast_2d(np.cov(of_negative)) / n
    return of_positive.mean(1), covariance


def delong(
    y_true: Bool[np.ndarray, " case"],
    y_score: Float[np.ndarray, " case"],
    *,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Give DeLong's interval of one ROC area, one score a patient, on the logit scale.

    Needs two cases of each class. On the logit scale the ends stay inside (0, 1) and the coverage
    near 1 is better than on the plain scale. Where the classes are fully separated the variance is
    zero and :func:`separated` is used instead.

    Source: delong1988; pepe2003 (logit scale).
    """
    (area,), ((variance,),) = delong_components(y_true, y_score[None])
    positives, negatives = int(y_true.sum()), int((~y_true).sum())
    if variance <= 0 or not 0 < area < 1:
        return separated(float(area), positives=positives, negatives=negatives, level=level)
    half = -ndtri((1 - level) / 2) * np.sqrt(variance) / (area * (1 - area))
    return float(expit(logit(area) - half)), float(expit(logit(area) + half))


def separated(
    area: float, *, positives: int, negatives: int, level: float = LEVEL
) -> tuple[float, float]:
    """Give Newcombe's score interval of an ROC area, which does not vanish at 0 or 1.

    It solves ``|area - t| = z * sqrt(V(t))`` for t, where V is Hanley and McNeil's variance with
    both sample sizes replaced by their mean.

    Source: newcombe2006, method 5.
    """
    z = float(-ndtri((1 - level) / 2))
    extra = (positives + negatives) / 2 - 1

    def is_outside(t: Float[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
        spread = t * (1 - t) * (1 + extra * ((1 - t) / (2 - t) + t / (1 + t)))
        return np.asarray((area - t) ** 2 > z**2 * spread / (positives * negatives))

    candidates = np.linspace(0.0, 1.0, 100_001)
    inside = candidates[~is_outside(candidates)]
    return float(inside[0]), float(inside[-1])
