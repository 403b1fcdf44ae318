"""Means over cases with their intervals: cases of one patient are drawn together."""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, Int

from vitrail.metrics.interval import FEW_CLUSTERS, Draws, bootstrap, bootstrap_interval, wilson
from vitrail.records import Estimate

Key = TypeVar("Key", bound=Hashable)
Unit = Literal["patient", "image"]
Values = Float[np.ndarray, " case"]

RESAMPLES = 2000
FEW = 10
"""Below this many patients or pictures every interval carries a warning."""


def mean_estimates(
    values: Mapping[Key, Values],
    *,
    weights: Mapping[Key, Values] | None = None,
    clusters: Int[np.ndarray, " case"] | None = None,
    proportions: Collection[Key] = (),
    unit: Unit = "patient",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[Key, Estimate]:
    """Estimate means over cases, all on the same resamples of whole clusters.

    Args:
        values: Numbers a case under any keys; NaN where a case has none.
        weights: How many things each case's number stands for; by default one.
        clusters: Patient of each case, numbered from 0 without a gap; by default each case is one.
        proportions: Keys whose numbers count successes.
        unit: What clusters are.
        resamples: Of the bootstrap.
        seed: Of the resampling.

    Returns:
        Of each key the mean. ``n`` counts the clusters that have a number. Where every case gave
        the same number no interval can be resampled: proportions get Wilson's, others none.
    """
    first = next(iter(values.values()))
    unit = "image" if clusters is None else unit
    clusters = np.arange(len(first)) if clusters is None else clusters
    counts = {
        key: np.isfinite(found) * (1.0 if weights is None else weights[key])
        for key, found in values.items()
    }
    draws = bootstrap(_means(values, counts), clusters, resamples=resamples, seed=seed)
    found = {}
    for key in values:
        n = len(np.unique(clusters[counts[key] > 0]))
        low, high, method = bootstrap_interval(_of_some(draws[key], n))
        value, reason = draws[key].value, ""
        if method == "none":
            reason = "no case has this number" if n == 0 else "every case gave the same number"
            if key in proportions and value in {0.0, 1.0}:
                (low, high), method, reason = wilson(value * n, float(n)), "Wilson", ""
        if 0 < n < FEW and method != "none":
            reason = f"fewer than {FEW} {unit}s: the interval is a guess"
        words = f"{method}, bootstrap over {unit}s" if "Wilson" not in method else method
        found[key] = Estimate(value=value, low=low, high=high, n=n, method=words, reason=reason)
    return found


def _of_some(draws: Draws, n: int) -> Draws:
    """Take a number that ``n`` clusters have for drawn from those alone."""
    jackknife = draws.jackknife if n >= FEW_CLUSTERS else np.empty(0)
    return replace(draws, num_clusters=n, jackknife=jackknife)


def _means(
    values: Mapping[Key, Values], counts: Mapping[Key, Values]
) -> Callable[[Float[np.ndarray, "resample case"]], dict[Key, Float[np.ndarray, "*"]]]:
    """Return the weighted means as a function of the resampling weights."""
    sums = {key: np.nan_to_num(found) * counts[key] for key, found in values.items()}

    def statistic(drawn: Float[np.ndarray, "resample case"]) -> dict[Key, np.ndarray]:
        with np.errstate(invalid="ignore"):  # a resample without any case that has the number
            return {key: (drawn @ sums[key]) / (drawn @ counts[key]) for key in values}

    return statistic


def span(estimate: Estimate) -> str:
    """Write an interval's ends, or that there is none."""
    if not np.isfinite(estimate.low):
        return "no interval"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def to_plain(estimate: Estimate) -> dict[str, object]:
    """Return an estimate as JSON can hold it: NaN becomes null."""

    def plain(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "value": plain(estimate.value),
        "low": plain(estimate.low),
        "high": plain(estimate.high),
        "n": estimate.n,
        "method": estimate.method,
        "reason": estimate.reason,
    }
