"""One trained model's decisions on one set: threshold and temperature from validation cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from vitrail.errors import DataError
from vitrail.evaluation.measure import Sample
from vitrail.metrics.calibration import (
    apply_temperature,
    apply_vector_scaling,
    fit_temperature,
    fit_vector_scaling,
)
from vitrail.metrics.decision import OperatingPoint, choose_threshold
from vitrail.records import Predictions


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One trained model on one set: its cases, as trained, after temperature and vector scaling."""

    model: str
    seed: int
    case_ids: tuple[str, ...]
    sample: Sample
    calibrated: Sample | None
    vector_scaled: Sample | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tuning:
    """What a run's validation cases chose; without any, a threshold of 0.5 and no scaling."""

    threshold: float = 0.5
    rule: str = "0.5"
    temperature: float | None = None
    scale: Float[np.ndarray, " class"] | None = None
    shift: Float[np.ndarray, " class"] | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "temperature": self.temperature,
            "scale": None if self.scale is None else self.scale.tolist(),
            "shift": None if self.shift is None else self.shift.tolist(),
        }


def tuned(validation: Predictions | None, *, point: OperatingPoint, positive: int | None) -> Tuning:
    """Take threshold, temperature, scale and shift from validation cases."""
    if validation is None:
        fixed = point.rule == "fixed"
        return Tuning(threshold=point.wanted, rule=str(point)) if fixed else Tuning()
    y_true, probabilities = validation.y_true, _normalized(validation)
    threshold, rule = 0.5, "0.5, validation cases of one class or one score choose none"
    if positive is not None:
        chosen = choose_threshold(y_true == positive, probabilities[:, positive], point=point)
        if np.isfinite(chosen):
            threshold, rule = chosen, f"{point}, on validation"
    scale, shift = fit_vector_scaling(y_true, probabilities)
    temperature = fit_temperature(y_true, probabilities)
    return Tuning(threshold=threshold, rule=rule, temperature=temperature, scale=scale, shift=shift)


def _normalized(predictions: Predictions) -> np.ndarray:
    """Make rows that sum to one up to rounding sum to one in float64."""
    probabilities = predictions.probabilities.astype(np.float64)
    return np.asarray(probabilities / probabilities.sum(1, keepdims=True))


def score(predictions: Predictions, *, tuning: Tuning, positive: int | None) -> Run:
    """Take the decisions of one run, its cases in sorted order."""
    order = np.argsort(np.array(predictions.case_ids), kind="stable")
    probabilities, y_true = _normalized(predictions)[order], predictions.y_true[order]
    if positive is None:
        decision = probabilities.argmax(1)
    else:
        decision = np.where(probabilities[:, positive] >= tuning.threshold, positive, 1 - positive)
    sample = Sample(y_true, probabilities, decision, positive)
    calibrated = scaled = None
    if tuning.temperature is not None:
        softened = apply_temperature(probabilities, tuning.temperature)
        calibrated = replace(sample, probabilities=softened)
    if tuning.scale is not None and tuning.shift is not None:
        mended = apply_vector_scaling(probabilities, scale=tuning.scale, shift=tuning.shift)
        scaled = replace(sample, probabilities=mended)
    names = tuple(predictions.case_ids[place] for place in order)
    return Run(predictions.model, predictions.seed, names, sample, calibrated, scaled)


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

    def all_of(samples: Sequence[Sample | None]) -> Sample | None:
        known = [one for one in samples if one is not None]
        return together(known) if len(known) == len(samples) else None

    return Run(
        folds[0].model,
        folds[0].seed,
        tuple(names[place] for place in order),
        together([run.sample for run in folds]),
        all_of([run.calibrated for run in folds]),
        all_of([run.vector_scaled for run in folds]),
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
