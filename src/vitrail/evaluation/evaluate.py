"""Predictions become an :class:`Evaluation`: every number with its interval, n and method."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import numpy as np

from vitrail.errors import InputError
from vitrail.evaluation.intervals import Resampling, by_model
from vitrail.evaluation.labels import (
    has_labels,
    mean_level,
    merged_curves,
    of_classes,
    of_labels,
    one_label,
)
from vitrail.evaluation.level import Level, drawn, measured, oddities
from vitrail.evaluation.paired import beside_shortcuts, compare_models, compare_with_majority
from vitrail.evaluation.subgroup import subgroup
from vitrail.evaluation.table import check
from vitrail.evaluation.uncertainty import ABSTENTION_RISK, uncertainty
from vitrail.evaluation.unit import RollUp, cluster_of, has_mixed_labels, to_patients
from vitrail.metrics.decision import OperatingPoint
from vitrail.metrics.interval import FEW_CLUSTERS
from vitrail.records import Comparison, Evaluation, Predictions, Progress, no_progress

_NEGATIVE = re.compile(
    r"(non|no[ _-]|not[ _-]|un(affected|infected)|normal|negative|neg$|clear|healthy|benign"
    r"|control|absent|without|0$|false$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisPlan:
    """The choices of an analysis, fixed before the test set is opened, and what it is held against.

    Attributes:
        roll_up: How images become patients.
        operating_point: How the threshold is chosen on validation cases.
        subgroups: ``{column: {case_id: group}}``, for example the sites.
        training_counts: Training cases of each class; the most frequent one is what models are
            held against (of the validation cases where this is empty).
        prevalence: At which predictive values are stated besides those of the test set.
        shortcuts: ``audit.json``'s, each with ``feature, roc_auc_score, low, high``.
        test_openings: From :func:`count_opening`; 0 where nobody counts.
        configurations_tried: How many configurations the models were chosen from, by validation.
        risk: Share of wrong decisions that abstaining is to keep to.
    """

    roll_up: RollUp = field(default_factory=RollUp)
    operating_point: OperatingPoint = field(default_factory=OperatingPoint)
    subgroups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    training_counts: Mapping[str, int] = field(default_factory=dict)
    prevalence: float | None = None
    shortcuts: Sequence[Mapping[str, Any]] = ()
    test_openings: int = 0
    configurations_tried: int = 1
    risk: float = ABSTENTION_RISK

    def __post_init__(self) -> None:
        """Refuse an impossible prevalence or risk."""
        for name, value in (("prevalence", self.prevalence), ("risk", self.risk)):
            if value is not None and not 0 < value < 1:
                rule = f"a {name} lies between 0 and 1"
                raise InputError(name, str(value), rule, "write 2 % as 0.02")


def positive_index(classes: Sequence[str], wanted: str | None) -> int | None:
    """Choose the positive class of two: the one asked for, else the one not named like a negative.

    Names that begin like ``normal negative non- no_ clear healthy benign control absent`` are
    negative. Where both or neither are, the last in sorted order is positive.

    Returns:
        Its index; None with more than two classes.

    Example:
        >>> positive_index(("COVID", "NonCOVID"), None), positive_index(("a", "b"), None)
        (0, 1)
    """
    if wanted is not None and wanted not in classes:
        rule = f"it is one of {', '.join(classes)}"
        raise InputError("positive_class", repr(wanted), rule, "write it as in the label column")
    if len(classes) != 2:
        return None
    if wanted is not None:
        return list(classes).index(wanted)
    candidates = [name for name in classes if not _NEGATIVE.match(name)]
    chosen = candidates[0] if len(candidates) == 1 else max(classes)
    return list(classes).index(chosen)


def evaluate(
    predictions: Sequence[Predictions],
    *,
    clusters: Mapping[str, str],
    unit: Literal["patient", "image"],
    positive_class: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    plan: AnalysisPlan | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure every model on every set, and compare the models on the test set.

    Args:
        predictions: Of all models, seeds, folds and sets; threshold and temperature of each run
            come from its validation predictions.
        clusters: What each case belongs to: its patient, or what else must stay together.
        unit: ``patient`` where the clusters are patients: the headline is by patient then, and the
            numbers image by image stand beside it.
        positive_class: Of a binary task; None chooses by :func:`positive_index`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        plan: The choices of the analysis.
        progress: Told as the resamples go by.

    Raises:
        DataError: If predictions are unusable, or models predicted different cases.
        InputError: If ``positive_class`` is no class.
    """
    plan = plan or AnalysisPlan()
    check(predictions)
    classes, several = predictions[0].classes, has_labels(predictions[0])
    positive = 1 if several else positive_index(classes, positive_class)
    noun = "patients" if unit == "patient" else _image_noun(predictions, clusters)
    how = Resampling(
        clusters=clusters, noun=noun, resamples=resamples, seed=seed, progress=progress
    )
    tasks = _tasks(predictions)
    mixed = any(has_mixed_labels(p, clusters) for own in tasks.values() for p in own)
    rolls = unit == "patient" and not mixed
    images, levels = _levels(tasks, how=how, plan=plan, positive=positive, rolls=rolls)
    headline = mean_level(levels) if several else levels[""]
    return Evaluation(
        unit="patient" if rolls else "image",
        positive_class=None if several or positive is None else classes[positive],
        sets=headline.sets,
        comparisons=tuple(_comparisons(headline, predictions, plan)),
        warnings=tuple(_warnings(predictions, how, unit=unit, mixed=mixed) + _odd(levels, plan)),
        curves=_curves(levels, classes),
        image_level=(mean_level(images) if several else images[""]).sets if rolls else {},
        operating_points=_points(levels),
        calibrated=headline.calibrated,
        subgroups=_subgroups(images, plan),
        external_subgroups=_subgroups(images, plan, part="external"),
        aggregation=str(plan.roll_up) if rolls else "",
        by_class=of_labels(levels) if several else of_classes(headline, classes),
        uncertainty={} if several else uncertainty(headline, classes, risk=plan.risk),
        shortcuts=tuple(beside_shortcuts(headline, plan.shortcuts)),
        test_openings=plan.test_openings,
        configurations_tried=plan.configurations_tried,
        prevalence=None if positive is None else plan.prevalence,
        vector_scaled=headline.vector_scaled,
    )


