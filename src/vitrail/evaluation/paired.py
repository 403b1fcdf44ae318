"""Models against each other, against one class always, and against the shortcut audit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from vitrail.evaluation.intervals import Resampling, by_model, draw
from vitrail.evaluation.level import Level
from vitrail.evaluation.scored import Run
from vitrail.metrics.comparison import (
    bootstrap_p_value,
    delong_test,
    holm,
    mcnemar_test,
    sentence,
)
from vitrail.metrics.interval import LEVEL, Draws, bootstrap_interval, mean_draws
from vitrail.records import Comparison

MAJORITY = "majority class"
COMPARED = (
    "roc_auc_score",
    "average_precision_score",
    "balanced_accuracy",
    "accuracy",
    "matthews_corrcoef",
    "brier_score_loss",
)


def compare_models(level: Level) -> list[Comparison]:
    """Compare every pair of models on the test (else the external) set; p-values are Holm's."""
    runs = level.runs.get(level.compared, ())
    models = by_model(runs)
    return [
        pair
        for metric in COMPARED
        for pair in _adjusted(
            [_pair(level, names, metric=metric) for names in combinations(models, 2)]
        )
    ]


def _adjusted(pairs: Sequence[Comparison]) -> list[Comparison]:
    """Add Holm's p-values; what they take back is taken back in the sentence, too."""
    found = []
    for pair, p_value in zip(pairs, holm([pair.p_value for pair in pairs]), strict=True):
        lost = len(pairs) > 1 and p_value >= 1 - LEVEL and not pair.low <= 0 <= pair.high
        words = f", but not after Holm's correction for {len(pairs)} pairs" if lost else ""
        found.append(replace(pair, p_value_holm=p_value, sentence=pair.sentence + words))
    return found


def compare_with_majority(level: Level, majority: int) -> list[Comparison]:
    """Compare each model's accuracy with always saying the training cases' most frequent class."""
    found = []
    for model, seeds in by_model(level.runs.get(level.compared, ())).items():
        sample = seeds[0].sample
        always = replace(sample, decision=np.full(len(sample.y_true), majority))
        constant = replace(
            seeds[0], model=MAJORITY, sample=always, calibrated=None, vector_scaled=None
        )
        other = draw([constant], level.how)[0, "accuracy"]
        difference = _mean(level, model, metric="accuracy") - other
        found.append(
            difference_between((model, MAJORITY), difference, metric="accuracy", how=level.how)
        )
    return found


def _mean(level: Level, model: str, *, metric: str) -> Draws:
    """Average a model's draws over its seeds."""
    draws = level.draws[level.compared]
    runs = level.runs[level.compared]
    return mean_draws([draws[k, metric] for k, run in enumerate(runs) if run.model == model])


def _pair(level: Level, names: tuple[str, str], *, metric: str) -> Comparison:
    first, second = (_mean(level, name, metric=metric) for name in names)
    found = difference_between(names, first - second, metric=metric, how=level.how)
    runs = level.runs[level.compared]
    dependent = level.draws[level.compared][0, metric].num_clusters < len(runs[0].case_ids)
    return found if level.is_mean or dependent else _exact(found, by_model(runs))


def difference_between(
    names: tuple[str, str], difference: Draws, *, metric: str, how: Resampling
) -> Comparison:
    """Say by the paired bootstrap how two models differ.

    By the percentile interval, which is what the p-value inverts: BCa's bias correction takes
    chance for bias in differences of average precision, and names a better model too often.
    """
    low, high, kind = bootstrap_interval(replace(difference, jackknife=np.empty(0)))
    if difference.is_constant and difference.value == 0 and difference.num_clusters > 1:
        low = high = 0.0
    return Comparison(
        a=names[0],
        b=names[1],
        metric=metric,
        difference=difference.value,
        low=low,
        high=high,
        sentence=sentence(names, metric, interval=(difference.value, low, high)),
        p_value=bootstrap_p_value(difference) if kind != "none" else float("nan"),
        method=f"paired bootstrap over {how.noun}, {kind}, {how.resamples}",
    )


def _exact(pair: Comparison, models: Mapping[str, Sequence[Run]]) -> Comparison:
    """Add DeLong's or McNemar's p-value where each model is one run; the cases are independent."""
    a, b = models[pair.a], models[pair.b]
    sample, other = a[0].sample, b[0].sample
    if len(a) > 1 or len(b) > 1:
        return pair
    if pair.metric == "accuracy":
        p_value = mcnemar_test(sample.y_true == sample.decision, other.y_true == other.decision)
        return replace(pair, exact_p_value=p_value, exact_test="McNemar")
    if pair.metric != "roc_auc_score" or sample.positive is None:
        return pair
    truth, k = sample.y_true == sample.positive, sample.positive
    if min(truth.sum(), (~truth).sum()) < 2:
        return pair
    scores = np.stack([sample.probabilities[:, k], other.probabilities[:, k]])
    return replace(pair, exact_p_value=delong_test(truth, scores)[3], exact_test="DeLong")


def beside_shortcuts(
    level: Level, shortcuts: Sequence[Mapping[str, Any]]
) -> list[dict[str, object]]:
    """Set each model's ROC area beside that of the strongest trivial feature.

    The audit measured the feature on its own cases, so that the two are not paired: intervals are
    laid side by side. Pass the audit's scores of the test cases as predictions of a model of their
    own for a paired comparison.

    Args:
        level: Of the headline numbers.
        shortcuts: ``feature, roc_auc_score, low, high`` each.
    """
    known = [one for one in shortcuts if one.get("roc_auc_score") is not None]
    if not known:
        return []
    best = max(known, key=lambda one: float(one["roc_auc_score"]))
    value, low, high = (best.get(key) for key in ("roc_auc_score", "low", "high"))
    span = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    trivial = f"{best['feature']} alone reaches {value:.3f}{span}"
    found: list[dict[str, object]] = []
    for model, metrics in level.sets.get(level.compared, {}).items():
        own = metrics["roc_auc_score"]
        if not np.isfinite(own.low):
            continue
        more = own.low > (float(best["roc_auc_score"]) if high is None else high)
        verdict = f"the model {'sees more than' if more else 'may see no more than'} that"
        said = f"{model} reaches ROC AUC {own.value:.3f} [{own.low:.3f}, {own.high:.3f}]"
        found.append(
            {
                "model": model,
                "feature": best["feature"],
                "value": value,
                "low": low,
                "high": high,
                "sentence": f"{said}; {trivial}: {verdict}",
            }
        )
    return found
