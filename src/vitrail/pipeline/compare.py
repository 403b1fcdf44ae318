"""``vitrail compare``: runs on the same test cases become ``compare.json`` and one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.data.cohort import load_cohort
from vitrail.data.split import analysis_unit, load_split
from vitrail.evaluation.compare import compare_runs
from vitrail.evaluation.evaluate import AnalysisPlan
from vitrail.evaluation.table import read_predictions
from vitrail.pipeline.analysis import Asked
from vitrail.pipeline.ledger import entries
from vitrail.pipeline.throughput import sentences as throughput_sentences
from vitrail.pipeline.throughput import throughput
from vitrail.records import Predictions, Progress, no_progress
from vitrail.report.compare import build, names_of
from vitrail.runfolder import RunFolder, read_json, write_json, write_text


def compare(
    runs: Sequence[RunFolder],
    *,
    out: Path,
    seed: int = 0,
    timed: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write ``compare.json`` and ``compare.html`` into ``out``.

    Args:
        runs: At least two evaluated runs on the same test cases; each stands by its own model.
            Patients, groups, the positive class and how images become patients and thresholds are
            chosen are those of the first.
        out: Folder of the two files.
        seed: Of the bootstrap.
        timed: Whether the models label test pictures in turn, so as to compare their speed.
        progress: Told as the resamples go by.

    Raises:
        InputError: If there are fewer than two runs, or one is given twice.
        RunFolderError: If a run was not evaluated, or is timed and was not trained.
        DataError: If runs were tested on other cases.
    """
    names = names_of(runs)
    own = {name: _own(run) for name, run in zip(names, runs, strict=True)}
    first = runs[0]
    cohort = load_cohort(first.cohort)
    split, clusters = load_split(first.split, cohort)
    evaluation = read_json(first.require(first.evaluation, "evaluate"))
    content = compare_runs(
        own,
        clusters=clusters,
        unit=analysis_unit([case for case in cohort if split[case.case_id] == "test"]),
        positive_class=evaluation["positive_class"] if isinstance(evaluation, dict) else None,
        seed=seed,
        plan=_asked(first),
        progress=progress,
    )
    if timed:
        content["throughput"] = throughput(dict(zip(names, runs, strict=True)), progress=progress)
    record, page = out / "compare.json", out / "compare.html"
    write_json(record, content)
    write_text(page, build(runs, compared=record, folder=out))
    said = [one["sentence"] for one in content["comparisons"]] + content["warnings"]
    said += throughput_sentences(content["throughput"]) if timed else []
    return {"compare": str(record), "report": str(page), "summary": [*said, f"report: {page}"]}


def _asked(run: RunFolder) -> AnalysisPlan:
    """Roll up and choose thresholds as the run's own evaluation was asked to."""
    before = entries(run).get("evaluate", {}).get("result", {})
    plan = Asked().after(before.get("asked", {})).plan()
    return AnalysisPlan(roll_up=plan.roll_up, operating_point=plan.operating_point)


def _own(run: RunFolder) -> tuple[Predictions, ...]:
    """Take the predictions of a run's own model: the ViT, else the first."""
    predictions = read_predictions(run.require(run.predictions, "evaluate"))
    models = dict.fromkeys(one.model for one in predictions)
    model = "vit" if "vit" in models else next(iter(models))
    return tuple(one for one in predictions if one.model == model)
