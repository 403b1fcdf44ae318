"""``recipe``: the founding systems, each as commands of this command line."""

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail.cli.options import AsJson, Debug
from vitrail.cli.speaking import STEP, speaking
from vitrail.errors import InputError

Verb = Annotated[str, typer.Argument(metavar="VERB", help="list, show or run.")]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The recipe's name.")]
Data = Annotated[
    Path | None, typer.Option(metavar="DIR", show_default=False, help="The real data, as fetched.")
]
Listed = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="A CSV that lists them, taken as it is: groups and patients stay together.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False, help="Local weights instead of downloaded ones."
    ),
]
Phantom = Annotated[
    bool, typer.Option("--phantom", help="A generated stand-in of the data: proves the path.")
]
Smoke = Annotated[bool, typer.Option("--smoke", help="A tiny stand-in and one epoch: seconds.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", show_default="NAME", help="Takes everything.")
]


def recipe(  # noqa: PLR0913 (an option each)
    verb: Verb = "list",
    name: Name = "",
    *,
    data: Data = None,
    manifest: Listed = None,
    weights: Weights = None,
    phantom: Phantom = False,
    smoke: Smoke = False,
    out: Out = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Repeat a founding system: list them, show one, run one.

    A recipe is a list of commands; show prints them with data, cost, the published number and
    what is wrong with it; run executes them. What is finished is skipped when run again. Writes
    OUT with the runs, figures and recipe.json.

    Example: `vitrail recipe run beans-deit --data beans`
    """
    folder = out or Path(name)
    steps = []
    with speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline import recipe as recipes

        _check(verb, name, stand_in=phantom or smoke, data=data)
        if verb == "list":
            show(recipes.list_recipes())
        elif verb == "show":
            show(recipes.show_recipe(name))
        else:
            source = recipes.Source(data=data, manifest=manifest, weights=weights, smoke=smoke)
            steps = recipes.prepare(name, source, out=folder, progress=progress)
    for step in steps:
        typer.echo(f"# {step.about}\n$ {step.run}", err=True)
        result = recipes.perform(step, lambda words: _execute(words, debug=debug), out=folder)
        typer.echo("\n".join(result["summary"]), err=True)
    if verb == "run":
        with speaking(as_json=as_json, debug=debug, out=None) as (_, show):
            show(recipes.finish(name, out=folder))


def _check(verb: str, name: str, *, stand_in: bool, data: Path | None) -> None:
    """Refuse what cannot be done."""
    if verb not in {"list", "show", "run"}:
        raise InputError("VERB", repr(verb), "it is list, show or run", "vitrail recipe list")
    if verb != "list" and not name:
        remedy = f"vitrail recipe {verb} beans-deit; `vitrail recipe list` names all"
        raise InputError("NAME", "none", "a recipe is named", remedy)
    if verb == "run" and (data is None) != stand_in:
        came = "neither" if data is None else "both"
        rule = "a recipe is run on its data (--data DIR) or on a stand-in (--phantom, --smoke)"
        remedy = f"vitrail recipe show {name} tells how to get the data"
        raise InputError("--data, --phantom", came, rule, remedy)


def _execute(words: Sequence[str], *, debug: bool) -> Mapping[str, Any]:
    """Run another command of this command line, and return its object."""
    from vitrail.cli import app

    said = StringIO()
    asked = [*words, "--json", *(["--debug"] if debug else [])]
    before = STEP.set(tuple(words))
    try:
        with redirect_stdout(said):
            status = typer.main.get_command(app).main(asked, "vitrail", standalone_mode=False)
    finally:
        STEP.reset(before)
    if status:
        raise typer.Exit(status)
    result: Mapping[str, Any] = json.loads(said.getvalue())
    return result
