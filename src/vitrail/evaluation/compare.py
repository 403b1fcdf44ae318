"""Several runs on the same test cases: paired differences between their models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from vitrail.errors import DataError
from vitrail.evaluation.evaluate import MAJORITY, evaluate, to_json
from vitrail.records import Predictions, Progress, no_progress


def compare_runs(
    runs: Mapping[str, Sequence[Predictions]],
    *,
    clusters: Mapping[str, str],
    unit: Literal["patient", "image"],
    positive_class: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Compare runs pair by pair on their test cases, resampling all of them together.

    Args:
        runs: Each run's name and the predictions of the one model that stands for it, of all its
            seeds, on validation and test.
        clusters: What each case belongs to, as in :func:`vitrail.evaluation.evaluate.evaluate`.
        unit: ``patient`` where the clusters are patients.
        positive_class: Of a binary task; None chooses as ``evaluate`` does.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        progress: Told as the resamples go by.

    Returns:
        What ``compare.json`` holds. Models are named ``<run>/<model>``; p-values are adjusted by
        Holm's method for all pairs of runs compared by the same metric.

    Raises:
        DataError: If runs were tested on other cases, or gave them other labels.
    """
    _check(runs)
    renamed = [replace(one, model=f"{run}/{one.model}") for run, own in runs.items() for one in own]
    evaluation = evaluate(
        renamed,
        clusters=clusters,
        unit=unit,
        positive_class=positive_class,
        resamples=resamples,
        seed=seed,
        progress=progress,
    )
    content = to_json(evaluation)
    return {
        "unit": content["unit"],
        "positive_class": content["positive_class"],
        "cases": len(_tested(next(iter(runs.values())))),
        "runs": [{"name": run, "model": own[0].model} for run, own in runs.items()],
        "comparisons": [one for one in content["comparisons"] if one["b"] != MAJORITY],
        "warnings": content["warnings"],
    }


def _tested(predictions: Sequence[Predictions]) -> dict[str, str]:
    """Return the class name of every test case."""
    return {
        case_id: one.classes[truth]
        for one in predictions
        if one.split == "test"
        for case_id, truth in zip(one.case_ids, one.y_true.tolist(), strict=True)
    }


def _check(runs: Mapping[str, Sequence[Predictions]]) -> None:
    """Refuse runs that were tested on other cases, naming one."""
    (first, own), *others = ((name, _tested(predictions)) for name, predictions in runs.items())
    for name, tested in others:
        odd = sorted({case_id for case_id, _ in set(own.items()) ^ set(tested.items())})
        if odd:
            raise DataError(
                f"runs {first} and {name}",
                f"{len(odd)} test cases or their labels differ, like {odd[0]}",
                "runs are compared on the same test cases",
                "plan one of them anew with the split.csv of the other",
            )
