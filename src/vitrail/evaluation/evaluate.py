"""Predictions become an :class:`Evaluation`: every number with its interval, n and method."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal

import numpy as np

from vitrail.errors import InputError
from vitrail.evaluation.compare import compare_models, compare_with_majority
from vitrail.evaluation.intervals import Resampling, by_model
from vitrail.evaluation.level import Level, drawn, measured, oddities
from vitrail.evaluation.subgroup import subgroup
from vitrail.evaluation.table import check
from vitrail.evaluation.unit import RollUp, cluster_of, has_mixed_labels, to_patients
from vitrail.metrics.decision import OperatingPoint
from vitrail.metrics.interval import FEW_CLUSTERS
from vitrail.records import (
    Comparison,
    Estimate,
    Evaluation,
    Predictions,
    Progress,
    no_progress,
)

_NEGATIVE = re.compile(
    r"(non|no[ _-]|not[ _-]|un(affected|infected)|normal|negative|neg$|clear|healthy|benign"
    r"|control|absent|without|0$|false$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisPlan:
    """The choices of an analysis, fixed before the test set is opened.

    Attributes:
        roll_up: How images become patients.
        operating_point: How the threshold is chosen on validation cases.
        subgroups: ``{column: {case_id: group}}``, for example the sites.
        training_counts: Training cases of each class; the most frequent one is what models are
            held against (of the validation cases where this is empty).
    """

    roll_up: RollUp = field(default_factory=RollUp)
    operating_point: OperatingPoint = field(default_factory=OperatingPoint)
    subgroups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    training_counts: Mapping[str, int] = field(default_factory=dict)


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
    classes = predictions[0].classes
    positive = positive_index(classes, positive_class)
    noun = "patients" if unit == "patient" else _image_noun(predictions, clusters)
    how = Resampling(
        clusters=clusters, noun=noun, resamples=resamples, seed=seed, progress=progress
    )
    images = measured(predictions, how=how, point=plan.operating_point, positive=positive)
    rolls = unit == "patient" and not any(has_mixed_labels(p, clusters) for p in predictions)
    headline = _by_patient(predictions, images, plan=plan, positive=positive) if rolls else images
    majority = _majority(predictions, plan)
    against = [] if majority is None else compare_with_majority(headline, majority)
    return Evaluation(
        unit="patient" if rolls else "image",
        positive_class=None if positive is None else classes[positive],
        sets=headline.sets,
        comparisons=(*compare_models(headline), *against),
        warnings=(*_warnings(predictions, clusters, unit=unit), *oddities(headline)),
        curves=drawn(headline, classes),
        image_level=images.sets if rolls else {},
        operating_points=headline.points,
        calibrated=headline.calibrated,
        subgroups=_subgroups(images, plan),
        aggregation=str(plan.roll_up) if rolls else "",
    )


def _by_patient(
    predictions: Sequence[Predictions], images: Level, *, plan: AnalysisPlan, positive: int | None
) -> Level:
    """Roll images up to patients and measure those."""
    clusters = images.how.clusters
    patients = [
        to_patients(p, clusters, roll_up=plan.roll_up, positive=positive) for p in predictions
    ]
    own = {name: name for p in patients for name in p.case_ids}
    how = replace(images.how, clusters=own)
    return measured(patients, how=how, point=plan.operating_point, positive=positive)


def _majority(predictions: Sequence[Predictions], plan: AnalysisPlan) -> int | None:
    """Find the most frequent class of the training (else the validation) cases."""
    classes = predictions[0].classes
    if plan.training_counts:
        return int(np.argmax([plan.training_counts.get(name, 0) for name in classes]))
    known = next((p for p in predictions if p.split == "validation"), None)
    return None if known is None else int(np.bincount(known.y_true).argmax())


def _subgroups(images: Level, plan: AnalysisPlan) -> dict[str, dict[str, Mapping[str, object]]]:
    """Measure every model in every group of every column."""
    runs = by_model(images.runs.get(images.compared, ()))
    return {
        column: {model: subgroup(own, groups, how=images.how) for model, own in runs.items()}
        for column, groups in plan.subgroups.items()
    }


def _image_noun(predictions: Sequence[Predictions], clusters: Mapping[str, str]) -> str:
    """Name what is drawn where patients are unknown."""
    names = {name for p in predictions for name in p.case_ids}
    alone = len({cluster_of(name, clusters) for name in names}) == len(names)
    return "images" if alone else "groups of images"


def _warnings(
    predictions: Sequence[Predictions], clusters: Mapping[str, str], *, unit: str
) -> list[str]:
    """Say what limits all the numbers."""
    said = []
    if unit == "image":
        said.append(
            "Patients are unknown: intervals take images (or groups of near-duplicates) as "
            "independent and can be too narrow."
        )
    elif any(has_mixed_labels(p, clusters) for p in predictions):
        said.append(
            "Some patients have images of several classes: numbers are by image, intervals over "
            "patients."
        )
    splits = {p.split for p in predictions}
    if "validation" not in splits:
        said.append(
            "No validation predictions: decisions at 0.5 (or the likeliest class), no calibration."
        )
    first = next((p for p in predictions if p.split == "test"), predictions[0])
    units = len({cluster_of(name, clusters) for name in first.case_ids})
    if units == 1:
        said.append("All test cases belong to one patient or group: no interval can be stated.")
    elif units < FEW_CLUSTERS:
        said.append(f"Only {units} independent test units: intervals are rough.")
    return said


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Turn an evaluation into what ``evaluation.json`` holds; NaN becomes null."""
    plain = _plain({name: getattr(evaluation, name) for name in Evaluation.__dataclass_fields__})
    return {key: plain[key] for key in Evaluation.__dataclass_fields__}


def _plain(value: Any) -> Any:
    """Make plain JSON values of records, mappings, tuples and NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(content: Mapping[str, Any]) -> Evaluation:
    """Read what :func:`to_json` wrote; null numbers become NaN."""
    known = dict(content)
    for level in ("sets", "image_level", "calibrated"):
        known[level] = {
            split: {
                model: {name: Estimate(**_numbers(cell)) for name, cell in metrics.items()}
                for model, metrics in models.items()
            }
            for split, models in content.get(level, {}).items()
        }
    known["comparisons"] = tuple(Comparison(**_numbers(c)) for c in content["comparisons"])
    known["warnings"] = tuple(content["warnings"])
    points = content.get("operating_points", {})
    known["operating_points"] = {model: tuple(runs) for model, runs in points.items()}
    return Evaluation(**known)


_NUMBERS = ("value", "low", "high", "difference", "p_value", "p_value_holm", "exact_p_value")


def _numbers(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float("nan") if value is None and key in _NUMBERS else value
        for key, value in cell.items()
    }
