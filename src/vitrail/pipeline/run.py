"""``vitrail run``: inspect, plan, train, evaluate, explain, report."""

from collections.abc import Callable
from pathlib import Path

from vitrail.pipeline.evaluate import evaluate
from vitrail.pipeline.explain import explain
from vitrail.pipeline.guided import train
from vitrail.pipeline.inspect import inspect
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.plan import plan
from vitrail.pipeline.processes import leads, meet
from vitrail.pipeline.report import report
from vitrail.pipeline.request import Request
from vitrail.records import Progress, no_progress
from vitrail.runfolder import RunFolder


def run(
    folder: RunFolder,
    pictures: Path,
    *,
    manifest: Path | None = None,
    patient_from: str = "",
    request: Request | None = None,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Do the main job; finished stages whose inputs are unchanged are skipped.

    Of several processes all train; the leader does the rest.

    Args:
        folder: The run folder.
        pictures: The folder of pictures.
        manifest: A CSV that lists them.
        patient_from: A regular expression whose first group is the patient in a path.
        request: What the user asked for.
        command: The exact command line.
        progress: Told of everything long.

    Raises:
        VitrailError: Whatever a stage cannot go on with; what is finished stays.
    """
    before: tuple[Callable[[], Result], ...] = (
        lambda: inspect(
            folder,
            pictures,
            manifest=manifest,
            patient_from=patient_from,
            command=command,
            progress=progress,
        ),
        lambda: plan(folder, request, command=command, progress=progress),
    )
    after: tuple[Callable[[], Result], ...] = (
        lambda: evaluate(folder, command=command, progress=progress),
        lambda: explain(folder, command=command, progress=progress),
        lambda: report(folder, command=command, progress=progress),
    )
    results = [work() for work in before] if leads() else []
    meet()
    results.append(train(folder, command=command, progress=progress))
    results += [work() for work in after] if leads() else []
    return {
        "run": str(folder.root),
        "report": str(folder.report),
        "stages": {result["stage"]: _brief(result) for result in results},
        "minutes": round(sum(result["seconds"] for result in results) / 60, 2),
        "summary": [sentence for result in results for sentence in result["summary"]],
    }


def _brief(result: Result) -> Result:
    """Leave a stage's name and sentences out of its place in the whole."""
    return {name: value for name, value in result.items() if name not in ("stage", "summary")}
