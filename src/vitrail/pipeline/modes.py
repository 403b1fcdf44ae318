"""Which part of a model is trained: its head on frozen features, all of it, or all from scratch."""

from vitrail.errors import PlanError
from vitrail.pipeline.choices import Mode
from vitrail.pipeline.facts import Facts
from vitrail.pipeline.request import Machine, Request

SMALL = 1000
"""Fewer training cases than these are a small set."""


def choose_mode(facts: Facts, request: Request, *, machine: Machine) -> tuple[Mode, str]:
    """Choose the mode and say why.

    Raises:
        PlanError: If the wished mode does not go with the weights.
    """
    if request.mode is not None:
        _require_weights(request, request.mode)
    mode, why = _fitting(facts, request, machine=machine)
    _require_head(request, mode)
    return mode, why


def _fitting(facts: Facts, request: Request, *, machine: Machine) -> tuple[Mode, str]:
    """Take the wished mode, else the one that fits weights, machine and cases."""
    if request.mode is not None:
        return request.mode, "as given on the command line"
    if not request.has_weights:
        return "scratch", "there are no weights to start from (--weights, --pretrained)"
    count = facts.cases["train"]
    if not machine.gpu:
        return "head", (
            "no GPU: the frozen backbone runs once a picture and its head is trained in seconds; "
            "--mode finetune trains all of it"
        )
    if count < SMALL:
        return "head", (
            f"{count} training cases are few for training every weight; --mode finetune does"
        )
    return "finetune", f"weights to start from, a GPU and {count} training cases"


def _require_head(request: Request, mode: Mode) -> None:
    """Refuse what only a head that is trained alone makes use of."""
    default = Request()
    asked = {"--head": request.head != default.head, "--views": request.views != default.views}
    for option, wished in asked.items():
        if mode != "head" and wished:
            raise PlanError(
                option,
                f"in mode {mode}",
                "it is for a head that is trained alone, on a frozen backbone",
                "leave it out, or pass --mode head with --weights or --pretrained",
            )


def _require_weights(request: Request, mode: Mode) -> None:
    """Refuse weights that nobody uses, and a start from weights that are not there."""
    if mode == "scratch" and request.has_weights:
        came, remedy = "together with weights", "drop --weights or --pretrained, or the mode"
        raise PlanError("--mode scratch", came, "from scratch starts without weights", remedy)
    if mode != "scratch" and not request.has_weights:
        raise PlanError(
            f"--mode {mode}",
            "without weights",
            "a backbone that was never trained has nothing to keep",
            "pass --model NAME with --weights FILE or --pretrained",
        )
