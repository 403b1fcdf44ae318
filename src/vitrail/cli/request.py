"""What a user may ask of a plan: the options of ``plan`` and of ``run``, written once."""

from collections.abc import Callable
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vitrail.cli.options import Budget
from vitrail.cli.speaking import minutes

Seed = Annotated[int | None, typer.Option(min=0, show_default="0", help="First random seed.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, show_default="1", help="Trainings of each model.")
]
Folds = Annotated[
    int | None,
    typer.Option(
        min=2,
        show_default="one split",
        help="Cross-validate: train so many times, each time testing on another part of the "
        "patients; every case is then tested once.",
    ),
]
Repeats = Annotated[
    int, typer.Option(min=1, help="Deal the cases into --folds so often, each time in another way.")
]
HoldOutSite = Annotated[
    str,
    typer.Option(metavar="NAME", show_default=False, help="Test on this site of the manifest."),
]
HoldOutSites = Annotated[
    bool, typer.Option("--hold-out-sites", help="Test on each site in turn, a fold a site.")
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
Mode = Annotated[
    Literal["head", "finetune", "scratch"] | None,
    typer.Option(
        show_default="the plan chooses",
        help="What is trained: the head on frozen features (seconds), all of it from weights, or "
        "all of it from nothing.",
    ),
]
Head = Annotated[
    Literal["linear", "mlp", "knn"],
    typer.Option(help="Which head is trained alone: linear, one hidden layer, or neighbors."),
]
Views = Annotated[
    int,
    typer.Option(
        min=1, help="Views of a training picture that a frozen backbone sees: augmented from 2 on."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        show_default="vit",
        help="vit (small, from scratch), a timm model's name, or guided: a vit whose map guides a "
        "ResNet-18, for volumes.",
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
Pretrain = Annotated[
    str,
    typer.Option(
        metavar="mae",
        show_default=False,
        help="Let the model first fill in hidden patches of the training pictures (and of "
        "--unlabeled), without labels.",
    ),
]
Unlabeled = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", show_default=False, help="Further pictures for --pretrain; need no labels."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        show_default=False,
        help="Put a value into plan.yaml, whatever the rules say; may be repeated. "
        "Examples: --set epochs=60 --set image_size=[96,128] --set mixup=0.2",
    ),
]


def _request(  # noqa: PLR0913 (an option each)
    *,
    budget: Budget = None,
    seed: Seed = None,
    seeds: Seeds = None,
    folds: Folds = None,
    repeats: Repeats = 1,
    hold_out_site: HoldOutSite = "",
    hold_out_sites: HoldOutSites = False,
    mode: Mode = None,
    head: Head = "linear",
    views: Views = 1,
    weights: Weights = None,
    pretrained: Pretrained = False,
    model: Model = None,
    accept_leakage: AcceptLeakage = "",
    pretrain: Pretrain = "none",
    unlabeled: Unlabeled = None,
    choices: Set = None,
) -> Any:
    """Read the options."""
    from vitrail.pipeline.request import Request
    from vitrail.pipeline.wishes import read_wishes

    return Request(
        budget_minutes=minutes(budget),
        seed=seed,
        seeds=seeds,
        folds=folds,
        repeats=repeats,
        hold_out_site=hold_out_site,
        hold_out_sites=hold_out_sites,
        mode=mode,
        head=head,
        views=views,
        weights=weights,
        pretrained=pretrained,
        model=None if model == "guided" else model,
        guided="resnet18" if model == "guided" else None,
        accept_leakage=accept_leakage,
        pretrain=pretrain,
        unlabeled=unlabeled,
        choices=read_wishes(choices or []),
    )


def asks(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a plan in the place of its parameter ``request``."""
    return takes(verb, name="request", read=_request)


def takes(verb: Callable[..., None], *, name: str, read: Callable[..., Any]) -> Callable[..., None]:
    """Give a command the options of a function in the place of its parameter ``name``.

    The command is given a function that reads them, and calls it where errors are shown.
    """
    asked = signature(read).parameters
    parameters: list[Parameter] = []
    for parameter in signature(verb).parameters.values():
        parameters.extend(asked.values() if parameter.name == name else [parameter])

    @wraps(verb)
    def command(**given: Any) -> None:
        reader = partial(read, **{option: given.pop(option) for option in asked})
        verb(**given, **{name: reader})

    vars(command)["__signature__"] = Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
