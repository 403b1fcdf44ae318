"""Predictions become an :class:`Evaluation`: every number with its interval, n and method."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from vitrail.errors import InputError
from vitrail.evaluation.curves import calibration_curve, curves
from vitrail.evaluation.level import (
    Key,
    Resampling,
    Run,
    draw,
    estimate,
    pool_folds,
    same_cases,
    score,
    tuned,
)
from vitrail.evaluation.subgroup import subgroup
from vitrail.evaluation.table import check
from vitrail.evaluation.unit import RollUp, cluster_of, has_mixed_labels, to_patients
from vitrail.metrics.comparison import (
    bootstrap_p_value,
    delong_test,
    holm,
    mcnemar_test,
    sentence,
)
from vitrail.metrics.decision import OperatingPoint
from vitrail.metrics.interval import FEW_CLUSTERS, Draws, bootstrap_interval, mean_draws
from vitrail.records import (
    Comparison,
    Estimate,
    Evaluation,
    Predictions,
    Progress,
    no_progress,
)

MAJORITY = "majority class"
COMPARED = ("roc_auc_score", "average_precision_score", "balanced_accuracy", "accuracy")
COMPARED += ("matthews_corrcoef", "brier_score_loss")
_NEGATIVE = re.compile(
    r"(non|no[ _-]|not[ _-]|un(affected|infected)|normal|negative|neg$|clear|healthy|benign"
    r"|control|absent|without|0$|false$)",
    re.IGNORECASE,
)
Level = Mapping[str, Mapping[str, Mapping[str, Estimate]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisPlan:
    """The choices of an analysis, fixed before the test set is opened.

    Attributes:
        roll_up: How images become patients.
        operating_point: How the threshold is chosen on validation cases.
        subgroups: ``{column: {case_id: group}}``, for example the sites.
    """

    roll_up: RollUp = field(default_factory=RollUp)
    operating_point: OperatingPoint = field(default_factory=OperatingPoint)
    subgroups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


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
    warnings = _warnings(predictions, clusters, unit)
    rolls = unit == "patient" and not any(has_mixed_labels(p, clusters) for p in predictions)
    if not rolls:
        headline = _Level.measured(predictions, how, plan, positive)
        images: _Level | None = None
    else:
        patients = [
            to_patients(p, clusters, roll_up=plan.roll_up, positive=positive) for p in predictions
        ]
        own = Resampling(
            clusters={name: name for p in patients for name in p.case_ids},
            noun=noun,
            resamples=resamples,
            seed=seed,
            progress=progress,
        )
        headline = _Level.measured(patients, own, plan, positive)
        images = _Level.measured(predictions, how, plan, positive)
    by_image = images or headline
    return Evaluation(
        unit="patient" if rolls else "image",
        positive_class=None if positive is None else classes[positive],
        sets=headline.sets,
        comparisons=tuple(headline.comparisons(classes)),
        warnings=tuple(warnings + headline.warnings()),
        curves=headline.curves(classes),
        image_level=images.sets if images else {},
        operating_points=headline.points,
        calibrated=headline.calibrated,
        subgroups={
            column: {
                model: subgroup(runs, groups, by_image.how)
                for model, runs in _by_model(by_image.runs.get("test", [])).items()
            }
            for column, groups in plan.subgroups.items()
        },
        aggregation=str(plan.roll_up) if rolls else "",
    )


def _image_noun(predictions: Sequence[Predictions], clusters: Mapping[str, str]) -> str:
    """Name what is drawn where patients are unknown."""
    names = {name for p in predictions for name in p.case_ids}
    alone = len({cluster_of(name, clusters) for name in names}) == len(names)
    return "images" if alone else "groups of images"


def _by_model(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Gather the seeds of each model, in order of first appearance."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.model, []).append(run)
    return models


def _warnings(
    predictions: Sequence[Predictions], clusters: Mapping[str, str], unit: str
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


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """All sets of one level of analysis, measured."""

    runs: Mapping[str, list[Run]]
    sets: Level
    calibrated: Level
    draws: Mapping[str, dict[Key, Draws]]
    points: Mapping[str, tuple[Mapping[str, object], ...]]
    how: Resampling

    @classmethod
    def measured(
        cls,
        predictions: Sequence[Predictions],
        how: Resampling,
        plan: AnalysisPlan,
        positive: int | None,
    ) -> "_Level":
        """Take decisions and measure them."""
        validation = {(p.model, p.seed, p.fold): p for p in predictions if p.split == "validation"}
        points: dict[str, tuple[Mapping[str, object], ...]] = {}
        runs: dict[str, list[Run]] = {}
        tuning = {}
        for p in predictions:
            key = (p.model, p.seed, p.fold)
            if key not in tuning:
                threshold, temperature = tuned(validation.get(key), plan.operating_point, positive)
                tuning[key] = (threshold, temperature)
                point = {"seed": p.seed, "fold": p.fold, "temperature": temperature}
                point |= {"threshold": None if positive is None else threshold}
                point |= {
                    "rule": "likeliest class" if positive is None else _rule(key, validation, plan)
                }
                points[p.model] = (*points.get(p.model, ()), point)
            threshold, temperature = tuning[key]
            run = score(p, threshold=threshold, temperature=temperature, positive=positive)
            runs.setdefault(p.split, []).append(run)
        runs = {split: pool_folds(found) for split, found in runs.items()}
        if "test" in runs:
            same_cases(runs["test"], "test")
        draws, sets, calibrated = {}, {}, {}
        for split, found in runs.items():
            # Validation sets of different folds differ: their models are measured one by one.
            shared = len({run.case_ids for run in found}) == 1
            draws[split] = draw(found, how) if shared else {}
            sets[split] = _estimates(found, draws[split], how) if shared else {}
            if shared and all(run.calibrated is not None for run in found):
                calibrated[split] = _estimates(found, draw(found, how, calibrated=True), how)
        return cls(runs, sets, calibrated, draws, points, how)

    def curves(self, classes: tuple[str, ...]) -> dict[str, dict[str, dict[str, object]]]:
        """Give what the figures need, of each model's first seed, named."""
        drawn: dict[str, dict[str, dict[str, object]]] = {}
        for split, runs in self.runs.items():
            for model, seeds in _by_model(runs).items():
                own = curves(seeds[0].sample, classes) | {"seed": seeds[0].seed}
                if seeds[0].calibrated is not None:
                    own["calibration_after"] = calibration_curve(seeds[0].calibrated)
                drawn.setdefault(split, {})[model] = own
        return drawn

    def warnings(self) -> list[str]:
        """Say what is odd about single sets and models."""
        said = []
        for split, runs in self.runs.items():
            sample = runs[0].sample
            num_classes = sample.probabilities.shape[1]
            absent = num_classes - len(np.unique(sample.y_true))
            if absent:
                said.append(
                    f"{absent} of {num_classes} classes have no case in {split}: what needs them "
                    "is not defined, averages are over the classes present."
                )
            said += [
                f"{run.model} (seed {run.seed}) gives every case of {split} the same scores."
                for run in runs
                if len(run.case_ids) > 1 and np.ptp(run.sample.probabilities, axis=0).max() < 1e-9
            ]
        return said

    def comparisons(self, classes: tuple[str, ...]) -> list[Comparison]:
        """Compare every pair of models, and each with the majority class, on the test set."""
        runs = self.runs.get("test", [])
        if not runs:
            return []
        models = _by_model(runs)
        places = {m: [k for k, run in enumerate(runs) if run.model == m] for m in models}
        draws = self.draws["test"]

        def mean(model: str, metric: str) -> Draws:
            return mean_draws([draws[place, metric] for place in places[model]])

        found: list[Comparison] = []
        for metric in COMPARED:
            pairs = [
                _compare((a, b), metric, mean(a, metric) - mean(b, metric), self.how)
                for a, b in combinations(models, 2)
            ]
            pairs = [_exact(pair, models) for pair in pairs]
            adjusted = holm([pair.p_value for pair in pairs])
            found += [
                Comparison(**(_fields(pair) | {"p_value_holm": p}))
                for pair, p in zip(pairs, adjusted, strict=True)
            ]
        return found + [
            self._against_majority(model, seeds, draws, places[model])
            for model, seeds in models.items()
        ]

    def _against_majority(
        self, model: str, seeds: Sequence[Run], draws: Mapping[Key, Draws], places: Sequence[int]
    ) -> Comparison:
        """Compare accuracy with always saying the most frequent class of the test set."""
        sample = seeds[0].sample
        most = int(np.bincount(sample.y_true).argmax())
        constant = Run(
            MAJORITY,
            0,
            seeds[0].case_ids,
            type(sample)(
                sample.y_true,
                sample.probabilities,
                np.full(len(sample.y_true), most),
                sample.positive,
            ),
            None,
        )
        other = draw([constant], self.how)[0, "accuracy"]
        mine = mean_draws([draws[place, "accuracy"] for place in places])
        return _compare((model, MAJORITY), "accuracy", mine - other, self.how)


