"""``evaluate``, ``report``, ``compare``: how good the model is."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail.cli.options import AsJson, Debug, Manifest, Run
from vitrail.cli.request import takes
from vitrail.cli.speaking import command_line, speaking
from vitrail.runfolder import RunFolder

Prevalence = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        show_default=False,
        help="State predictive values (PPV, NPV) also where this share has the disease: 0.02.",
    ),
]
OperatingPoint = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        show_default="youden",
        help="How validation cases choose the threshold: youden, sensitivity=0.95, "
        "specificity=0.9, cost=5 (a miss costs five false alarms) or fixed=0.5.",
    ),
]
RollUp = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        show_default="mean",
        help="How pictures become their patient: mean, max, top=3 or vote.",
    ),
]
Risk = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        show_default="0.05",
        help="Share of wrong decisions that abstaining is to keep to.",
    ),
]
Positive = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS",
        show_default="by its name",
        help="Which of two classes is the positive one.",
    ),
]
External = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        help="Pictures or scans of another source: whatever `run` reads.",
    ),
]
Medmnist = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        show_default=False,
        help="Write the file of MedMNIST's Evaluator too; the test set is pathmnist, ….",
    ),
]


def _asked(
    *,
    prevalence: Prevalence = None,
    operating_point: OperatingPoint = None,
    roll_up: RollUp = None,
    risk: Risk = None,
    positive: Positive = None,
) -> Any:
    """Read the options."""
    from vitrail.pipeline.analysis import Asked

    return Asked(
        prevalence=prevalence,
        operating_point=operating_point,
        roll_up=roll_up,
        risk=risk,
        positive_class=positive,
    )


@partial(takes, name="asked", read=_asked)
def evaluate(
    run: Run,
    *,
    external: External = None,
    manifest: Manifest = None,
    asked: Callable[[], Any],
    medmnist: Medmnist = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Turn predictions into metrics with intervals.

    Reads the trained models. Writes predictions.csv, and evaluation.json: every number with its
    95 % interval, and the models compared. Intervals are made over patients where they are known;
    the decision threshold comes from validation. Looks at the test set are counted; what is asked
    here (--prevalence, --roll-up, …) stays asked in later runs of this verb.

    With --external, the same for pictures from elsewhere (--manifest lists them), as a further set.

    Example: `vitrail evaluate run1 --operating-point sensitivity=0.95 --prevalence 0.02`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.evaluate import evaluate as verb
        from vitrail.pipeline.evaluate import for_medmnist
        from vitrail.pipeline.external import evaluate_external

        folder = RunFolder(run)
        told: dict[str, Any] = {"command": command_line(), "progress": progress}
        if external is None and manifest is None:
            result = verb(folder, asked(), **told)
        else:
            result = evaluate_external(folder, external, asked=asked(), manifest=manifest, **told)
        if medmnist:
            result["summary"] = [*result["summary"], *for_medmnist(folder, medmnist)]
        show(result)


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
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Time the models, side by side on test pictures.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Set runs on the same test cases side by side.

    Reads the run folders only (with --throughput also the pictures); runs that were tested on
    other cases are refused. Writes compare.json and compare.html, with paired differences.

    Example: `vitrail compare run1 run2 --out both`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline.compare import compare as verb

        folders = [RunFolder(run) for run in runs]
        show(verb(folders, out=out, timed=throughput, progress=progress))
