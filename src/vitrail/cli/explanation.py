"""``explain``, ``predict``, ``bench``, ``conformance``: what the model looks at."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vitrail.cli.options import AsJson, Budget, Debug, Run
from vitrail.cli.speaking import command_line, minutes, require, speaking
from vitrail.runfolder import RunFolder

Imputers = Annotated[
    str,
    typer.Option(
        metavar="A,B,…",
        help="What stands where a patch was: token_drop, blur, noise, linear, mean, black. The "
        "first one serves every test that hides. Default: token_drop,blur.",
    ),
]
Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough",
        help="Ten heights of a curve instead of six, ten groups instead of five, and every test on "
        "every picture instead of 24. Twice as long for 50 cases.",
    ),
]


def explain(
    run: Run,
    *,
    method: Annotated[
        str | None,
        typer.Option(show_default="the plan's", help="A method of vitrail.explain.methods()."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every case of the cohort, not the test part only.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map what the model looks at, one file a case.

    Reads the trained model and the pictures, batch by batch. Writes explanations/<case>.npz and
    .json (raw values on the patch grid; another method than the plan's: in a folder of its name)
    and attention of each layer and head for some cases. Cases that have their map are skipped.

    Example: `vitrail explain run1 --method relevance --all`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.explain import explain as verb

        show(
            verb(
                RunFolder(run),
                method=method,
                everything=everything,
                command=command_line(),
                progress=progress,
            )
        )


def predict(
    run: Run,
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", show_default=False, help="Pictures, folders of them, or addresses."
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default="RUN/new", help="Where overlays are written."),
    ] = None,
    urls: Annotated[
        Literal["off", "public", "private"],
        typer.Option(
            help="Which addresses (https://…) may be asked: none, those of the public network, or "
            "also this machine and its own network. Needs: pip install 'vitrail[fetch]'."
        ),
    ] = "off",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Label new pictures, and show where the model looked.

    Reads models/vit (class names and preprocessing come from the run). Writes an overlay a
    picture and predictions.csv beside them.

    Example: `vitrail predict run1 new/*.png`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.predict import predict as verb

        show(verb(RunFolder(run), pictures, out=out, urls=urls, progress=progress))


def bench(  # noqa: PLR0913 (an option each)
    run: Run,
    *,
    methods: Annotated[str, typer.Option(metavar="A,B,…", help="Default: the ten fast ones.")] = "",
    tests: Annotated[
        str,
        typer.Option(
            metavar="A,B,…",
            help="removal, saco, sensitivity_n, contrast, mosaic, stability, randomization, "
            "completeness, localization; and, for comparison with papers, rise (insertion and "
            "deletion) and chefer (perturbation). all: every one. Default: all but those two.",
        ),
    ] = "",
    imputers: Imputers = "",
    target: Annotated[
        Literal["predicted", "label"], typer.Option(help="The class that is explained.")
    ] = "predicted",
    cases: Annotated[int, typer.Option(min=1, help="Test cases, at most.")] = 100,
    thorough: Thorough = False,
    budget: Budget = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Test which explanation can be trusted on the trained model.

    Reads the trained model and the test pictures. Writes faithfulness.json: every method and four
    controls under every test, with intervals, and one recommendation with its limits; marks the
    maps that are there. `vitrail report` shows it.

    Example: `vitrail bench run1 --methods relevance,rollout,grad_cam --budget 10m`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.bench import Asked
        from vitrail.pipeline.bench import bench_run as verb

        asked = Asked.read(
            methods=methods,
            tests=tests,
            imputers=imputers,
            target=target,
            cases=cases,
            thorough=thorough,
            budget_minutes=minutes(budget),
        )
        show(verb(RunFolder(run), asked, command=command_line(), progress=progress))


def conformance(
    explainer: Annotated[str, typer.Argument(metavar="[PATH.TO:FUNCTION]")] = "",
    *,
    methods: Annotated[
        str, typer.Option(metavar="A,B,…", help="To judge beside it. Default: every method.")
    ] = "",
    cases: Annotated[int, typer.Option(min=1, help="Pictures.")] = 100,
    largest: Annotated[int, typer.Option(min=1, max=3, help="Patches a side of a motif.")] = 3,
    evidence: Annotated[
        Literal["amount", "presence"],
        typer.Option(help="What a label says: how much of the motif there is, or whether it is."),
    ] = "amount",
    seed: Annotated[int, typer.Option(min=0, help="Of the tiny model and its training.")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Test explainers, also your own, where the cause is known.

    Trains a tiny Vision Transformer (half a minute) on planted motifs, and says of each method
    whether it points at the motif of the class that was asked for; known mistakes are told by
    name. Your own: a function of (model, images, class) that returns maps on the patch grid.

    Example: `vitrail conformance mypackage.explain:gradient_rollout --methods gradient_rollout`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline.conformance import judge_explainers as verb

        show(
            verb(
                explainer,
                methods=methods,
                cases=cases,
                largest=largest,
                evidence=evidence,
                seed=seed,
                progress=progress,
            )
        )


def serve(
    run: Run,
    *,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; one that others reach is warned of."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any free one.")
    ] = 8642,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let everybody on this machine look.")
    ] = False,
    allow_url: Annotated[
        bool,
        typer.Option(
            "--allow-url",
            help="Let the page name addresses that this machine asks for pictures; public ones "
            "alone, small and quick.",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at a run in the browser, and at new pictures.

    Reads the run folder. Writes nothing into it. Prints an address that holds a token: open it.
    Drop or paste pictures (of volumes: the folder of a series) to have them labelled and explained;
    they are kept in memory until the server ends, and can be exported. Listens on this machine
    alone, and asks no network.

    Example: `vitrail serve run1`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (_, show):
        require("starlette", "uvicorn", extra="web")
        if allow_url:
            require("urllib3", extra="fetch")
        from vitrail.web.app import serve as verb

        verb(
            RunFolder(run),
            host=host,
            port=port,
            with_token=not no_token,
            allow_url=allow_url,
            ready=show,
        )
