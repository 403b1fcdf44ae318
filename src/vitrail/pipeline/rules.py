"""The rules that turn facts about the data, the machine and the budget into a plan.

Each rule gives a value and says why. Nothing here reads files; the seconds of a training step come
in as a function, so that the rules can be tested without training anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitrail.errors import PlanError
from vitrail.models.zoo import SMALL_VIT, ModelSpec, like_cost_cnn, trained_input
from vitrail.pipeline.choices import Plan, parse_plan
from vitrail.pipeline.facts import Facts
from vitrail.pipeline.methods import (
    PRETRAINING_COST,
    check_pretraining,
    methods,
    pretraining,
    pretraining_share,
)
from vitrail.pipeline.views import VIEW_SIZES_PX, choose_view
from vitrail.pipeline.wishes import checked

Cost = Callable[[ModelSpec, int], float]
"""Seconds of one training step of a model on a batch of so many pictures."""

Attends = Callable[[ModelSpec], bool]
"""Whether every layer of a model attends from each patch to each patch."""

SIZES_PX = (224, 160, 128, 96, 64)
DEFAULT_MINUTES = 10.0
FEWEST_EPOCHS, GOOD_EPOCHS = 5, 40
MOST_EPOCHS = {"scratch": 120, "cnn": 60, "fine-tune": 20}
_GIVEN = "as given on the command line"
_OVERHEAD_MINUTES = 0.4
_TRAINING_SHARE = 0.75
_MODEL_SHARE = 0.6
_EVALUATION_COST = 0.35


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for; None where the rules shall choose.

    Attributes:
        budget_minutes: Time for everything.
        seed: First seed.
        seeds: Trainings of each model.
        folds: Parts that are held out in turn; None takes one split.
        repeats: How often the cases are dealt into folds.
        hold_out_site: The site that is the test part.
        hold_out_sites: Whether each site is held out in turn.
        weights: Local weights to start from.
        pretrained: Whether to download the published weights of the named model.
        model: ``vit`` or a timm model's name.
        accept_leakage: Why a leak across a given split is accepted.
        pretrain: ``mae``, or ``none``.
        unlabeled: Folder of pictures without labels to pretrain on.
        choices: Values that shall stand in the plan, whatever the rules say. ``model_parameters``
            are put over the rules' own.
    """

    budget_minutes: float | None = None
    seed: int | None = None
    seeds: int | None = None
    folds: int | None = None
    repeats: int = 1
    hold_out_site: str = ""
    hold_out_sites: bool = False
    weights: Path | None = None
    pretrained: bool = False
    model: str | None = None
    accept_leakage: str = ""
    pretrain: str = "none"
    unlabeled: Path | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fine_tunes(self) -> bool:
        """Whether the model starts from weights."""
        return self.weights is not None or self.pretrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the plan needs to know of the machine."""

    cores: int
    gpu: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A size with its two models, what a step of each costs, and what fits into the budget."""

    model: ModelSpec
    baseline: ModelSpec
    batch_size: int
    epoch_minutes: tuple[float, float]
    epochs: tuple[int, int]
    pretrain_epochs: int
    pretrain_epoch_minutes: float

    @property
    def minutes(self) -> tuple[float, float]:
        """Expected minutes of one training of the model and of the baseline."""
        return (
            self.epochs[0] * self.epoch_minutes[0]
            + self.pretrain_epochs * self.pretrain_epoch_minutes,
            self.epochs[1] * self.epoch_minutes[1],
        )


