"""``figure``: figures for papers and slides."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.cli.options import AsJson, Debug
from vitrail.cli.speaking import speaking
from vitrail.errors import InputError
from vitrail.runfolder import RunFolder


def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A figure's name; or list.")] = "list",
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", show_default=False, help="The run folder.")
    ] = None,
    *,
    case: Annotated[
        str,
        typer.Option(metavar="ID", show_default="a sure, right one", help="As in cohort.csv."),
    ] = "",
    label: Annotated[
        str,
        typer.Option("--class", metavar="CLASS", show_default="predicted", help="What is mapped."),
    ] = "",
    method: Annotated[
        str, typer.Option(show_default="relevance", help="A method of vitrail.explain.methods().")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="RUN/figures/NAME.png",
            help=".png, .svg or .pdf; what moves: .gif, .webp or .apng.",
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Draw a figure for a paper or a slide.

    Reads the run folder: patches, positions, heads, distance, rollout, panels, steps, samples,
    confusion, curves, tuning-map and more; `vitrail figure list` says what each shows. Writes
    one file.

    Example: `vitrail figure panels run1 --class nodule --out panels.pdf`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (_, show):
        from vitrail.pipeline.figure import Asked, list_figures
        from vitrail.pipeline.figure import figure as verb

        if name == "list":
            show(list_figures())
            return
        if run is None:
            rule = "a figure is drawn of a run"
            raise InputError("RUN", "none", rule, f"vitrail figure {name} RUN")
        asked = Asked(case=case, label=label, method=method)
        show(verb(name, RunFolder(run), asked=asked, out=out))
