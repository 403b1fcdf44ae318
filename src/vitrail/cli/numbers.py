"""``evaluate``, ``report``, ``compare``: how good the model is."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.cli.options import AsJson, Debug, Manifest, Run
from vitrail.cli.speaking import command_line, speaking
from vitrail.runfolder import RunFolder


def evaluate(
    run: Run,
    *,
    external: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Pictures of another source."),
    ] = None,
    manifest: Manifest = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Turn predictions into metrics with intervals.

    Reads the trained models. Writes predictions.csv, and evaluation.json: every number with its
    95 % interval, and the models compared. Intervals are made over patients where they are known;
    the decision threshold comes from validation. Looks at the test set are counted.

    With --external, the same for pictures from elsewhere (--manifest lists them), as a further set.

    Example: `vitrail evaluate run1 --external ./other-hospital`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.evaluate import evaluate as verb
        from vitrail.pipeline.external import evaluate_external

        if external is None and manifest is None:
            show(verb(RunFolder(run), command=command_line(), progress=progress))
        else:
            show(
                evaluate_external(
                    RunFolder(run),
                    external,
                    manifest=manifest,
                    command=command_line(),
                    progress=progress,
                )
            )


def report(
    run: Run,
    *,
    checklist: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Add a pre-filled claim-2024, tripod-ai or stard-ai checklist."
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the one page: data, plan, curves, numbers and maps.

    Reads the run folder only (no pictures of yours, no torch). Writes report.html, which opens
    from disk without a network.

    Example: `vitrail report run1`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.report import report as verb

        show(verb(RunFolder(run), checklist=checklist, command=command_line(), progress=progress))


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", show_default=False, help="Run folders.")
    ],
    *,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where compare.json and compare.html go.")
    ] = Path(),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Set runs on the same test cases side by side.

    Reads the run folders only; runs that were tested on other cases are refused. Writes
    compare.json and compare.html, with paired differences.

    Example: `vitrail compare run1 run2 --out both`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline.compare import compare as verb

        show(verb([RunFolder(run) for run in runs], out=out, progress=progress))
