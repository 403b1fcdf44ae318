"""The command line: a command a verb, an object on standard output, all else on standard error.

A command parses, calls one function of ``vitrail.pipeline`` and shows what it returns. The
pipeline is imported when a command runs, so that ``vitrail --help`` needs no torch.
"""

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail import __version__
from vitrail.errors import InputError
from vitrail.runfolder import RunFolder

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

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        show_default=False,
        help="Folder of pictures: one folder a class, or train/validation/test above them.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="The run folder.")]
Out = Annotated[Path, typer.Option(metavar="RUN", help="The run folder to write or go on with.")]
Manifest = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="CSV with path,label[,patient,group,site,split,mask]; paths relative to the CSV.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(metavar="TIME", show_default=False, help="Time for everything: 90s, 15m, 2h."),
]
Seed = Annotated[int | None, typer.Option(min=0, show_default="0", help="First random seed.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, show_default="1", help="Trainings of each model.")
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False, help="Local .safetensors weights to start from."
    ),
]
Pretrained = Annotated[
    bool,
    typer.Option("--pretrained", help="Download the published weights of --model from the hub."),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", show_default="vit", help="vit (small, from scratch) or a timm model's name."
    ),
]
AcceptLeakage = Annotated[
    str,
    typer.Option(
        metavar="REASON",
        show_default=False,
        help="Go on although known patients, groups or duplicates cross the given split; the "
        "reason stands on the report.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


Speaking = AbstractContextManager[tuple[Callable[..., None], Callable[[Mapping[str, Any]], None]]]
"""What a command is given: its progress, and what shows its result."""


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


@app.command()
def inspect(
    folder: Folder,
    *,
    out: Out,
    manifest: Manifest = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at the pictures before anything is trained.

    Reads every picture once. Writes cohort.csv and audit.json: counts, unreadable
    files (left out from then on), duplicates, leaks across a given split, and shortcuts.

    Example: `vitrail inspect ./tiles --out run1`
    """
    with _speaking(as_json=as_json, debug=debug, out=out) as (progress, show):
        from vitrail.pipeline.inspect import inspect as verb

        show(
            verb(
                RunFolder(out),
                folder,
                manifest=manifest,
                command=_command(),
                progress=progress,
            )
        )


@app.command()
def plan(  # noqa: PLR0913 (an option each)
    run: Run,
    *,
    budget: Budget = None,
    seed: Seed = None,
    seeds: Seeds = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    model: Model = None,
    accept_leakage: AcceptLeakage = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Choose input size, model, epochs and the rest, with reasons.

    Reads cohort.csv and audit.json, and times a few training steps on this machine. Writes
    split.csv and plan.yaml: edit any value in it, then run `vitrail train`.

    Example: `vitrail plan run1 --budget 15m`
    """
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.plan import plan as verb
        from vitrail.pipeline.rules import Request

        request = Request(
            budget_minutes=_minutes(budget),
            seed=seed,
            seeds=seeds,
            weights=weights,
            pretrained=pretrained,
            model=model,
            accept_leakage=accept_leakage,
        )
        show(verb(RunFolder(run), request, command=_command(), progress=progress))


@app.command()
def train(run: Run, *, as_json: AsJson = False, debug: Debug = False) -> None:
    """Train the transformer, and a CNN of like cost beside it.

    Reads plan.yaml, cohort.csv and split.csv. Writes models/ (weights, curves, checkpoints) and
    predictions.csv. The best epoch is chosen by validation, never by test. Stop it any time with
    Ctrl-C; the same command goes on at the newest checkpoint.

    Example: `vitrail train run1`
    """
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.train import train as verb

        show(verb(RunFolder(run), command=_command(), progress=progress))


@app.command()
def evaluate(
    run: Run,
    *,
    external: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Pictures of another source."),
    ] = None,
    manifest: Manifest = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Turn predictions into metrics with intervals.

    Reads the trained models. Writes predictions.csv, and evaluation.json: every number with its
    95 % interval, and the models compared. Intervals are made over patients where they are known;
    the decision threshold comes from validation. Looks at the test set are counted.

    With --external, the same for pictures from elsewhere (--manifest lists them), as a further set.

    Example: `vitrail evaluate run1 --external ./other-hospital`
    """
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.evaluate import evaluate as verb
        from vitrail.pipeline.external import evaluate_external

        if external is None and manifest is None:
            show(verb(RunFolder(run), command=_command(), progress=progress))
        else:
            show(
                evaluate_external(
                    RunFolder(run),
                    external,
                    manifest=manifest,
                    command=_command(),
                    progress=progress,
                )
            )


@app.command()
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
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.explain import explain as verb

        show(
            verb(
                RunFolder(run),
                method=method,
                everything=everything,
                command=_command(),
                progress=progress,
            )
        )


@app.command()
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
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.report import report as verb

        show(verb(RunFolder(run), checklist=checklist, command=_command(), progress=progress))


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", show_default=False, help="Run folders.")
    ],
    *,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where compare.json and compare.html go.")
    ] = Path(),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Set runs on the same test cases side by side.

    Reads the run folders only; runs that were tested on other cases are refused. Writes
    compare.json and compare.html, with paired differences.

    Example: `vitrail compare run1 run2 --out both`
    """
    with _speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline.compare import compare as verb

        show(verb([RunFolder(run) for run in runs], out=out, progress=progress))


@app.command()
def predict(
    run: Run,
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", show_default=False, help="Pictures, or folders of them."),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default="RUN/new", help="Where overlays are written."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Label new pictures, and show where the model looked.

    Reads models/vit (class names and preprocessing come from the run). Writes an overlay a
    picture and predictions.csv beside them.

    Example: `vitrail predict run1 new/*.png`
    """
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.predict import predict as verb

        show(verb(RunFolder(run), pictures, out=out, progress=progress))


@app.command()
def run(  # noqa: PLR0913 (an option each)
    folder: Folder,
    *,
    out: Out,
    manifest: Manifest = None,
    budget: Budget = None,
    seed: Seed = None,
    seeds: Seeds = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    model: Model = None,
    accept_leakage: AcceptLeakage = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do the main job: from a folder of pictures to a report.

    Does inspect, plan, train, evaluate, explain and report. Reads the pictures; writes the run
    folder. Running it again skips what is finished and goes on where it stopped.

    Example: `vitrail run ./tiles --out run1 --budget 15m`
    """
    with _speaking(as_json=as_json, debug=debug, out=out) as (progress, show):
        from vitrail.pipeline.rules import Request
        from vitrail.pipeline.run import run as verb

        request = Request(
            budget_minutes=_minutes(budget),
            seed=seed,
            seeds=seeds,
            weights=weights,
            pretrained=pretrained,
            model=model,
            accept_leakage=accept_leakage,
        )
        show(
            verb(
                RunFolder(out),
                folder,
                manifest=manifest,
                request=request,
                command=_command(),
                progress=progress,
            )
        )


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")] = Path(
        "vitrail-demo"
    ),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Tiny: a check of the path, not of the numbers.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do the main job on generated chest-CT-like slices.

    Writes DIR/cohort (slices, one class with a planted nodule whose mask is known) and DIR/run
    with report.html, which shows the masks beside the maps. Five minutes on two cores.

    Example: `vitrail demo --out demo`
    """
    with _speaking(as_json=as_json, debug=debug, out=out / "run") as (progress, show):
        from vitrail.pipeline.demo import demo as verb

        show(verb(out, smoke=smoke, command=_command(), progress=progress))


@app.command()
def bench(
    run: Run,
    *,
    methods: Annotated[str, typer.Option(metavar="A,B,…", help="Default: the ten fast ones.")] = "",
    cases: Annotated[int, typer.Option(min=1, help="Test cases, at most.")] = 100,
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
    with _speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.bench import Asked
        from vitrail.pipeline.bench import bench_run as verb

        asked = Asked.read(methods, cases=cases, budget_minutes=_minutes(budget))
        show(verb(RunFolder(run), asked, command=_command(), progress=progress))


@app.command()
def conformance(
    explainer: Annotated[str, typer.Argument(metavar="[PATH.TO:FUNCTION]")] = "",
    *,
    cases: Annotated[int, typer.Option(min=1, help="Pictures.")] = 100,
    largest: Annotated[int, typer.Option(min=1, max=3, help="Patches a side of a motif.")] = 3,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Test explainers, also your own, where the cause is known.

    Trains a tiny Vision Transformer (half a minute) on planted motifs, and says of each method
    whether it points at the motif of the class that was asked for; known mistakes are told by
    name. Your own: a function of (model, images, class) that returns maps on the patch grid.

    Example: `vitrail conformance mypackage.explain:gradient_rollout`
    """
    with _speaking(as_json=as_json, debug=debug, out=None) as (progress, show):
        from vitrail.pipeline.conformance import judge_explainers as verb

        show(verb(explainer, cases=cases, largest=largest, progress=progress))


@app.command()
def doctor(*, as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what this machine has, and what will be slow and why.

    Reads versions, cores, memory, GPU, codecs and local weights. Writes nothing.

    Example: `vitrail doctor`
    """
    with _speaking(as_json=as_json, debug=debug, out=None) as (_, show):
        from vitrail.pipeline.doctor import doctor as verb

        show(verb())


def _speaking(*, as_json: bool, debug: bool, out: Path | None) -> Speaking:
    """Open what shows a running command; its libraries are too heavy for ``--help``."""
    from vitrail.terminal import speaking

    return speaking(as_json=as_json, debug=debug, out=out)


def _command() -> str:
    """Return the exact command line."""
    return shlex.join(["vitrail", *sys.argv[1:]])


_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def _minutes(budget: str | None) -> float | None:
    """Read a time such as ``90s``, ``15m`` or ``2h``."""
    if budget is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(
            "--budget", repr(budget), "it is a number and s, m or h", "pass --budget 15m"
        )
    return float(match[1]) * _UNITS[match[2]]
