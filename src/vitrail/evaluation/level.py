"""One level of analysis (patients or images): decisions, intervals and paired draws of every model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from vitrail.errors import DataError
from vitrail.evaluation.measure import Sample, measure, measure_probabilities, proportions
from vitrail.evaluation.unit import cluster_of
from vitrail.metrics.calibration import apply_temperature, fit_temperature
from vitrail.metrics.decision import OperatingPoint, choose_threshold
from vitrail.metrics.interval import (
    Draws,
    bootstrap,
    bootstrap_interval,
    delong,
    mean_draws,
    separated,
    wilson,
)
from vitrail.records import Estimate, Predictions, Progress

Key = tuple[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One trained model on one set: its cases, before and after temperature scaling."""

    model: str
    seed: int
    case_ids: tuple[str, ...]
    sample: Sample
    calibrated: Sample | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How intervals are made: of which clusters, how often, from which seed."""

    clusters: Mapping[str, str]
    noun: str
    resamples: int
    seed: int
    progress: Progress


def tuned(
    validation: Predictions | None, point: OperatingPoint, positive: int | None
) -> tuple[float, float | None]:
    """Take threshold and temperature from validation cases; 0.5 and None without them."""
    if validation is None:
        return (point.wanted if point.rule == "fixed" else 0.5), None
    threshold = 0.5
    if positive is not None:
        score = validation.probabilities[:, positive].astype(np.float64)
        chosen = choose_threshold(validation.y_true == positive, score, point)
        threshold = chosen if np.isfinite(chosen) else 0.5
    return threshold, fit_temperature(validation.y_true, _normalized(validation))


def _normalized(predictions: Predictions) -> np.ndarray:
    """Make rows that sum to one up to rounding sum to one in float64."""
    probabilities = predictions.probabilities.astype(np.float64)
    return np.asarray(probabilities / probabilities.sum(1, keepdims=True))


def score(
    predictions: Predictions, *, threshold: float, temperature: float | None, positive: int | None
) -> Run:
    """Take the decisions of one run, its cases in sorted order."""
    order = np.argsort(np.array(predictions.case_ids), kind="stable")
    probabilities, y_true = _normalized(predictions)[order], predictions.y_true[order]
    if positive is None:
        decision = probabilities.argmax(1)
    else:
        decision = np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)
    sample = Sample(y_true, probabilities, decision, positive)
    calibrated = None
    if temperature is not None:
        calibrated = replace(sample, probabilities=apply_temperature(probabilities, temperature))
    names = tuple(predictions.case_ids[place] for place in order)
    return Run(predictions.model, predictions.seed, names, sample, calibrated)


def pool_folds(runs: Sequence[Run]) -> list[Run]:
    """Join the folds of one seed where each tested other cases; else leave them as several runs."""
    by_seed: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        by_seed.setdefault((run.model, run.seed), []).append(run)
    pooled: list[Run] = []
    for folds in by_seed.values():
        names = [name for run in folds for name in run.case_ids]
        if len(folds) == 1 or len(set(names)) < len(names):
            pooled += folds
        else:
            pooled.append(_join(folds, names))
    return pooled


def _join(folds: Sequence[Run], names: list[str]) -> Run:
    order = np.argsort(np.array(names), kind="stable")

    def together(samples: Sequence[Sample]) -> Sample:
        return Sample(
            np.concatenate([s.y_true for s in samples])[order],
            np.concatenate([s.probabilities for s in samples])[order],
            np.concatenate([s.decision for s in samples])[order],
            samples[0].positive,
        )

    calibrated = [run.calibrated for run in folds if run.calibrated is not None]
    return Run(
        folds[0].model,
        folds[0].seed,
        tuple(names[place] for place in order),
        together([run.sample for run in folds]),
        together(calibrated) if len(calibrated) == len(folds) else None,
    )


def same_cases(runs: Sequence[Run], split: str) -> None:
    """Refuse models that were given different cases: they cannot be compared pair by pair."""
    for first, second in pairwise(runs):
        if first.case_ids != second.case_ids:
            odd = sorted(set(first.case_ids) ^ set(second.case_ids))
            raise DataError(
                f"predictions of {split}",
                f"{first.model} and {second.model} differ in {len(odd)} cases, like {odd[0]}",
                "all models predict the same cases",
                "predict the whole split with every model",
            )


def cluster_numbers(names: Sequence[str], clusters: Mapping[str, str]) -> Int[np.ndarray, " case"]:
    """Number the clusters of cases from 0."""
    own = np.array([cluster_of(name, clusters) for name in names])
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


def draw(runs: Sequence[Run], how: Resampling, *, calibrated: bool = False) -> dict[Key, Draws]:
    """Resample all runs together; keys are (place of the run, metric)."""

    def statistic(weights: np.ndarray) -> dict[Key, np.ndarray]:
        values: dict[Key, np.ndarray] = {}
        for place, run in enumerate(runs):
            if not calibrated:
                found = measure(run.sample, weights)
            else:
                found = measure_probabilities(run.calibrated or run.sample, weights)
            values |= {(place, name): value for name, value in found.items()}
        return values

    return bootstrap(
        statistic,
        cluster_numbers(runs[0].case_ids, how.clusters),
        resamples=how.resamples,
        seed=how.seed,
        progress=how.progress,
    )


def estimate(name: str, draws: Sequence[Draws], runs: Sequence[Run], how: Resampling) -> Estimate:
    """Turn one metric's draws (one a seed) into a number with its interval."""
    mean = mean_draws(list(draws))
    n = len(runs[0].case_ids)
    spread = float(np.std([d.value for d in draws], ddof=1)) if len(draws) > 1 else None
    if not np.isfinite(mean.value):
        reason = "not defined on these cases (a class is absent, never decided, or separated)"
        nan = float("nan")
        return Estimate(value=nan, low=nan, high=nan, n=n, method="none", reason=reason)
    closed = _closed_form(name, mean, runs)
    if closed is not None:
        (low, high), method = closed
    else:
        low, high, kind = bootstrap_interval(mean)
        method = f"bootstrap over {how.noun}, {kind}, {how.resamples}" if kind != "none" else kind
    reason = "" if np.isfinite(low) else "every resample gave the same value: no interval"
    return Estimate(
        value=mean.value, low=low, high=high, n=n, method=method, reason=reason, spread=spread
    )


def _closed_form(
    name: str, mean: Draws, runs: Sequence[Run]
) -> tuple[tuple[float, float], str] | None:
    """Give Wilson's or DeLong's interval where each case is its own cluster, or nothing varied."""
    sample = runs[0].sample
    counts, independent = proportions(sample), mean.num_clusters == len(sample.y_true)
    if not (independent and len(runs) == 1) and not mean.is_constant:
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
        return separated(mean.value, *sizes), "Newcombe"
    return delong(truth, sample.probabilities[:, sample.positive]), "DeLong, logit scale"