def choose(
    facts: Facts, request: Request, *, machine: Machine, data: str, cost: Cost, attends: Attends
) -> Plan:
    """Choose everything.

    Args:
        facts: What the data is.
        request: What the user asked for.
        machine: Where it runs.
        data: The data's fingerprint.
        cost: Times a training step.
        attends: Tells whether attention can explain a model.

    Raises:
        PlanError: If the budget is too small for the smallest sensible training; the message has
            the estimate.
    """
    if request.pretrained and (request.model in (None, "vit") or request.weights):
        raise PlanError(
            "--pretrained",
            f"together with --weights {request.weights}" if request.weights else "without --model",
            "published weights belong to a named model and are the only ones",
            "pass for example --model vit_small_patch16_224 --pretrained",
        )
    request = replace(request, choices=checked(request.choices))
    check_pretraining(request.pretrain, request.unlabeled)
    budget = request.budget_minutes or DEFAULT_MINUTES
    trial = _trial(facts, request, machine=machine, budget=budget, cost=cost)
    choices: dict[str, tuple[object, str]] = {
        "data": (data, "fingerprint of the cases this plan was made for; do not edit"),
        **_asked(facts, request, budget=budget),
        **_models(facts, request, trial=trial),
        **_pixels(facts, request, trial=trial),
        **_steps(facts, request, machine=machine, trial=trial),
        **pretraining(request.pretrain, epochs=trial.pretrain_epochs, unlabeled=request.unlabeled),
        **methods(fine_tunes=request.fine_tunes),
        "explanation": _explanation(attends=attends(trial.model), several=facts.multi_label),
        "expected_minutes": (
            _expected(facts, request, trial=trial),
            f"timed steps on this machine ({machine.cores} cores, {machine.gpu or 'no GPU'})",
        ),
    }
    for name in request.choices.keys() - {"model_parameters"}:
        choices[name] = (request.choices[name], _GIVEN)
    content = {
        name: {"value": choices[name][0], "reason": choices[name][1]} for name in Plan.model_fields
    }
    return parse_plan(content, name="--set")


def _trial(
    facts: Facts, request: Request, *, machine: Machine, budget: float, cost: Cost
) -> _Trial:
    """Take the largest input for which a good number of epochs fits, else the smallest at all."""
    batch_size = request.choices.get("batch_size") or _batch_size(facts, machine)
    wished = [request.choices.get(name) for name in ("epochs", "baseline_epochs")]
    usable = (budget - _OVERHEAD_MINUTES) * _TRAINING_SHARE / _trainings(facts, request)
    most = MOST_EPOCHS["fine-tune" if request.fine_tunes else "scratch"]
    for size in _sizes(facts, request):
        model = _model(facts, request, size=size)
        baseline = like_cost_cnn(model, lambda spec: cost(spec, batch_size))
        epoch = (
            _epoch_minutes(facts, batch_size, step_s=cost(model, batch_size)),
            _epoch_minutes(facts, batch_size, step_s=cost(baseline, batch_size)),
        )
        before = usable * _MODEL_SHARE * pretraining_share(request.pretrain)
        pretrain_epoch = epoch[0] * PRETRAINING_COST * (1 + facts.unlabeled / facts.cases["train"])
        trial = _Trial(
            model=model,
            baseline=baseline,
            batch_size=batch_size,
            epoch_minutes=epoch,
            pretrain_epoch_minutes=pretrain_epoch,
            pretrain_epochs=request.choices.get("pretrain_epochs") or int(before / pretrain_epoch),
            epochs=(
                wished[0] or min(int((usable * _MODEL_SHARE - before) / epoch[0]), most),
                wished[1] or min(int(usable * (1 - _MODEL_SHARE) / epoch[1]), MOST_EPOCHS["cnn"]),
            ),
        )
        if trial.epochs[0] >= min(GOOD_EPOCHS, most):
            break
    fitted = [epochs for epochs, wish in zip(trial.epochs, wished, strict=True) if not wish]
    if fitted and min(fitted) < FEWEST_EPOCHS:
        raise _too_small(facts, request, budget, trial=trial)
    return trial


def _trainings(facts: Facts, request: Request) -> int:
    """Count the trainings of each model."""
    return (request.seeds or 1) * facts.folds


