"""What is checked of a plan before hours are spent on it."""

import logging
from collections.abc import Iterable
from pathlib import Path

from vitrail.errors import PlanError, RunFolderError
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, normalizes_over_batch
from vitrail.pipeline.choices import Plan
from vitrail.pipeline.facts import data_fingerprint
from vitrail.records import Cohort
from vitrail.runfolder import read_json

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


def check_models(specs: Iterable[ModelSpec], *, least: int) -> None:
    """Build each model without its weights, so that none fails when others have been trained.

    Args:
        specs: What will be trained.
        least: Cases of the smallest pass.

    Raises:
        InputError: If a description fits no model.
        PlanError: If a model normalizes over one case.
    """
    for spec in specs:
        if normalizes_over_batch(spec) and least < 2:
            raise PlanError(
                "batch_size, accumulation",
                "a pass of one case",
                f"{spec.architecture} normalizes over its batch, which takes two cases or more",
                "set batch_size: 3 or more, and accumulation to half of it at most",
            )


def require_same_plan(folders: Iterable[Path], plan: Plan) -> None:
    """Refuse trained models that another plan made: they would be shown other pictures.

    Args:
        folders: Of models; those that are not trained yet are passed over.
        plan: As ``plan.yaml`` says now.

    Raises:
        RunFolderError: If there is one.
    """
    for folder in folders:
        description = folder / bundle.DESCRIPTION
        if description.exists() and _plan_of(description) != plan.fingerprint():
            raise RunFolderError(
                str(folder),
                "trained under another plan than plan.yaml says now",
                "a run folder keeps one plan once training has begun",
                "undo the edit, delete the folder models, or start a new run with another --out",
            )


def _plan_of(description: Path) -> str:
    """Return the fingerprint of the plan that a finished model was trained under."""
    content = read_json(description)
    return str(content["extra"].get("plan", "")) if isinstance(content, dict) else ""


def require_same_data(plan: Plan, cohort: Cohort) -> None:
    """Refuse a plan that was made for other pictures.

    Raises:
        RunFolderError: If files were changed, moved or lost since.
    """
    if plan.data.value != data_fingerprint(cohort):
        raise RunFolderError(
            "plan.yaml",
            f"made for other data than {cohort.root} holds now",
            "a plan belongs to the cases that it was made for",
            "bring the pictures back, or pass another --out",
        )