def _rule(key: object, validation: Mapping[Any, Predictions], plan: AnalysisPlan) -> str:
    """Say how a threshold was chosen."""
    return str(plan.operating_point) + ", on validation" if key in validation else "0.5"


def _estimates(
    runs: Sequence[Run], draws: Mapping[Key, Draws], how: Resampling
) -> dict[str, dict[str, Estimate]]:
    """Turn draws into estimates, by model; several seeds are averaged."""
    models = _by_model(runs)
    names = [name for place, name in draws if place == 0]
    found: dict[str, dict[str, Estimate]] = {}
    for model, own in models.items():
        places = [place for place, run in enumerate(runs) if run.model == model]
        found[model] = {
            name: estimate(name, [draws[place, name] for place in places], own, how)
            for name in names
        }
    return found


def _compare(names: tuple[str, str], metric: str, difference: Draws, how: Resampling) -> Comparison:
    """Compare by the paired bootstrap."""
    low, high, kind = bootstrap_interval(difference)
    if difference.is_constant and np.isfinite(difference.value) and difference.num_clusters > 1:
        low = high = difference.value
    p_value = bootstrap_p_value(difference) if kind != "none" else float("nan")
    return Comparison(
        a=names[0],
        b=names[1],
        metric=metric,
        difference=difference.value,
        low=low,
        high=high,
        sentence=sentence(names, metric, (difference.value, low, high)),
        p_value=p_value,
        method=f"paired bootstrap over {how.noun}, {kind}, {how.resamples}",
    )