def _tasks(predictions: Sequence[Predictions]) -> dict[str, list[Predictions]]:
    """Give the one task, unnamed, or the binary task of each label."""
    if not has_labels(predictions[0]):
        return {"": list(predictions)}
    return {
        name: [one_label(p, place) for p in predictions]
        for place, name in enumerate(predictions[0].classes)
    }


def _levels(
    tasks: Mapping[str, Sequence[Predictions]],
    *,
    how: Resampling,
    plan: AnalysisPlan,
    positive: int | None,
    rolls: bool,
) -> tuple[dict[str, Level], dict[str, Level]]:
    """Measure each task image by image, and by patient where images roll up (else the same)."""
    images = {
        name: _measured(own, how=how, plan=plan, positive=positive) for name, own in tasks.items()
    }
    if not rolls:
        return images, images
    return images, {
        name: _by_patient(own, how=how, plan=plan, positive=positive) for name, own in tasks.items()
    }


def _measured(
    predictions: Sequence[Predictions], *, how: Resampling, plan: AnalysisPlan, positive: int | None
) -> Level:
    return measured(
        predictions,
        how=how,
        point=plan.operating_point,
        positive=positive,
        prevalence=plan.prevalence,
    )


def _by_patient(
    predictions: Sequence[Predictions], *, how: Resampling, plan: AnalysisPlan, positive: int | None
) -> Level:
    """Roll images up to patients and measure those."""
    patients = [
        to_patients(p, how.clusters, roll_up=plan.roll_up, positive=positive) for p in predictions
    ]
    own = {name: name for p in patients for name in p.case_ids}
    return _measured(patients, how=replace(how, clusters=own), plan=plan, positive=positive)


def _comparisons(
    headline: Level, predictions: Sequence[Predictions], plan: AnalysisPlan
) -> list[Comparison]:
    """Compare the models with each other, and with the most frequent class of training cases."""
    found = compare_models(headline)
    known = next((p for p in predictions if p.split == "validation"), None)
    if headline.is_mean or not (plan.training_counts or known):
        return found
    classes = predictions[0].classes
    counts = [plan.training_counts.get(name, 0) for name in classes]
    if known is not None and not plan.training_counts:
        counts = np.bincount(known.y_true, minlength=len(classes)).tolist()
    return found + compare_with_majority(headline, int(np.argmax(counts)))


