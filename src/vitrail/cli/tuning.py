"""``tune``: which configuration is best on validation cases."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail.cli.options import AsJson, Debug, Manifest
from vitrail.cli.request import asks
from vitrail.cli.speaking import command_line, require, speaking
from vitrail.runfolder import RunFolder

Where = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|DIR", show_default=False, help="A planned run, or pictures (with --out)."
    ),
]
Space = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME=VALUES...",
        show_default=False,
        help="patch=8,16,32 (values) or learning_rate=1e-4..1e-2 (a range, with --trials).",
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", show_default=False, help="The new run of pictures."),
]
Trials = Annotated[
    int, typer.Option(min=0, show_default="every combination", help="Configurations to draw (TPE).")
]
Prune = Annotated[bool, typer.Option("--prune", help="Give trials up that lag behind the others.")]
Storage = Annotated[
    str,
    typer.Option(
        metavar="URL",
        show_default="RUN/tuning/study.db",
        help="Database of the study, for workers on several machines.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes on this machine.")]

Nested = Annotated[
    bool,
    typer.Option(
        "--nested",
        help="Tune anew in each outer fold of a run planned with --folds, and test each winner on "
        "the cases its fold held out: a whole tuning a fold.",
    ),
]


@asks
def tune(  # noqa: PLR0913 (an option each)
    where: Where,
    space: Space,
    *,
    out: NewRun = None,
    manifest: Manifest = None,
    trials: Trials = 0,
    prune: Prune = False,
    storage: Storage = "",
    workers: Workers = 1,
    nested: Nested = False,
    request: Callable[[], Any],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Try configurations and choose one on validation cases.

    Reads plan.yaml and split.csv, and no test case. Writes tuning/study.json (every trial),
    tuning/plan.yaml (the chosen one), and prints the commands that train and evaluate it. Stop
    it any time: the same command goes on, finished trials are kept. Needs: pip install
    'vitrail[tune]'.

    Example: `vitrail tune run1 patch=8,16,32 heads=1,2,4 dropout=.1,.3,.5`
    """
    with speaking(as_json=as_json, debug=debug, out=out or where) as (progress, show):
        require("optuna", extra="tune")
        from vitrail.pipeline.nested import nested as nested_verb
        from vitrail.pipeline.tune import Wish, planned
        from vitrail.pipeline.tune import tune as verb

        told: dict[str, Any] = {"command": command_line(), "progress": progress}
        run = RunFolder(where)
        if out is not None:
            run = planned(RunFolder(out), where, manifest=manifest, request=request(), **told)
        wish = Wish(trials=trials, prune=prune, storage=storage, workers=workers)
        show((nested_verb if nested else verb)(run, space, wish=wish, **told))
