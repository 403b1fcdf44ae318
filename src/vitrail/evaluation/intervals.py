"""Numbers with intervals: all runs of one set are resampled together, so that they stay paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from vitrail.evaluation.measure import measure, measure_probabilities, proportions
from vitrail.evaluation.scored import Run
from vitrail.evaluation.unit import cluster_of
from vitrail.metrics.classification import predictive_values
from vitrail.metrics.interval import (
    FEW_CLUSTERS,
    Draws,
    bootstrap,
    bootstrap_interval,
    delong,
    folded_interval,
    mean_draws,
    separated,
    wilson,
)
from vitrail.records import Estimate, Progress

Key = tuple[int, str]
"""Place of the run among its set's runs, and the metric's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made: of which clusters, how often, from which seed."""

    clusters: Mapping[str, str]
    noun: str
    resamples: int
    seed: int
    progress: Progress


def by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Gather the seeds of each model, in order of first appearance."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.model, []).append(run)
    return models


def cluster_numbers(names: Sequence[str], clusters: Mapping[str, str]) -> Int[np.ndarray, " case"]:
    """Number the clusters of cases from 0."""
    own = np.array([cluster_of(name, clusters) for name in names])
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


def draw(runs: Sequence[Run], how: Resampling, *, kind: str = "sample") -> dict[Key, Draws]:
    """Resample all runs together; keys are (place of the run, metric).

    Args:
        runs: Runs of the same cases.
        how: Of the resamples.
        kind: ``calibrated`` or ``vector_scaled`` for the probability metrics after that.
    """

    def statistic(weights: np.ndarray) -> dict[Key, np.ndarray]:
        values: dict[Key, np.ndarray] = {}
        for place, run in enumerate(runs):
            measured = measure if kind == "sample" else measure_probabilities
            found = measured(getattr(run, kind), weights)
            values |= {(place, name): value for name, value in found.items()}
        return values

    return bootstrap(
        statistic,
        cluster_numbers(runs[0].case_ids, how.clusters),
        resamples=how.resamples,
        seed=how.seed,
        progress=how.progress,
    )


def at_prevalence(draws: Mapping[Key, Draws], prevalence: float) -> dict[Key, Draws]:
    """Add the predictive values that the model would have at a stated prevalence."""
    found: dict[Key, Draws] = {}
    for (place, name), sensitive in draws.items():
        if name != "sensitivity":
            continue
        specific = draws[place, "specificity"]
        parts = [
            predictive_values(
                getattr(sensitive, part), getattr(specific, part), prevalence=prevalence
            )
            for part in ("value", "draws", "jackknife")
        ]
        for which, metric in enumerate(("precision", "negative_predictive_value")):
            value, drawn, jackknife = (part[which] for part in parts)
            found[place, f"{metric}_at_prevalence"] = Draws(
                float(value), drawn, jackknife, sensitive.num_clusters
            )
    return found


def estimate(
    name: str,
    draws: Sequence[Draws],
    *,
    runs: Sequence[Run],
    how: Resampling,
    closed: bool = True,
) -> Estimate:
    """Turn one metric's draws (one a seed) into a number with its interval."""
    mean = mean_draws(list(draws))
    n = len(runs[0].case_ids)
    spread = float(np.std([d.value for d in draws], ddof=1)) if len(draws) > 1 else None
    if not np.isfinite(mean.value):
        reason = "not defined on these cases (a class is absent, never decided, or separated)"
        nan = float("nan")
        return Estimate(value=nan, low=nan, high=nan, n=n, method="none", reason=reason)
    if mean.parts is not None and not mean.is_constant:
        return _without_chance(mean, n, spread=spread, how=how)
    known = _closed_form(name, mean, runs=runs) if closed else None
    if known is not None:
        (low, high), method = known
    else:
        low, high, kind = bootstrap_interval(mean)
        method = f"bootstrap over {how.noun}, {kind}, {how.resamples}" if kind != "none" else kind
    undefined = int(np.isnan(mean.draws).sum())
    reason = "" if np.isfinite(low) else "every resample gave the same value: no interval"
    if undefined and not reason and known is None:
        reason = f"{undefined} of {len(mean.draws)} resamples give no number and are left out"
    return Estimate(
        value=mean.value, low=low, high=high, n=n, method=method, reason=reason, spread=spread
    )


def _without_chance(mean: Draws, n: int, *, spread: float | None, how: Resampling) -> Estimate:
    """State a sum of sizes without what chance adds to it; the plug-in value stands beside it."""
    value, low, high = folded_interval(mean)
    few = " (few clusters: rough)" if mean.num_clusters < FEW_CLUSTERS else ""
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=n,
        method=f"bootstrap over {how.noun}, test inversion{few}, {how.resamples}",
        reason=f"{mean.value:.3f} with the part that chance adds (the plug-in value)",
        spread=spread,
    )


def _closed_form(
    name: str, mean: Draws, *, runs: Sequence[Run]
) -> tuple[tuple[float, float], str] | None:
    """Give Wilson's or DeLong's interval where each case is its own cluster, or nothing varied."""
    sample = runs[0].sample
    counts, independent = proportions(sample), mean.num_clusters == len(sample.y_true)
    if mean.num_clusters < 2 or not (mean.is_constant or (independent and len(runs) == 1)):
        return None
    share = mean.num_clusters / len(sample.y_true)
    if name in counts:
        trials = counts[name][1] * share
        return wilson(mean.value * trials, trials), "Wilson" if independent else "Wilson, clusters"
    if name != "roc_auc_score" or sample.positive is None:
        return None
    truth = sample.y_true == sample.positive
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if mean.is_constant or min(positives, negatives) < 2:
        sizes = max(1, round(positives * share)), max(1, round(negatives * share))
        return separated(mean.value, positives=sizes[0], negatives=sizes[1]), "Newcombe"
    return delong(truth, sample.probabilities[:, sample.positive]), "DeLong, logit scale"


def estimates(
    runs: Sequence[Run], draws: Mapping[Key, Draws], *, how: Resampling, closed: bool = True
) -> dict[str, dict[str, Estimate]]:
    """Turn draws into estimates, by model; several seeds are averaged."""
    models = by_model(runs)
    names = [name for place, name in draws if place == 0]
    found: dict[str, dict[str, Estimate]] = {}
    for model, own in models.items():
        places = [place for place, run in enumerate(runs) if run.model == model]
        found[model] = {
            name: estimate(
                name, [draws[place, name] for place in places], runs=own, how=how, closed=closed
            )
            for name in names
        }
    return found
