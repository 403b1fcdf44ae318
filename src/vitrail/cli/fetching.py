"""``fetch``: public data sets."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vitrail.cli.options import AsJson, Debug
from vitrail.cli.speaking import speaking


def fetch(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", show_default=False, help="A set's name; or list; or show NAME."
        ),
    ] = None,
    *,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default="NAME", help="Folder that takes the set."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Licence, size and faults are known: do not ask.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Get a public data set, after showing its licence, size and known faults.

    `vitrail fetch list` names the sets, `vitrail fetch show NAME` shows one; hf:OWNER/NAME is any
    data set of the Hugging Face hub. Downloads are gone on with after a cut and compared with the
    published checksum. Writes DIR with the pictures and fetched.json.

    Example: `vitrail fetch kather2016`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline import fetch as verbs

        def confirm(said: Sequence[str]) -> bool:
            if yes:
                return True
            typer.echo("\n".join(said), err=True)
            return sys.stdin.isatty() and typer.confirm("Download it?", err=True)

        name = (words or ["list"])[0]
        if name == "list":
            show(verbs.list_sets())
        elif name == "show" and words is not None and len(words) > 1:
            show(verbs.show_set(words[1]))
        else:
            show(verbs.fetch(name, to=to, confirm=confirm, progress=progress))