def _exact(pair: Comparison, models: Mapping[str, Sequence[Run]]) -> Comparison:
    """Add DeLong's or McNemar's p-value to the method's words where one score a patient stands."""
    a, b = models[pair.a], models[pair.b]
    sample, other = a[0].sample, b[0].sample
    if len(a) > 1 or len(b) > 1 or "patients" not in pair.method:
        return pair
    if pair.metric == "accuracy":
        p_value = mcnemar_test(sample.y_true == sample.decision, other.y_true == other.decision)
        name = "McNemar"
    elif pair.metric == "roc_auc_score" and sample.positive is not None:
        truth, k = sample.y_true == sample.positive, sample.positive
        if min(truth.sum(), (~truth).sum()) < 2:
            return pair
        scores = sample.probabilities[:, k], other.probabilities[:, k]
        p_value, name = delong_test(truth, *scores)[3], "DeLong"
    else:
        return pair
    return Comparison(**(_fields(pair) | {"method": f"{pair.method}; {name} p = {p_value:.3f}"}))


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Turn an evaluation into what ``evaluation.json`` holds; NaN becomes null."""
    plain = _plain(_fields(evaluation))
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


_NUMBERS = ("value", "low", "high", "difference", "p_value", "p_value_holm")


def _numbers(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float("nan") if value is None and key in _NUMBERS else value
        for key, value in cell.items()
    }
