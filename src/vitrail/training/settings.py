"""How a model is trained: the settings, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.errors import InputError

METRICS = ("roc_auc_score", "balanced_accuracy_score", "loss")
"""What the best epoch can be chosen by, on validation cases: the largest, or the smallest loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """Every choice of a training run.

    The defaults are for a small Vision Transformer from scratch.

    Attributes:
        epochs: Passes over the training cases.
        batch_size: Cases a step of the optimizer, over all processes and passes together.
        accumulation: Passes that a batch is cut into, so that less has to fit into memory.
        learning_rate: At the peak, after the warm-up.
        warmup: Share of all steps in which the learning rate rises from zero.
        final_share: Share of the peak that the learning rate ends at.
        optimizer: Name of timm's; ``adamw``, ``sgd``, ``lamb``, …
        weight_decay: On matrices only, never on biases, norms and embeddings.
        layer_decay: Factor on the learning rate for each layer further from the head; None for one
            rate everywhere.
        unfreezing: Share of the epochs over which layers are set free one after another, the head
            first; 0 trains all from the first epoch.
        clip_norm: Largest norm of the gradient; None does not clip.
        label_smoothing: Share of the target spread over all classes.
        balance: ``weights`` weighs the loss and ``sampling`` the drawing of cases so that classes
            count alike; ``auto`` weighs from a ratio of 1.5 between the largest and smallest class
            and samples from 10.
        mixup: Beta parameter of mixup; 0 for none.
        cutmix: Beta parameter of cutmix; 0 for none. With both, each batch takes one of the two.
        ema_decay: Of the moving average of the weights that is validated and kept; None for none.
        metric: Of the best epoch; ``auto`` is ``roc_auc_score``, and the validation loss where a
            class is missing from the validation cases. Epochs that so few cases cannot tell apart
            by it are compared by their loss, see `vitrail.training.validation`.
        patience: Epochs without a better one after which training stops; None trains them all.
        most_minutes: Time of all epochs; where they would take longer, there will be fewer of them
            and the learning rate falls sooner. None for no limit.
        precision: ``auto`` is bf16 on a GPU that has it, fp16 on another, fp32 on a CPU.
        channels_last: Memory format; None takes it for convolutional networks.
        compile: Use ``torch.compile``.
        tracker: Which of accelerate's trackers gets the numbers of each epoch; None for none.
        multi_label: Targets are a row of zeros and ones; a binary cross-entropy a label.
        seed: Of order, dropout and mixing (the weights come with the model, augmentation with the
            dataset).
        num_workers: Processes that load pictures; 0 loads in the training's own.
        checkpoint_steps: Steps between checkpoints inside an epoch; None keeps one an epoch.
    """

    epochs: int = 30
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 1e-3
    warmup: float = 0.1
    final_share: float = 0.01
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    layer_decay: float | None = None
    unfreezing: float = 0.0
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    balance: Literal["auto", "none", "weights", "sampling"] = "auto"
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float | None = None
    metric: Literal["auto", "roc_auc_score", "balanced_accuracy_score", "loss"] = "auto"
    patience: int | None = None
    most_minutes: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | None = None
    compile: bool = False
    tracker: str | None = None
    multi_label: bool = False
    seed: int = 0
    num_workers: int = 0
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no training can use."""
        ranges: Mapping[str, tuple[float, float]] = {
            "epochs": (1, 1e6),
            "batch_size": (1, 1e6),
            "accumulation": (1, self.batch_size),
            "learning_rate": (0, 10),
            "warmup": (0, 1),
            "final_share": (0, 1),
            "weight_decay": (0, 10),
            "layer_decay": (0, 1),
            "unfreezing": (0, 1),
            "clip_norm": (1e-12, 1e12),
            "label_smoothing": (0, 0.9),
            "mixup": (0, 100),
            "cutmix": (0, 100),
            "ema_decay": (0, 1),
            "patience": (1, 1e6),
            "most_minutes": (0, 1e9),
            "num_workers": (0, 1024),
            "checkpoint_steps": (1, 1e9),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(
                    name, str(value), f"it must lie in [{low:g}, {high:g}]", "choose another value"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What came of a training run.

    Attributes:
        best_epoch: Counted from 1; the model holds this epoch's weights.
        metric: What it was chosen by, on validation cases.
        history: One row an epoch, the same as in ``log.jsonl``: ``epoch``, ``train_loss``,
            ``validation_loss``, the metrics, ``standard_error`` of the one that chooses (over
            patients or groups; None of a loss), ``learning_rate``, ``images_per_s``, ``seconds``
            and ``waiting_share`` (share of the time in which the loop waited for pictures).
        seconds: Time of all epochs, over all sittings.
        warnings: Sentences that belong beside the numbers.
    """

    best_epoch: int
    metric: str
    history: list[dict[str, Any]]
    seconds: float
    warnings: tuple[str, ...]
