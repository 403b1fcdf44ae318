"""One trained model's decisions on one set: threshold and temperature from validation cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vitrail.errors import DataError
from vitrail.evaluation.measure import Sample
from vitrail.metrics.calibration import apply_temperature, fit_temperature
from vitrail.metrics.decision import OperatingPoint, choose_threshold
from vitrail.records import Predictions


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One trained model on one set: its cases, before and after temperature scaling."""

    model: str
    seed: int
    case_ids: tuple[str, ...]
    sample: Sample
    calibrated: Sample | None


def tuned(
    validation: Predictions | None, *, point: OperatingPoint, positive: int | None
) -> tuple[float, float | None]:
    """Take threshold and temperature from validation cases; 0.5 and None without them."""
    if validation is None:
        return (point.wanted if point.rule == "fixed" else 0.5), None
    threshold = 0.5
    if positive is not None:
        score = validation.probabilities[:, positive].astype(np.float64)
        chosen = choose_threshold(validation.y_true == positive, score, point=point)
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
    """Join the folds of one seed that tested other cases each; each repeat of them is a run."""
    by_seed: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        by_seed.setdefault((run.model, run.seed), []).append(run)
    pooled: list[Run] = []
    for folds in by_seed.values():
        repeats = [_join(deal) for deal in _deals(folds)]
        complete = len({run.case_ids for run in repeats}) == 1
        pooled += repeats if complete else folds
    return pooled


def _deals(folds: Sequence[Run]) -> list[list[Run]]:
    """Cut folds where one tests a case again: there the cases were dealt anew."""
    deals: list[list[Run]] = []
    known: set[str] = set()
    for run in folds:
        if not deals or known & set(run.case_ids):
            deals.append([])
            known = set()
        deals[-1].append(run)
        known |= set(run.case_ids)
    return deals


def _join(folds: Sequence[Run]) -> Run:
    """Join runs on different cases."""
    names = [name for run in folds for name in run.case_ids]
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
            came = f"differ in {len(odd)} cases, like {', '.join(odd[:3])}"
        elif (first.sample.y_true != second.sample.y_true).any():
            places = np.flatnonzero(first.sample.y_true != second.sample.y_true)
            odd = [first.case_ids[place] for place in places]
            came = f"differ in the label of {len(odd)} cases, like {', '.join(odd[:3])}"
        else:
            continue
        raise DataError(
            f"predictions of {split}",
            f"{first.model} and {second.model} {came}",
            "all models predict the same cases",
            "predict the whole split with every model",
        )
