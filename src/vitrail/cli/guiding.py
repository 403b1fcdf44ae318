"""``guided``: a second stage that sees the picture and the transformer's map of it."""

from typing import Annotated

import typer

from vitrail.cli.options import AsJson, Debug, Run
from vitrail.cli.speaking import command_line, speaking
from vitrail.runfolder import RunFolder

Method = Annotated[
    str, typer.Option(metavar="NAME", help="How stage one is explained, e.g. rollout.")
]
Classifier = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Stage two: a timm CNN, or `plan` for the run's own baseline."
    ),
]
Ablate = Annotated[
    bool,
    typer.Option(
        "--ablate",
        help="Train the controls too: random, center and shuffled maps, the true mask, maps "
        "that saw their label, class-specific maps.",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="Trainings of guided, no map and random map.")]
EndToEnd = Annotated[
    bool,
    typer.Option(
        "--end-to-end", help="Train both stages together as well, through the map's gradient."
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        show_default=False,
        help="Columns of the manifest to join to stage two's last layer, e.g. age,sex.",
    ),
]


def guided(  # noqa: PLR0913 (an option each)
    run: Run,
    *,
    method: Method = "rollout",
    classifier: Classifier = "resnet18",
    ablate: Ablate = False,
    seeds: Seeds = 1,
    end_to_end: EndToEnd = False,
    columns: Columns = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Guide a CNN by the transformer's map: does it help?

    Reads a trained run of volumes, best with `--folds 5`. Maps of training cases come from inner
    models that never saw their labels. Writes guided/ (predictions.csv, evaluation.json: every arm
    on the same folds, paired) and both stages' evidence over each scan below explanations/. Stop
    it any time; the same command goes on.

    Example: `vitrail guided run1 --ablate`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.guided import Wanted
        from vitrail.pipeline.guided import guided as verb

        wanted = Wanted(
            method=method,
            classifier=classifier,
            ablate=ablate,
            seeds=seeds,
            end_to_end=end_to_end,
            columns=tuple(filter(None, (name.strip() for name in columns.lower().split(",")))),
        )
        show(verb(RunFolder(run), wanted, command=command_line(), progress=progress))
