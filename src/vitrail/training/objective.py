"""What is minimized: cross-entropy, or a binary one for each label; targets mixed where asked."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, one_hot

from vitrail.training.order import step_seed
from vitrail.training.settings import FitSettings


class Objective(ABC):
    """What a step aims at, and how far a case is from it."""

    @abstractmethod
    def prepare(
        self, images: Float[Tensor, "batch *place"], labels: Tensor, *, number: int
    ) -> tuple[Float[Tensor, "batch *place"], Tensor]:
        """Return what the model is shown in step ``number``, and a row of targets a case."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, " batch"]:
        """Return each case's loss."""


class Classification(Objective):
    """Cross-entropy with the labels, smoothed, mixed and weighed as the settings say.

    Args:
        settings: Of the training.
        num_classes: Length of the logits.
        class_weights: Of each class in the loss; None weighs all alike.
    """

    def __init__(
        self,
        settings: FitSettings,
        *,
        num_classes: int,
        class_weights: Float[Tensor, " class"] | None = None,
    ) -> None:
        self.settings, self.num_classes, self.class_weights = settings, num_classes, class_weights

    def prepare(
        self, images: Float[Tensor, "batch *place"], labels: Tensor, *, number: int
    ) -> tuple[Float[Tensor, "batch *place"], Tensor]:
        """Return the pictures and their targets, mixed where asked."""
        settings = self.settings
        return mix(
            images,
            soft_targets(labels, self.num_classes, smoothing=settings.label_smoothing),
            mixup=settings.mixup,
            cutmix=settings.cutmix,
            seed=step_seed(settings.seed, 2, number),
        )

    def losses(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, " batch"]:
        """Return each case's cross-entropy, by the weight of its class."""
        losses = loss_per_case(outputs, targets, multi_label=self.settings.multi_label)
        if self.class_weights is None:
            return losses
        return losses * (targets @ self.class_weights.to(targets.device))


def soft_targets(
    labels: Shaped[Tensor, "batch *label"], num_classes: int, *, smoothing: float
) -> Float[Tensor, "batch class"]:
    """Turn class indices, or rows of zeros and ones, into the probabilities to aim at.

    Args:
        labels: Class indices, or one row of labels a case.
        num_classes: Length of a row.
        smoothing: Share spread evenly: over the classes, or over yes and no of each label.
    """
    if labels.ndim == 1:
        targets = one_hot(labels.long(), num_classes).float()
        return targets * (1 - smoothing) + smoothing / num_classes
    return labels.float() * (1 - smoothing) + smoothing / 2


def loss_per_case(
    logits: Float[Tensor, "batch class"],
    targets: Float[Tensor, "batch class"],
    *,
    multi_label: bool,
) -> Float[Tensor, " batch"]:
    """Return each case's cross-entropy (the mean over the labels where there are several)."""
    if multi_label:
        return binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(
            dim=1
        )
    return -(targets * log_softmax(logits.float(), dim=1)).sum(dim=1)


def mix(
    images: Float[Tensor, "batch *shape"],
    targets: Float[Tensor, "batch class"],
    *,
    mixup: float,
    cutmix: float,
    seed: int,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch class"]]:
    """Blend each picture with another of the batch (mixup), or paste a box of it (cutmix).

    One share λ is drawn a batch from a symmetric beta distribution; targets are mixed as the
    pixels are. With both asked for, an even coin decides.

    Args:
        images: The batch: pictures, or (without cutmix) features.
        targets: Probabilities to aim at.
        mixup: Parameter of its beta distribution; 0 for none.
        cutmix: The same of cutmix; 0 for none.
        seed: Of this step.

    Returns:
        Mixed images and targets.

    Source:
        zhang2018, section 2; yun2019, equations 1 and 2 (λ becomes the true share of
        pixels where the box is cut off by the border).
    """
    if not mixup and not cutmix:
        return images, targets
    generator = torch.Generator().manual_seed(seed)
    boxed = bool(cutmix) and (not mixup or bool(torch.rand((), generator=generator) < 0.5))
    share = _beta(cutmix if boxed else mixup, generator)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    if boxed:
        height, width = images.shape[2:]
        row, column = (
            int(torch.randint(side, (), generator=generator)) for side in (height, width)
        )
        half = math.sqrt(1 - share) / 2
        top, bottom = max(0, round(row - half * height)), min(height, round(row + half * height))
        left, right = max(0, round(column - half * width)), min(width, round(column + half * width))
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        mixed = images * share + images[partner] * (1 - share)
    return mixed, targets * share + targets[partner] * (1 - share)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha): the share of one of two gamma variables in their sum."""
    draws = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator)  # noqa: SLF001, the only gamma that takes a generator
    return float(draws[0] / draws.sum())
