"""The rules that turn facts about the data, the machine and the budget into a plan.

Each rule gives a value and says why. Nothing here reads files; the seconds of a training step come
in as a function, so that the rules can be tested without training anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vitrail.errors import PlanError
from vitrail.models.zoo import ModelSpec, normalizes_over_batch, trained_input
from vitrail.pipeline.choices import LIMITS, Plan, parse_plan
from vitrail.pipeline.facts import Facts
from vitrail.pipeline.fitting import (
    GOOD_EPOCHS,
    MODEL_SHARE,
    Cost,
    Trial,
    expected_minutes,
    fit_budget,
)
from vitrail.pipeline.methods import (
    check_pretraining,
    learning_rate,
    methods,
    pretraining,
)
from vitrail.pipeline.request import Machine, Request
from vitrail.pipeline.views import choose_view
from vitrail.pipeline.wishes import checked
from vitrail.records import Preprocessing

Attends = Callable[[ModelSpec], bool]
"""Whether every layer of a model attends from each patch to each patch."""

Measure = Callable[[Preprocessing], tuple[tuple[float, ...], tuple[float, ...]]]
"""Mean and standard deviation of each channel of the training pictures, prepared like that."""

DEFAULT_MINUTES = 10.0
_GIVEN = "as given on the command line"


def choose(
    facts: Facts,
    request: Request,
    *,
    machine: Machine,
    data: str,
    cost: Cost,
    attends: Attends,
    measure: Measure,
) -> Plan:
    """Choose everything.

    Args:
        facts: What the data is.
        request: What the user asked for.
        machine: Where it runs.
        data: The data's fingerprint.
        cost: Times a training step.
        attends: Tells whether attention can explain a model.
        measure: Measures the training pictures as a model would see them.

    Raises:
        PlanError: If the budget is too small for the smallest sensible training; the message has
            the estimate.
    """
    _check_pretrained(request)
    request = replace(request, choices=checked(request.choices))
    _check_guided(facts, request)
    check_pretraining(request.pretrain, request.unlabeled)
    budget = request.budget_minutes or DEFAULT_MINUTES
    trial = fit_budget(facts, request, machine=machine, budget=budget, cost=cost)
    fine_tunes = trial.mode == "finetune"
    leads = attends(trial.model)
    batch_norm = fine_tunes and not leads and normalizes_over_batch(trial.model)
    choices: dict[str, tuple[object, str]] = {
        "data": (data, "fingerprint of the cases this plan was made for; do not edit"),
        **_asked(facts, request, budget=budget),
        **_models(facts, request, trial=trial),
        **_pixels(facts, request, trial=trial, measure=measure),
        **_steps(facts, machine=machine, trial=trial),
        "learning_rate": learning_rate(
            trial.mode, lora=bool(request.choices.get("lora_rank")), batch_norm=batch_norm
        ),
        **pretraining(request.pretrain, epochs=trial.pretrain_epochs, unlabeled=request.unlabeled),
        **methods(fine_tunes=fine_tunes, batch_norm=batch_norm),
        "explanation": _explanation(attends=leads, several=facts.multi_label),
        "expected_minutes": (
            expected_minutes(facts, request, trial=trial),
            f"timed steps on this machine ({machine.cores} cores, {machine.gpu or 'no GPU'})",
        ),
    }
    for name in request.choices.keys() - {"model_parameters"}:
        choices[name] = (request.choices[name], _GIVEN)
    content = {
        name: {"value": choices[name][0], "reason": choices[name][1]} for name in Plan.model_fields
    }
    return parse_plan(content, name="--set")


def _check_pretrained(request: Request) -> None:
    """Refuse published weights of no named model, and those beside others."""
    if request.pretrained and (request.model in (None, "vit") or request.weights):
        raise PlanError(
            "--pretrained",
            f"together with --weights {request.weights}" if request.weights else "without --model",
            "published weights belong to a named model and are the only ones",
            "pass for example --model vit_small_patch16_224 --pretrained",
        )


def _check_guided(facts: Facts, request: Request) -> None:
    """Refuse a second stage that its data are not made for."""
    wanted = request.choices.get("guided", request.guided)
    if wanted and (facts.volumes is None or facts.multi_label):
        raise PlanError(
            "--model guided",
            "pictures" if facts.volumes is None else "cases with several labels",
            "the guided classifier is for volumes with one label each",
            "give DICOM series or NIfTI files, or pass another --model",
        )


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


def _models(facts: Facts, request: Request, *, trial: Trial) -> dict[str, tuple[object, str]]:
    """State the two models."""
    count = facts.cases["train"]
    return {
        "model": (
            trial.model.architecture,
            "as given on the command line"
            if request.model
            else f"a small transformer from scratch: {count} training cases and no weights",
        ),
        "guided": (
            request.guided,
            "as given on the command line: the model is stage one, this is stage two"
            if request.guided
            else "no second stage; --model guided trains one on volumes",
        ),
        "mode": (trial.mode, trial.why),
        "head": (
            request.head,
            "one linear layer, fitted to its optimum: least to go wrong on few cases"
            if request.head == "linear"
            else "as given on the command line",
        ),
        "views": (
            request.views,
            "each training picture as it is; --views 5 adds augmented ones, at five times the time"
            if request.views == 1
            else "as given on the command line",
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


def _pixels(
    facts: Facts, request: Request, *, trial: Trial, measure: Measure
) -> dict[str, tuple[object, str]]:
    """State how a picture becomes an input."""
    size = trial.model.img_size
    varied = facts.aspect_spread > 1.25
    kind, why = _augmentation(facts)
    stated: dict[str, tuple[object, str]] = {
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
            if not request.has_weights
            else "the weights were trained on three channels",
        ),
        "fit": (
            "pad" if varied else "squash",
            f"width / height varies by a factor of {facts.aspect_spread:.2f}"
            + (": proportions are kept" if varied else ": nearly alike, the whole input is used"),
        ),
        "volume": choose_view(facts.volumes, size=size[0]),
        "intensity_range": (
            facts.intensity_range,
            f"pictures of up to {facts.bits} bits"
            + (
                ": from the darkest 0.5th to the brightest 99.5th percentile of the training part"
                if facts.intensity_range
                else ": their whole range"
            ),
        ),
        "augmentation": (kind, why),
    }
    return {**stated, **_normalization(facts, request, stated=stated, measure=measure)}


def _normalization(
    facts: Facts,
    request: Request,
    *,
    stated: Mapping[str, tuple[object, str]],
    measure: Measure,
) -> dict[str, tuple[object, str]]:
    """State what is subtracted from a picture and what it is divided by."""
    if request.has_weights:
        known = trained_input(request.model or "vit")
        why = "what the weights were trained with"
        return {"mean": (known.mean, why), "std": (known.std, why)}
    named = ("image_size", "channels", "fit", "volume", "intensity_range")
    values: dict[str, Any] = {name: request.choices.get(name, stated[name][0]) for name in named}
    blank = (0.5,) * values["channels"]
    mean, std = measure(Preprocessing(**values, mean=blank, std=blank))
    why = "measured on the training pictures alone, as the model sees them"
    if facts.folds > 1:
        why = "measured on the pictures that some fold trains on, as the model sees them"
    return {"mean": (mean, why), "std": (std, why)}


def _augmentation(facts: Facts) -> tuple[str, str]:
    """Choose a family of random changes by what the pictures look like."""
    if not facts.color:
        return "ct", "grey pictures; choose `xray` if left and right must not be exchanged"
    if facts.aspect_spread < 1.05:
        return "histology", "colored tiles of one shape; choose `photo` for photographs"
    return "photo", "colored pictures of several shapes; choose `histology` for tissue"


def _steps(facts: Facts, *, machine: Machine, trial: Trial) -> dict[str, tuple[object, str]]:
    """State the training."""
    fitting = f"{trial.epoch_minutes[0] * 60:.1f} s an epoch"
    base = f"{trial.epoch_minutes[1] * 60:.1f} s an epoch"
    share = MODEL_SHARE[trial.mode]
    balance, imbalance = _balance(facts)
    return {
        "batch_size": (
            trial.batch_size,
            "small data: about twenty steps an epoch" if not machine.gpu else "fills a GPU",
        ),
        "epochs": (
            trial.epochs[0],
            f"{fitting}: what fits into the model's {share:.0%} of the training time"
            if trial.mode != "head"
            else "of a head with a hidden layer (mlp); the other heads need none",
        ),
        "baseline_epochs": (
            trial.epochs[1],
            f"{base}: what fits into {1 - share:.0%} of the training time",
        ),
        "baseline_learning_rate": (1e-3, "a residual network from scratch"),
        **_limits(trial),
        "balance": (
            balance,
            f"the largest class has {imbalance:.1f} times the training cases of the smallest",
        ),
        "workers": (
            max(0, min(8, machine.cores - 1)) if machine.gpu else 0,
            "pictures are decoded once and kept" if not machine.gpu else "keep the GPU fed",
        ),
    }


def _limits(trial: Trial) -> dict[str, tuple[object, str]]:
    """State how long a training may take on a machine that got slower."""
    why = "its share of the budget and a fifth more; then the schedule is cut short"
    return {
        name: (
            None if most is None else round(most, 2),
            "no limit: its epochs were given on the command line, or are none"
            if most is None
            else why,
        )
        for name, most in zip(LIMITS, trial.most_minutes, strict=True)
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
