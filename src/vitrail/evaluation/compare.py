"""``vitrail compare``: several runs on the same test cases, pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from vitrail.errors import InputError
from vitrail.evaluation.evaluate import AnalysisPlan, evaluate
from vitrail.evaluation.paired import MAJORITY
from vitrail.evaluation.record import to_json
from vitrail.records import Predictions, Progress, no_progress

_KEPT = ("unit", "positive_class", "sets", "curves", "operating_points", "by_class", "warnings")


def compare_runs(
    runs: Mapping[str, Sequence[Predictions]],
    *,
    clusters: Mapping[str, str],
    unit: Literal["patient", "image"],
    positive_class: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    plan: AnalysisPlan | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Compare the models of several runs by the paired bootstrap over patients.

    A run's only model takes the run's name, several are named ``run/model``.

    Args:
        runs: Of each run, by its name: all its predictions, validation cases among them.
        clusters: What each case belongs to.
        unit: As in :func:`~vitrail.evaluation.evaluate.evaluate`.
        positive_class: Of a binary task.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        plan: Says how images become patients and how thresholds are chosen.
        progress: Told as the resamples go by.

    Returns:
        What ``compare.json`` holds: ``runs``, ``comparisons`` and, as in ``evaluation.json``,
        ``unit, positive_class, sets, curves, operating_points, by_class, warnings``.

    Raises:
        InputError: If there are fewer than two runs.
        DataError: If the runs' test cases or their labels differ; the message names some.
    """
    if len(runs) < 2:
        rule, remedy = "two runs at least are compared", "name another run folder"
        raise InputError("runs", ", ".join(runs) or "none", rule, remedy)
    renamed = []
    for run, predictions in runs.items():
        alone = len({p.model for p in predictions}) == 1
        renamed += [replace(p, model=run if alone else f"{run}/{p.model}") for p in predictions]
    content = to_json(
        evaluate(
            renamed,
            clusters=clusters,
            unit=unit,
            positive_class=positive_class,
            resamples=resamples,
            seed=seed,
            plan=plan,
            progress=progress,
        )
    )
    pairs = [one for one in content["comparisons"] if one["b"] != MAJORITY]
    return {"runs": list(runs), "comparisons": pairs} | {key: content[key] for key in _KEPT}
