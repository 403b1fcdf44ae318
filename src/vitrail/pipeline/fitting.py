"""What fits into the time: input size, models and epochs, from timed steps on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.errors import PlanError
from vitrail.models.zoo import SMALL_VIT, ModelSpec, like_cost_cnn, trained_input
from vitrail.pipeline.choices import Mode
from vitrail.pipeline.facts import Facts
from vitrail.pipeline.methods import PRETRAINING_COST, pretraining_share
from vitrail.pipeline.modes import choose_mode
from vitrail.pipeline.request import Machine, Request
from vitrail.pipeline.views import VIEW_SIZES_PX

Cost = Callable[[ModelSpec, int], float]
"""Seconds of one training step of a model on a batch of so many pictures."""

SIZES_PX = (224, 160, 128, 96, 64)
FEWEST_EPOCHS, GOOD_EPOCHS = 5, 40
MOST_EPOCHS = {"scratch": 120, "cnn": 60, "finetune": 20, "head": 100}
MODEL_SHARE = {"scratch": 0.6, "finetune": 0.6, "head": 0.3}
"""Of the training time; the rest is the baseline's."""
SLACK = 1.2
"""A training may take so much more than its share of the time before its schedule is cut short."""

_EPOCHS = ("epochs", "baseline_epochs", "pretrain_epochs")
_OVERHEAD_MINUTES = 0.4
_TRAINING_SHARE = 0.75
_FORWARD_SHARE = 1 / 3
_EVALUATION_COST = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A size with its two models, what a step of each costs, and what fits into the budget.

    ``most_minutes`` of what ``LIMITS`` names; None where its epochs were asked for.
    """

    model: ModelSpec
    baseline: ModelSpec
    mode: Mode
    why: str
    batch_size: int
    epoch_minutes: tuple[float, float]
    epochs: tuple[int, int]
    pretrain_epochs: int
    pretrain_epoch_minutes: float
    most_minutes: tuple[float | None, ...]

    @property
    def minutes(self) -> tuple[float, float]:
        """Expected minutes of one training of the model and of the baseline."""
        return (
            self.epochs[0] * self.epoch_minutes[0]
            + self.pretrain_epochs * self.pretrain_epoch_minutes,
            self.epochs[1] * self.epoch_minutes[1],
        )


def fit_budget(
    facts: Facts, request: Request, *, machine: Machine, budget: float, cost: Cost
) -> Trial:
    """Take the largest input for which a good number of epochs fits, else the smallest at all."""
    batch_size = request.choices.get("batch_size") or _batch_size(facts, machine)
    mode, why = choose_mode(facts, request, machine=machine)
    wished = [request.choices.get(name) for name in _EPOCHS]
    usable = (budget - _OVERHEAD_MINUTES) * _TRAINING_SHARE / trainings_each(facts, request)
    most, share = MOST_EPOCHS[mode], MODEL_SHARE[mode]
    before = usable * share * pretraining_share(request.pretrain)
    minutes = usable * share - before, usable * (1 - share)
    for size in _sizes(facts, request):
        model = _model(facts, request, size=size)
        step_s = cost(model, batch_size)
        baseline = like_cost_cnn(
            model, _likeness(facts, batch_size, trial=(model, mode, usable), cost=cost)
        )
        epoch = (
            _frozen_epoch_minutes(facts, request, picture_s=step_s / batch_size)
            if mode == "head"
            else _epoch_minutes(facts, batch_size, step_s=step_s),
            _epoch_minutes(facts, batch_size, step_s=cost(baseline, batch_size)),
        )
        pretrain_epoch = epoch[0] * PRETRAINING_COST * (1 + facts.unlabeled / facts.cases["train"])
        trial = Trial(
            model=model,
            baseline=baseline,
            mode=mode,
            why=why,
            batch_size=batch_size,
            epoch_minutes=epoch,
            pretrain_epoch_minutes=pretrain_epoch,
            pretrain_epochs=wished[2] or int(before / pretrain_epoch),
            most_minutes=_limits((*minutes, before), wished),
            epochs=(
                wished[0] or min(int(minutes[0] / epoch[0]), most),
                wished[1] or min(int(minutes[1] / epoch[1]), MOST_EPOCHS["cnn"]),
            ),
        )
        if trial.epochs[0] >= min(GOOD_EPOCHS, most):
            break
    fitted = [epochs for epochs, wish in zip(trial.epochs, wished[:2], strict=True) if not wish]
    if fitted and min(fitted) < FEWEST_EPOCHS:
        raise _too_small(facts, request, budget, trial=trial)
    return trial


def _limits(minutes: tuple[float, ...], wished: Sequence[int | None]) -> tuple[float | None, ...]:
    """Limit the time of each training to its share and some slack, unless epochs were wished."""
    shares = zip(minutes, wished, strict=True)
    return tuple(None if wish or not own else SLACK * own for own, wish in shares)


def _likeness(
    facts: Facts, batch_size: int, *, trial: tuple[ModelSpec, Mode, float], cost: Cost
) -> Callable[[ModelSpec], float]:
    """Return what the baseline is chosen by: the seconds of a step.

    A frozen model has no step; the baseline is then the one of which half a good number of epochs
    fills its share of the time.
    """
    model, mode, usable = trial
    if mode != "head":
        return lambda spec: cost(spec, batch_size)
    minutes = usable * (1 - MODEL_SHARE[mode]) / (GOOD_EPOCHS // 2)
    filling = minutes / _epoch_minutes(facts, batch_size, step_s=1.0)
    return lambda spec: filling if spec == model else cost(spec, batch_size)


def _frozen_epoch_minutes(facts: Facts, request: Request, *, picture_s: float) -> float:
    """Share out the one pass of the frozen backbone over the epochs of every head."""
    views = sum(facts.cases.values()) + facts.cases["train"] * (request.views - 1)
    return (
        views
        * picture_s
        * _FORWARD_SHARE
        / 60
        / MOST_EPOCHS["head"]
        / trainings_each(facts, request)
    )


def trainings_each(facts: Facts, request: Request) -> int:
    """Count the trainings of each model."""
    return (request.seeds or 1) * facts.folds


def _too_small(facts: Facts, request: Request, budget: float, *, trial: Trial) -> PlanError:
    """Refuse a budget, with the estimate of what would be enough."""
    share = MODEL_SHARE[trial.mode]
    own = share * (1 - pretraining_share(request.pretrain))
    model = FEWEST_EPOCHS * trial.epoch_minutes[0] / own
    baseline = FEWEST_EPOCHS * trial.epoch_minutes[1] / (1 - share)
    least = _OVERHEAD_MINUTES
    least += max(model, baseline) * trainings_each(facts, request) / _TRAINING_SHARE
    return PlanError(
        "--budget",
        f"{budget:.3g} minutes",
        f"{FEWEST_EPOCHS} epochs of the model and of its baseline take about {least:.1f} minutes "
        f"on this machine, {trainings_each(facts, request)} times",
        f"pass --budget {max(1, round(least * 1.2 + 0.5))}m or more, or fewer --seeds and --folds",
    )


def _sizes(facts: Facts, request: Request) -> tuple[tuple[int, int], ...]:
    """List the input sizes to try, the largest first; weights have a size of their own."""
    if "image_size" in request.choices:
        return (request.choices["image_size"],)
    if request.model not in (None, "vit"):
        size = trained_input(request.model).size_px
        return ((size, size),)
    if facts.volumes is not None:
        return VIEW_SIZES_PX
    fitting = tuple((size, size) for size in SIZES_PX if size <= facts.short_side_px * 1.1)
    return fitting or ((SIZES_PX[-1], SIZES_PX[-1]),)


def _model(facts: Facts, request: Request, *, size: tuple[int, int]) -> ModelSpec:
    """Describe the model at one input size."""
    name = request.model or "vit"
    parameters: dict[str, Any] = {}
    if name == "vit":
        parameters = {**SMALL_VIT, "patch_size": 16 if max(size) > 128 else 8}
    parameters |= request.choices.get("model_parameters", {})
    return ModelSpec(
        architecture=name,
        num_classes=len(facts.train_counts),
        img_size=size,
        in_chans=_channels(facts, request),
        parameters=parameters,
        weights=request.weights,
    )


def _channels(facts: Facts, request: Request) -> int:
    """Take color where there is color, and three channels where the weights saw three."""
    return 3 if facts.color or request.has_weights else 1


def _batch_size(facts: Facts, machine: Machine) -> int:
    """Take small batches on small data, so that an epoch has some twenty steps."""
    if machine.gpu:
        return 64
    return 32 if facts.cases["train"] >= 400 else 16


def _epoch_minutes(facts: Facts, batch_size: int, *, step_s: float) -> float:
    """Estimate an epoch: its steps, and the validation that follows."""
    pictures = facts.cases["train"] + _EVALUATION_COST * facts.cases["validation"]
    return pictures / batch_size * step_s * 1.1 / 60


def expected_minutes(facts: Facts, request: Request, *, trial: Trial) -> dict[str, float]:
    """Estimate the minutes of each stage."""
    train = sum(trial.minutes) * trainings_each(facts, request)
    each = trial.epoch_minutes[0] / max(1, facts.cases["train"]) * facts.cases["test"]
    pass_minutes = each * trainings_each(facts, request)
    rest = {
        "train": train,
        "evaluate": 0.1 + pass_minutes,
        "explain": 0.05 + 2 * pass_minutes,
        "report": 0.1,
    }
    rest["total"] = sum(rest.values())
    return {name: round(minutes, 2) for name, minutes in rest.items()}