def _too_small(facts: Facts, request: Request, budget: float, *, trial: _Trial) -> PlanError:
    """Refuse a budget, with the estimate of what would be enough."""
    share = _MODEL_SHARE * (1 - pretraining_share(request.pretrain))
    model = FEWEST_EPOCHS * trial.epoch_minutes[0] / share
    baseline = FEWEST_EPOCHS * trial.epoch_minutes[1] / (1 - _MODEL_SHARE)
    least = _OVERHEAD_MINUTES
    least += max(model, baseline) * _trainings(facts, request) / _TRAINING_SHARE
    return PlanError(
        "--budget",
        f"{budget:.3g} minutes",
        f"{FEWEST_EPOCHS} epochs of the model and of its baseline take about {least:.1f} minutes "
        f"on this machine, {_trainings(facts, request)} times",
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
    return 3 if facts.color or request.fine_tunes else 1


def _batch_size(facts: Facts, machine: Machine) -> int:
    """Take small batches on small data, so that an epoch has some twenty steps."""
    if machine.gpu:
        return 64
    return 32 if facts.cases["train"] >= 400 else 16


def _epoch_minutes(facts: Facts, batch_size: int, *, step_s: float) -> float:
    """Estimate an epoch: its steps, and the validation that follows."""
    pictures = facts.cases["train"] + _EVALUATION_COST * facts.cases["validation"]
    return pictures / batch_size * step_s * 1.1 / 60


def _asked(facts: Facts, request: Request, *, budget: float) -> dict[str, tuple[object, str]]:
    """State what the user decides, or its default."""
    given = "as given on the command line"
    return {
        "seed": (request.seed or 0, given if request.seed is not None else "the default"),
        "seeds": (
            request.seeds or 1,
            given if request.seeds else "one training a model; more show the chance of the start",
        ),
        "folds": (facts.folds, _folds_reason(facts, request)),
        "budget_minutes": (
            budget,
            given if request.budget_minutes else "the default; pass --budget to change it",
        ),
        "weights": (
            str(request.weights.resolve()) if request.weights else None,
            given if request.weights else "no file was given",
        ),
        "pretrained": (
            request.pretrained,
            "the published weights are downloaded, as asked for on the command line"
            if request.pretrained
            else "nothing is downloaded unless --pretrained asks for it",
        ),
        "accept_leakage": (
            request.accept_leakage,
            given if request.accept_leakage else "no leak was accepted",
        ),
    }


def _folds_reason(facts: Facts, request: Request) -> str:
    """Say how the folds were dealt."""
    if request.hold_out_site:
        return f"the site {request.hold_out_site} is the test part, as given on the command line"
    if request.hold_out_sites:
        return "each site is held out in turn, as given on the command line"
    if facts.folds == 1:
        return "one split; --folds 5 tests on every case, at five times the cost"
    again = f", dealt {request.repeats} times" if request.repeats > 1 else ""
    return f"{request.folds} folds{again}, as given on the command line"


def _models(facts: Facts, request: Request, *, trial: _Trial) -> dict[str, tuple[object, str]]:
    """State the two models."""
    count = facts.cases["train"]
    return {
        "model": (
            trial.model.architecture,
            "as given on the command line"
            if request.model
            else f"a small transformer from scratch: {count} training cases and no weights",
        ),
        "model_parameters": (
            dict(trial.model.parameters),
            _GIVEN
            if "model_parameters" in request.choices
            else "narrow and shallow, for small data"
            if trial.model.architecture == "vit"
            else "the architecture's own",
        ),
        "baseline": (
            trial.baseline.architecture,
            "of like cost a step; without a CNN nobody knows if a transformer was needed",
        ),
        "baseline_parameters": (dict(trial.baseline.parameters), "the ladder's"),
    }


def _pixels(facts: Facts, request: Request, *, trial: _Trial) -> dict[str, tuple[object, str]]:
    """State how a picture becomes an input."""
    size = trial.model.img_size
    mean, std, normal = facts.mean, facts.std, "measured on the pictures by inspect"
    if request.fine_tunes:
        known = trained_input(request.model or "vit")
        mean, std, normal = known.mean, known.std, "what the weights were trained with"
    elif len(facts.mean) < trial.model.in_chans:
        mean, std = facts.mean * trial.model.in_chans, facts.std * trial.model.in_chans
    varied = facts.aspect_spread > 1.25
    kind, why = _augmentation(facts)
    return {
        "image_size": (
            size,
            f"the largest for which {GOOD_EPOCHS} epochs fit the budget, not above the pictures' "
            f"short side (median {facts.short_side_px} px)"
            if request.model in (None, "vit")
            else "the size that the named model was made for",
        ),
        "channels": (
            trial.model.in_chans,
            ("the pictures have color" if facts.color else "the pictures are grey")
            if not request.fine_tunes
            else "the weights were trained on three channels",
        ),
        "fit": (
            "pad" if varied else "squash",
            f"width / height varies by a factor of {facts.aspect_spread:.2f}"
            + (": proportions are kept" if varied else ": nearly alike, the whole input is used"),
        ),
        "mean": (mean, normal),
        "std": (std, normal),
        "volume": choose_view(facts.volumes, size=size[0]),
        "intensity_range": (
            facts.intensity_range,
            f"pictures of up to {facts.bits} bits"
            + (
                ": from the darkest 0.5th to the brightest 99.5th percentile"
                if facts.intensity_range
                else ": their whole range"
            ),
        ),
        "augmentation": (kind, why),
    }


def _augmentation(facts: Facts) -> tuple[str, str]:
    """Choose a family of random changes by what the pictures look like."""
    if not facts.color:
        return "ct", "grey pictures; choose `xray` if left and right must not be exchanged"
    if facts.aspect_spread < 1.05:
        return "histology", "colored tiles of one shape; choose `photo` for photographs"
    return "photo", "colored pictures of several shapes; choose `histology` for tissue"


def _steps(
    facts: Facts, request: Request, *, machine: Machine, trial: _Trial
) -> dict[str, tuple[object, str]]:
    """State the training."""
    fitting = f"{trial.epoch_minutes[0] * 60:.1f} s an epoch"
    base = f"{trial.epoch_minutes[1] * 60:.1f} s an epoch"
    tuned = request.fine_tunes
    balance, imbalance = _balance(facts)
    return {
        "batch_size": (
            trial.batch_size,
            "small data: about twenty steps an epoch" if not machine.gpu else "fills a GPU",
        ),
        "epochs": (trial.epochs[0], f"{fitting}: what fits into the model's 60 % of the time"),
        "baseline_epochs": (trial.epochs[1], f"{base}: what fits into 40 % of the training time"),
        "learning_rate": (
            5e-5 if tuned else 1e-3,
            "fine-tuning moves weights a little" if tuned else "a small transformer from scratch",
        ),
        "baseline_learning_rate": (1e-3, "a residual network from scratch"),
        "balance": (
            balance,
            f"the largest class has {imbalance:.1f} times the training cases of the smallest",
        ),
        "workers": (
            max(0, min(8, machine.cores - 1)) if machine.gpu else 0,
            "pictures are decoded once and kept" if not machine.gpu else "keep the GPU fed",
        ),
    }


def _explanation(*, attends: bool, several: bool) -> tuple[str, str]:
    """Follow attention where it leads from patch to patch, else ask for the class's gradient."""
    if attends and several:
        return "relevance", "a case can have several labels: this map asks for each by itself"
    if attends:
        return "rollout", (
            "exact for attention from every patch to every patch; the same map for every class"
        )
    return "grad_cam", (
        "the model has no attention from every patch to every patch, so none can be rolled out; "
        "this map is of the predicted class, and may have negative values"
    )


def _balance(facts: Facts) -> tuple[str, float]:
    """Weigh the loss where the classes differ by more than half, sample where tenfold."""
    counts = facts.train_counts.values()
    imbalance = max(counts) / max(1, min(counts))
    if imbalance <= 1.5 or facts.multi_label:
        return "none", imbalance
    return ("weights" if imbalance < 10 else "sampling"), imbalance


def _expected(facts: Facts, request: Request, *, trial: _Trial) -> dict[str, float]:
    """Estimate the minutes of each stage."""
    train = sum(trial.minutes) * _trainings(facts, request)
    each = trial.epoch_minutes[0] / max(1, facts.cases["train"]) * facts.cases["test"]
    pass_minutes = each * _trainings(facts, request)
    rest = {
        "train": train,
        "evaluate": 0.1 + pass_minutes,
        "explain": 0.05 + 2 * pass_minutes,
        "report": 0.1,
    }
    rest["total"] = sum(rest.values())
    return {name: round(minutes, 2) for name, minutes in rest.items()}
