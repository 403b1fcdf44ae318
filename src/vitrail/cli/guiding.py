"""``guided``: a second stage that sees the picture and the transformer's map of it."""

from typing import Annotated

import typer

from vitrail.cli.options import AsJson, Debug, Run
from vitrail.cli.speaking import command_line, speaking
from vitrail.runfolder import RunFolder


def guided(
    run: Run,
    *,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="How stage one is explained, e.g. rollout.")
    ] = "rollout",
    classifier: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Stage two: a timm CNN, or `plan` for the run's own baseline."
        ),
    ] = "resnet18",
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate",
            help="Train the controls too: random, center and shuffled maps, the true mask, maps "
            "that saw their label, class-specific maps.",
        ),
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings of guided, no map and random map.")
    ] = 1,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Guide a CNN by the transformer's map: does it help?

    Reads a trained run of volumes, best with `--folds 5`. Maps of training cases come from inner
    models that never saw their labels. Writes guided/predictions.csv and guided/evaluation.json:
    every arm on the same folds, paired. Stop it any time; the same command goes on.

    Example: `vitrail guided run1 --ablate`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.guided import Wanted
        from vitrail.pipeline.guided import guided as verb

        wanted = Wanted(method=method, classifier=classifier, ablate=ablate, seeds=seeds)
        show(verb(RunFolder(run), wanted, command=command_line(), progress=progress))