def _curves(
    levels: Mapping[str, Level], classes: tuple[str, ...]
) -> dict[str, dict[str, dict[str, object]]]:
    if "" in levels:
        return drawn(levels[""], classes)
    return merged_curves(
        {name: drawn(level, (f"no {name}", name)) for name, level in levels.items()}
    )


def _points(levels: Mapping[str, Level]) -> dict[str, tuple[Mapping[str, object], ...]]:
    """Gather the operating points; those of several labels are told apart by ``label``."""
    found: dict[str, tuple[Mapping[str, object], ...]] = {}
    for name, level in levels.items():
        for model, points in level.points.items():
            own = tuple({**point, "label": name} if name else point for point in points)
            found[model] = (*found.get(model, ()), *own)
    return found


def _subgroups(
    images: Mapping[str, Level], plan: AnalysisPlan, *, part: str = ""
) -> dict[str, dict[str, Mapping[str, object]]]:
    """Measure every model in every group of every column, image by image.

    Args:
        images: The tasks.
        plan: Holds the groups.
        part: The set; the compared one by default.
    """
    found: dict[str, dict[str, Mapping[str, object]]] = {}
    for (column, groups), (name, level) in product(plan.subgroups.items(), images.items()):
        runs = level.runs.get(part or level.compared, ())
        if any(groups.get(case) for run in runs for case in run.case_ids):
            found[f"{column}, {name}" if name else column] = {
                model: subgroup(own, groups, how=level.how) for model, own in by_model(runs).items()
            }
    return found


def count_opening(previous: Mapping[str, Any] | None) -> int:
    """Count how often the test set was opened, this time included.

    Args:
        previous: The ``evaluation.json`` that is about to be replaced; None the first time.

    Example:
        >>> count_opening(None), count_opening({"test_openings": 2})
        (1, 3)
    """
    return 1 + int((previous or {}).get("test_openings", 0))


def _odd(levels: Mapping[str, Level], plan: AnalysisPlan) -> list[str]:
    """Say what is odd about sets and models, and that later looks at the test set are not blind."""
    said = [
        f"{name}: {what}" if name else what
        for name, level in levels.items()
        for what in oddities(level)
    ]
    if plan.test_openings > 1:
        said.append(
            f"The test set was opened {plan.test_openings} times: what was chosen after the first "
            "look makes later numbers too good. Confirm them on an external set."
        )
    if plan.configurations_tried > 1:
        said.append(
            f"{plan.configurations_tried} configurations were tried and the best by validation was "
            "kept: its validation numbers are too good, its test numbers are not."
        )
    return said


def _image_noun(predictions: Sequence[Predictions], clusters: Mapping[str, str]) -> str:
    """Name what is drawn where patients are unknown."""
    names = {name for p in predictions for name in p.case_ids}
    alone = len({cluster_of(name, clusters) for name in names}) == len(names)
    return "images" if alone else "groups of images"


def _warnings(
    predictions: Sequence[Predictions], how: Resampling, *, unit: str, mixed: bool
) -> list[str]:
    """Say what limits all the numbers."""
    said = []
    if unit == "image":
        said.append(
            "Patients are unknown: intervals take images (or groups of near-duplicates) as "
            "independent and can be too narrow."
        )
    elif mixed:
        said.append(
            "Some patients have images of several classes: numbers are by image, intervals over "
            "patients."
        )
    splits = {p.split for p in predictions}
    if "validation" not in splits:
        said.append(
            "No validation predictions: decisions at 0.5 (or the fixed threshold, or the likeliest "
            "class), no calibration."
        )
    first = next((p for p in predictions if p.split == "test"), predictions[0])
    units = len({cluster_of(name, how.clusters) for name in first.case_ids})
    if units == 1:
        said.append("All test cases belong to one patient or group: no interval can be stated.")
    elif units < FEW_CLUSTERS:
        said.append(f"Only {units} independent test units: intervals are rough.")
    known = {p.split: p for p in predictions}.get("validation")
    if known is not None:
        units = len({cluster_of(name, how.clusters) for name in known.case_ids})
        said.append(
            f"Threshold and temperature come from {units} validation units and are taken as fixed: "
            "the intervals leave their uncertainty out."
        )
    return said
