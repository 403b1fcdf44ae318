"""How the plan says that a model is trained: each value of the training with its rule.

These are the values that a person changes most often. The rules take what is known to work for
small medical cohorts and leave off what has to earn its place on the validation cases.
"""

from collections.abc import Mapping
from typing import Any

FINE_TUNED_LAYER_DECAY = 0.75

Stated = dict[str, tuple[object, str]]
"""Name of a choice → its value and the reason."""


def methods(*, fine_tunes: bool) -> Stated:
    """State how both models are trained.

    Args:
        fine_tunes: Whether the model starts from weights.
    """
    return {
        "optimizer": ("adamw", "the usual one for transformers; any name of timm's optimizers"),
        "weight_decay": (0.05, "on matrices only, never on biases, norms and embeddings"),
        "layer_decay": (
            (FINE_TUNED_LAYER_DECAY, "early layers of a trained model hold what is worth keeping")
            if fine_tunes
            else (None, "no layer knows more than another before training")
        ),
        "clip_norm": (1.0, "one bad batch must not undo an epoch"),
        **_regularization(),
        **_machine(),
    }


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
        "compile": (False, "compiling takes minutes, which pay on a GPU and long trainings only"),
    }


def fit_choices(values: Mapping[str, Any], *, is_model: bool) -> dict[str, Any]:
    """Put the plan's values into the words of the training's settings.

    Args:
        values: Name of a choice → its value.
        is_model: Whether they are for the model; else for its baseline, which starts untrained.
    """
    chosen = {name: values[name] for name in methods(fine_tunes=False)}
    return chosen if is_model else {**chosen, "layer_decay": None}
