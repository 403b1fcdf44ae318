"""How the plan says that a model is trained: each value of the training with its rule.

These are the values that a person changes most often. The rules take what is known to work for
small medical cohorts and leave off what has to earn its place on the validation cases.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.errors import PlanError

FINE_TUNED_LAYER_DECAY = 0.75
PRETRAINING_SHARE = 0.5
"""Of the model's training time, where it is pretrained first."""
PRETRAINING_COST = 0.5
"""Of a step in which three quarters of the patches are hidden, as a share of a plain one's."""

Stated = dict[str, tuple[object, str]]
"""Name of a choice → its value and the reason."""


def methods(*, fine_tunes: bool, batch_norm: bool = False) -> Stated:
    """State how both models are trained.

    Args:
        fine_tunes: Whether the model starts from weights.
        batch_norm: Whether the model normalizes over its batch, as most CNNs do.
    """
    return {
        "optimizer": ("adamw", "the usual one for transformers; any name of timm's optimizers"),
        "weight_decay": (0.05, "on matrices only, never on biases, norms and embeddings"),
        "layer_decay": (
            (FINE_TUNED_LAYER_DECAY, "early layers of a trained model hold what is worth keeping")
            if fine_tunes and not batch_norm
            else (None, "for transformers; a CNN is fine-tuned at one rate")
            if fine_tunes
            else (None, "no layer knows more than another before training")
        ),
        "lora_rank": (None, "every weight is trained; 8 trains small products beside large models"),
        "unfreezing": (0.0, "off; 0.5 lets the layers of a trained model wait for a new head"),
        "clip_norm": (1.0, "one bad batch must not undo an epoch"),
        **_regularization(),
        **_machine(),
    }


def learning_rate(mode: str, *, lora: bool, batch_norm: bool) -> tuple[float, str]:
    """State the model's learning rate.

    Args:
        mode: ``scratch``, ``finetune`` or ``head``.
        lora: Whether fine-tuning trains small products beside the weights.
        batch_norm: Whether the model normalizes over its batch, as most CNNs do.
    """
    if mode == "head":
        return 1e-3, "a small head from scratch"
    if mode == "scratch":
        return 1e-3, "a small transformer from scratch"
    if lora:
        return 5e-4, "the small products start at nothing; the weights themselves rest"
    if batch_norm:
        return 3e-4, "fine-tuning a CNN: its normalization holds the features steady"
    return 5e-5, "fine-tuning moves weights a little"


def _regularization() -> Stated:
    """State what is done against learning by heart; all of it is to be tried on validation."""
    off = "off; to be tried where the training loss falls and the validation loss does not"
    return {
        "label_smoothing": (0.0, off),
        "mixup": (0.0, off + " (0.2)"),
        "cutmix": (0.0, off + " (1.0)"),
        "ema_decay": (None, "off; 0.99 to 0.999 steadies small noisy cohorts"),
        "patience": (None, "the schedule ends where the epochs end; stopping early cuts it off"),
    }


def _machine() -> Stated:
    """State how the machine is used."""
    return {
        "accumulation": (1, "each batch is one pass; more passes need less memory"),
        "precision": ("auto", "bf16 on a GPU that has it, fp16 on another, fp32 on a CPU"),
        "tracker": (
            None,
            "log.jsonl alone; tensorboard, mlflow or wandb on request",
        ),
        "compile": (False, "compiling takes minutes, which pay on a GPU and long trainings only"),
    }


def check_pretraining(kind: str, unlabeled: Path | None) -> None:
    """Refuse a way of pretraining that does not exist, and pictures that would not be used.

    Raises:
        PlanError: If one was asked for.
    """
    if kind not in ("none", "mae"):
        raise PlanError(
            "--pretrain",
            repr(kind),
            "the one way is mae, masked autoencoding",
            "pass --pretrain mae, or --pretrained for published weights",
        )
    if unlabeled and kind == "none":
        raise PlanError(
            "--unlabeled",
            str(unlabeled),
            "pictures without labels serve pretraining alone",
            "pass --pretrain mae with it",
        )


def pretraining_share(kind: str) -> float:
    """Return how much of the model's training time goes to learning before labels."""
    return 0.0 if kind == "none" else PRETRAINING_SHARE


def pretraining(kind: str, *, epochs: int, unlabeled: Path | None) -> Stated:
    """State what the model learns before it sees labels.

    Args:
        kind: ``mae`` or ``none``.
        epochs: What fits into the time for it.
        unlabeled: Folder of further pictures, if there is one.
    """
    asked = "as asked for on the command line"
    return {
        "pretrain": (
            kind,
            asked if kind != "none" else "not asked for; --pretrain mae fills in hidden patches",
        ),
        "unlabeled": (
            str(unlabeled.resolve()) if unlabeled else None,
            asked if unlabeled else "the training pictures alone",
        ),
        "pretrain_epochs": (
            max(1, epochs),
            f"what fits into {PRETRAINING_SHARE:.0%} of the model's training time",
        ),
        "pretrain_learning_rate": (1e-3, "a small transformer from scratch"),
        "mask_ratio": (0.75, "the published share: the picture's rest must not tell too much"),
    }


def fit_choices(values: Mapping[str, Any], *, is_model: bool) -> dict[str, Any]:
    """Put the plan's values into the words of the training's settings.

    Args:
        values: Name of a choice → its value.
        is_model: Whether they are for the model; else for its baseline, which starts untrained.
    """
    names = methods(fine_tunes=False).keys() - {"lora_rank"}
    chosen = {name: values[name] for name in names}
    return chosen if is_model else {**chosen, "layer_decay": None, "unfreezing": 0.0}
