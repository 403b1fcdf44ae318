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


def recipe(  # noqa: PLR0913 (an option each)
    verb: Annotated[str, typer.Argument(metavar="VERB", help="list, show or run.")] = "list",
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="The recipe's name.")
    ] = "",
    *,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="The real data, as fetched."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="A CSV that lists them, taken as it is: groups and patients stay together.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Local weights instead of downloaded ones."
        ),
    ] = None,
    phantom: Annotated[
        bool, typer.Option("--phantom", help="A generated stand-in of the data: proves the path.")
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A tiny stand-in and one epoch: seconds.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="NAME", help="Takes everything.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Repeat a founding system: list them, show one, run one.

    A recipe is a list of commands; show prints them with data, cost, the published number and
    what is wrong with it; run executes them. What is finished is skipped when run again. Writes
    OUT with the runs, figures and recipe.json.

    Example: `vitrail recipe run beans-deit --data beans`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline import recipe as recipes

        if verb not in {"list", "show", "run"}:
            raise InputError("VERB", repr(verb), "it is list, show or run", "vitrail recipe list")
        if verb != "list" and not name:
            remedy = f"vitrail recipe {verb} beans-deit; `vitrail recipe list` names all"
            raise InputError("NAME", "none", "a recipe is named", remedy)
        if verb == "list":
            show(recipes.list_recipes())
        if verb == "show":
            show(recipes.show_recipe(name))
        if verb != "run":
            return
        if (data is None) == (not (phantom or smoke)):
            came = "neither" if data is None else "both"
            rule = "a recipe is run on its data (--data DIR) or on a stand-in (--phantom, --smoke)"
            remedy = f"vitrail recipe show {name} tells how to get the data"
            raise InputError("--data, --phantom", came, rule, remedy)
        folder = out or Path(name)
        source = recipes.Source(data=data, manifest=manifest, weights=weights, smoke=smoke)
        steps = recipes.prepare(name, source, out=folder, progress=progress)
    from vitrail.cli import app

    command = typer.main.get_command(app)

    def execute(words: Sequence[str]) -> Mapping[str, Any]:
        said = StringIO()
        asked = [*words, "--json", *(["--debug"] if debug else [])]
        before = STEP.set(tuple(words))
        try:
            with redirect_stdout(said):
                status = command.main(asked, "vitrail", standalone_mode=False)
        finally:
            STEP.reset(before)
        if status:
            raise typer.Exit(status)
        result: Mapping[str, Any] = json.loads(said.getvalue())
        return result

    for step in steps:
        typer.echo(f"# {step.about}\n$ {step.run}", err=True)
        result = recipes.perform(step, execute, out=folder)
        typer.echo("\n".join(result["summary"]), err=True)
    with speaking(as_json=as_json, debug=debug, out=None) as (_, show):
        show(recipes.finish(name, out=folder))
