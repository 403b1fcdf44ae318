"""What is minimized: cross-entropy, or a binary one for each label; targets mixed where asked."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, one_hot


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
