"""One level of analysis (patients, or image by image): every model on every set, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vitrail.evaluation.curves import Band, calibration_curve, curves
from vitrail.evaluation.intervals import (
    Key,
    Resampling,
    at_prevalence,
    by_model,
    cluster_numbers,
    draw,
    estimates,
)
from vitrail.evaluation.scored import Run, Tuning, pool_folds, same_cases, score, tuned
from vitrail.metrics.decision import OperatingPoint
from vitrail.metrics.interval import Draws
from vitrail.records import Estimate, Predictions

_BAND_RESAMPLES = 500


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Level:
    """All sets of one level of analysis.

    Attributes:
        runs: Of each set: one a model and seed, folds joined.
        points: Of each model: threshold, temperature and rule of each seed and fold.
        how: Of the intervals.
        is_mean: Whether the draws are means over labels, which closed forms do not know.
        draws: Of each set whose runs have the same cases: what the resamples gave.
        sets: The numbers.
        calibrated: The probability metrics after temperature scaling.
        vector_scaled: The probability metrics after vector scaling.
    """

    runs: Mapping[str, Sequence[Run]]
    points: Mapping[str, tuple[Mapping[str, object], ...]]
    how: Resampling
    is_mean: bool = False
    draws: dict[str, dict[Key, Draws]] = field(default_factory=dict)
    sets: dict[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    calibrated: dict[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    vector_scaled: dict[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)

    @property
    def compared(self) -> str:
        """The set that models are compared on; empty where only validation cases were predicted."""
        return next((name for name in ("test", "external") if name in self.runs), "")


def decide(
    predictions: Sequence[Predictions], *, point: OperatingPoint, positive: int | None
) -> tuple[dict[str, list[Run]], dict[str, tuple[Mapping[str, object], ...]]]:
    """Take all decisions, each run with the threshold of its own validation cases."""
    validation = {(p.model, p.seed, p.fold): p for p in predictions if p.split == "validation"}
    tuning: dict[tuple[str, int, int], Tuning] = {}
    points: dict[str, tuple[Mapping[str, object], ...]] = {}
    runs: dict[str, list[Run]] = {}
    for p in predictions:
        key = (p.model, p.seed, p.fold)
        if key not in tuning:
            tuning[key] = tuned(validation.get(key), point=point, positive=positive)
            told = {
                "seed": p.seed,
                "fold": p.fold,
                **tuning[key].to_json(),
                "threshold": None if positive is None else tuning[key].threshold,
                "rule": "likeliest class" if positive is None else tuning[key].rule,
            }
            points[p.model] = (*points.get(p.model, ()), told)
        run = score(p, tuning=tuning[key], positive=positive)
        runs.setdefault(p.split, []).append(run)
    return {split: pool_folds(found) for split, found in runs.items()}, points


def measured(
    predictions: Sequence[Predictions],
    *,
    how: Resampling,
    point: OperatingPoint,
    positive: int | None,
    prevalence: float | None = None,
) -> Level:
    """Take decisions and measure them; a validation set that differs by fold is left out.

    Raises:
        DataError: If models predicted different cases of a set that they are compared on.
    """
    runs, points = decide(predictions, point=point, positive=positive)
    level = Level(runs=runs, points=points, how=how)
    for split, found in runs.items():
        if split != "validation":
            same_cases(found, split)
        elif len({run.case_ids for run in found}) > 1:
            continue
        level.draws[split] = draw(found, how)
        if positive is not None and prevalence is not None:
            level.draws[split] |= at_prevalence(level.draws[split], prevalence)
        level.sets[split] = estimates(found, level.draws[split], how=how)
        for kind, kept in (
            ("calibrated", level.calibrated),
            ("vector_scaled", level.vector_scaled),
        ):
            if all(getattr(run, kind) is not None for run in found):
                kept[split] = estimates(found, draw(found, how, kind=kind), how=how)
    return level


def drawn(level: Level, classes: tuple[str, ...]) -> dict[str, dict[str, dict[str, object]]]:
    """Give what the figures need, of each model's first seed, which is named."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for split, runs in level.runs.items():
        for model, seeds in by_model(runs).items():
            band = Band(
                clusters=cluster_numbers(seeds[0].case_ids, level.how.clusters),
                resamples=min(level.how.resamples, _BAND_RESAMPLES),
                seed=level.how.seed,
            )
            own = curves(seeds[0].sample, classes, band=band) | {"seed": seeds[0].seed}
            if seeds[0].calibrated is not None:
                own["calibration_after"] = calibration_curve(seeds[0].calibrated)
            if seeds[0].vector_scaled is not None:
                own["calibration_vector"] = calibration_curve(seeds[0].vector_scaled)
            found.setdefault(split, {})[model] = own
    return found


def oddities(level: Level) -> list[str]:
    """Say what is odd about single sets and models."""
    said = []
    for split, runs in level.runs.items():
        sample = runs[0].sample
        num_classes = sample.probabilities.shape[1]
        absent = num_classes - len(np.unique(sample.y_true))
        if absent:
            said.append(
                f"{absent} of {num_classes} classes have no case in {split}: what needs them "
                "is not defined, averages are over the classes present."
            )
        if split not in level.sets:
            said.append(f"The {split} sets of the folds differ: they are not measured together.")
        said += [
            f"{run.model} (seed {run.seed}) gives every case of {split} the same scores."
            for run in runs
            if len(run.case_ids) > 1 and np.ptp(run.sample.probabilities, axis=0).max() < 1e-9
        ]
    return said
