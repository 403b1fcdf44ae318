"""What is checked of a plan before hours are spent on it."""

import logging
from collections.abc import Iterable

from vitrail.errors import PlanError
from vitrail.models.zoo import ModelSpec, normalizes_over_batch
from vitrail.pipeline.choices import Plan

_log = logging.getLogger("vitrail")

LIMITS = {
    "scratch": (5e-3, 5e-2),
    "finetune": (5e-4, 5e-3),
    "lora": (5e-3, 5e-2),
    "head": (0.1, 1.0),
}
"""Way of training → learning rate from which a warning is due, and the largest that is taken.

They hold for optimizers that divide by the gradient's size (Adam and its kin). In fine-tuning, a
larger rate washes out what the weights know within the first steps.
"""

_PLAIN = ("sgd", "momentum", "nesterov", "lars")
_PLAIN_FACTOR = 20.0
"""Optimizers that follow the bare gradient take larger rates."""


def way_of(plan: Plan) -> str:
    """Name how the plan's model is trained, as `LIMITS` does."""
    return "lora" if plan.mode.value == "finetune" and plan.lora_rank.value else plan.mode.value


def check_learning_rates(plan: Plan) -> None:
    """Warn of learning rates that are unfit for the way of training, and refuse the impossible.

    Raises:
        PlanError: If a rate would end in noise; names a fitting one.
    """
    rates = {
        "learning_rate": (plan.learning_rate.value, way_of(plan)),
        "baseline_learning_rate": (plan.baseline_learning_rate.value, "scratch"),
    }
    plain = plan.optimizer.value.startswith(_PLAIN)
    for name, (rate, way) in rates.items():
        doubtful, largest = (limit * (_PLAIN_FACTOR if plain else 1.0) for limit in LIMITS[way])
        if rate > largest:
            raise PlanError(
                name,
                f"{rate:g} for {plan.optimizer.value}, training: {way}",
                f"above {largest:g} such a training ends in noise or forgets what it started from",
                f"set {name}: {doubtful / 10:g} in plan.yaml",
            )
        if rate > doubtful:
            _log.warning(
                "%s: %g is high for %s (training: %s); if the loss does not fall, try %g",
                name,
                rate,
                plan.optimizer.value,
                way,
                doubtful / 10,
            )


def check_models(specs: Iterable[ModelSpec], *, batch_size: int) -> None:
    """Build each model without its weights, so that none fails when others have been trained.

    Args:
        specs: What will be trained.
        batch_size: Cases a step.

    Raises:
        InputError: If a description fits no model.
        PlanError: If a model normalizes over batches of one.
    """
    for spec in specs:
        if normalizes_over_batch(spec) and batch_size < 2:
            raise PlanError(
                "batch_size",
                f"{batch_size} case a step",
                f"{spec.architecture} normalizes over its batch, which takes two cases or more",
                "set batch_size: 2 or more; accumulation saves memory in its place",
            )
