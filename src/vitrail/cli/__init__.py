"""The command line: a command a verb, an object on standard output, all else on standard error.

A command parses, calls one function of ``vitrail.pipeline`` and shows what it returns. The
pipeline is imported when a command runs, so that ``vitrail --help`` needs no torch.

``options`` holds what several commands take, ``speaking`` what each of them does around its verb;
the other modules hold the commands.
"""

from typing import Annotated

import typer

from vitrail import __version__
from vitrail.cli import (
    drawing,
    explanation,
    fetching,
    guiding,
    numbers,
    preparation,
    recipes,
    start,
    tuning,
)

app = typer.Typer(
    name="vitrail",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
    help=(
        "Train Vision Transformers on medical pictures, learn honestly how good they are, and see "
        "what they look at.\n\n"
        "Start with `vitrail demo`, or with your own pictures, one folder a class:\n\n"
        "`vitrail run ./tiles --out run1`\n\n"
        "That does inspect → plan → train → evaluate → explain → report. Each verb can be run by "
        "itself on the run folder, and running again goes on where it stopped."
    ),
    epilog="Every verb takes --json (one object on standard output) and --debug (tracebacks).",
)

for _verb in (
    preparation.inspect,
    preparation.plan,
    tuning.tune,
    preparation.train,
    numbers.evaluate,
    explanation.explain,
    numbers.report,
    numbers.compare,
    drawing.figure,
    explanation.predict,
    explanation.serve,
    start.run,
    start.demo,
    guiding.guided,
    explanation.bench,
    explanation.conformance,
    fetching.fetch,
    recipes.recipe,
    start.doctor,
):
    app.command()(_verb)


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def version(
    *,
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Answer ``--version``."""
    if show:
        typer.echo(__version__)
        raise typer.Exit
