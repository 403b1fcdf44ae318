"""Several labels a case: each label against its absence, and the mean over the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vitrail.evaluation.intervals import Key, cluster_numbers, draw, estimates
from vitrail.evaluation.level import Level
from vitrail.evaluation.measure import Sample
from vitrail.evaluation.scored import Run
from vitrail.metrics.classification import weighted_mean
from vitrail.metrics.interval import Draws, bootstrap, mean_draws
from vitrail.records import Estimate, Predictions

ByClass = dict[str, dict[str, Mapping[str, Estimate]]]
"""Model, class or label, metric."""


def has_labels(predictions: Predictions) -> bool:
    """Tell whether a case can have several labels."""
    return predictions.y_true.ndim == 2


def one_label(predictions: Predictions, place: int) -> Predictions:
    """Make the binary task of one label: absent or present."""
    present = predictions.probabilities[:, place]
    name = predictions.classes[place]
    return replace(
        predictions,
        classes=(f"no {name}", name),
        y_true=predictions.y_true[:, place].astype(np.int64),
        probabilities=np.stack([1 - present, present], axis=1),
    )


def mean_level(labels: Mapping[str, Level]) -> Level:
    """Average the labels, resample by resample; labels that do not define a metric are left out.

    All labels were resampled from the same seed and clusters, so that their draws are paired. Adds
    ``exact_match``: the share of cases all of whose labels are decided rightly.
    """
    first = next(iter(labels.values()))
    mean = replace(first, draws={}, sets={}, calibrated={}, vector_scaled={}, is_mean=True)
    for split, found in first.draws.items():
        draws = {key: _mean([one.draws[split][key] for one in labels.values()]) for key in found}
        draws |= _exact_match([one.runs[split] for one in labels.values()], level=first)
        mean.draws[split] = draws
        mean.sets[split] = estimates(first.runs[split], draws, how=first.how, closed=False)
    return mean


def _mean(draws: list[Draws]) -> Draws:
    return mean_draws([one for one in draws if np.isfinite(one.value)] or draws[:1])


def _exact_match(runs: Sequence[Sequence[Run]], *, level: Level) -> dict[Key, Draws]:
    """Ask for all labels of a case at once."""
    right = [
        np.all([run.sample.decision == run.sample.y_true for run in same], axis=0).astype(float)
        for same in zip(*runs, strict=True)
    ]
    how = level.how
    return bootstrap(
        lambda weights: {
            (place, "exact_match"): weighted_mean(one, weights=weights)
            for place, one in enumerate(right)
        },
        cluster_numbers(runs[0][0].case_ids, how.clusters),
        resamples=how.resamples,
        seed=how.seed,
    )


def of_labels(labels: Mapping[str, Level]) -> dict[str, ByClass]:
    """Give every label's own numbers: set, model, label, metric."""
    found: dict[str, ByClass] = {}
    for name, level in labels.items():
        for split, models in level.sets.items():
            for model, metrics in models.items():
                found.setdefault(split, {}).setdefault(model, {})[name] = metrics
    return found


def of_classes(level: Level, classes: tuple[str, ...]) -> dict[str, ByClass]:
    """Measure each class against the rest, on the compared set, with the decisions as taken."""
    if len(classes) < 3 or not level.compared:
        return {}
    found: ByClass = {}
    runs = level.runs[level.compared]
    for place, name in enumerate(classes):
        own = [replace(run, sample=_against_rest(run.sample, place)) for run in runs]
        for model, metrics in estimates(own, draw(own, level.how), how=level.how).items():
            found.setdefault(model, {})[name] = metrics
    return {level.compared: found}


def _against_rest(sample: Sample, place: int) -> Sample:
    score = sample.probabilities[:, place]
    return Sample(
        y_true=(sample.y_true == place).astype(np.int64),
        probabilities=np.stack([1 - score, score], axis=1),
        decision=(sample.decision == place).astype(np.int64),
        positive=1,
    )


def merged_curves(
    drawn: Mapping[str, Mapping[str, Mapping[str, Mapping[str, object]]]],
) -> dict[str, dict[str, dict[str, object]]]:
    """Put the labels' curves side by side, as the classes of a multi-class task stand.

    Args:
        drawn: Label, set, model, kind of curve.
    """
    found: dict[str, dict[str, dict[str, object]]] = {}
    for label, sets in drawn.items():
        for split, models in sets.items():
            for model, kinds in models.items():
                own = found.setdefault(split, {}).setdefault(model, {"seed": kinds["seed"]})
                for kind in ("roc", "precision_recall"):
                    place = own.setdefault(kind, {})
                    place.update(kinds[kind])  # type: ignore[attr-defined]
                by_label = own.setdefault("labels", {})
                by_label[label] = {  # type: ignore[index]
                    kind: kinds[kind] for kind in ("confusion", "calibration", "decision")
                }
    return found
