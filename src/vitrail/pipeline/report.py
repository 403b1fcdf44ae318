"""``vitrail report``: the run folder becomes one page."""

from vitrail.pipeline.ledger import Result, require_run, stage
from vitrail.records import Progress, no_progress
from vitrail.report.page import build
from vitrail.runfolder import RunFolder, write_text


def report(
    run: RunFolder,
    *,
    checklist: str | None = None,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Write ``report.html`` from the run folder alone; it is always made anew.

    Args:
        run: Whatever is there is shown, and what is not is named.
        checklist: Adds a pre-filled checklist of this name to the page.
        command: The exact command line.
        progress: Told when it is done.

    Raises:
        InputError: If there is no such checklist.
        RunFolderError: If the folder is not a run's.
    """
    require_run(run)

    def work() -> Result:
        write_text(run.report, build(run, checklist=checklist))
        progress("report", done=1, total=1)
        return {"report": str(run.report), "summary": [f"report: {run.report}"]}

    return stage("report", run, inputs=None, outputs=(), work=work, command=command)
