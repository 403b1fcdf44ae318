"""Pictures whose cause is known, and a tiny ViT that learned them: ground truth for explanations.

Each picture is a smooth noise field in which up to four *motifs* (ring, plus, cross, checks) are
planted, each with probability 0.4, each tiled over a square of 1, 2 or 3 patches a side. Whether a
picture has the label of a motif depends on that motif alone; so its logit has one cause, and this
module knows where it put it. Motifs fill whole patches: a map has no finer truth. Two tasks:

``amount``
    The more of the picture a motif fills, the likelier its label: its true logit is (patches - 4)
    / 2. Every patch of the motif adds one half, so that the map is known in full, and hiding any
    one of them must show.
``presence``
    The label says whether the motif is there at all. Larger motifs are redundant: without one of
    its patches a motif is still there, and a model may say so with the same certainty.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from vitrail.errors import TrainingError
from vitrail.models.zoo import ModelSpec, build
from vitrail.records import Progress, no_progress

GRID = 8
PATCH_PX = 8
MOTIFS = ("ring", "plus", "cross", "checks")
LARGEST_MOTIF = 3
PRESENCE = 0.4
STEPS = 200

Evidence = Literal["amount", "presence"]
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)

_BACKGROUND, _GRAIN, _AMPLITUDE = 0.7, 0.5, 1.5
_TRIES, _EVEN_PATCHES = 50, 4
_BATCH, _LEARNING_RATE = 64, 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class PlantedPictures:
    """Pictures with their causes.

    Attributes:
        images: Grey, zero mean.
        present: Whether each motif is in the picture.
        causes: The patches that each motif fills.
    """

    images: Float[Tensor, "case 1 height width"]
    present: Bool[Tensor, "case class"]
    causes: Bool[Tensor, "case class row column"]

    def true_logits(self) -> Float[Tensor, "case class"]:
        """Return what the ideal model of the task ``amount`` answers: half of (patches - 4)."""
        return (self.causes.sum(dim=(2, 3)) - _EVEN_PATCHES) / 2

    def labels(self, evidence: Evidence) -> Float[Tensor, "case class"]:
        """Return the chance of each label."""
        return self.present.float() if evidence == "presence" else self.true_logits().sigmoid()


def motif_tiles() -> Float[np.ndarray, "class height width"]:
    """Draw the motifs, one patch each, with mean 0 and standard deviation 1.

    Equal means and deviations: a motif cannot be told by brightness or contrast alone.
    """
    row, column = np.mgrid[0:PATCH_PX, 0:PATCH_PX]
    down, right = (
        (2 * row - PATCH_PX + 1) / (PATCH_PX - 1),
        (2 * column - PATCH_PX + 1) / (PATCH_PX - 1),
    )
    radius = np.hypot(down, right)
    drawings = (
        (radius < 1.05) & (radius > 0.6),
        (abs(right) < 0.3) | (abs(down) < 0.3),
        (abs(right - down) < 0.35) | (abs(right + down) < 0.35),
        (row // 2 + column // 2) % 2 == 0,
    )
    tiles: Float[np.ndarray, "class height width"] = np.stack(drawings).astype(np.float64)
    tiles -= tiles.mean(axis=(1, 2), keepdims=True)
    tiles /= tiles.std(axis=(1, 2), keepdims=True)
    return tiles


def plant(num_cases: int, *, seed: int, largest: int = LARGEST_MOTIF) -> PlantedPictures:
    """Make pictures with planted motifs.

    Args:
        num_cases: Pictures to make.
        seed: Of everything random in them.
        largest: Largest side of a motif in patches. With 1 each cause is one patch.
    """
    generator = np.random.default_rng(seed)
    causes = np.stack([_place(generator, largest) for _ in range(num_cases)])
    planted = np.einsum("ncab,cij->naibj", causes, motif_tiles())
    size = GRID * PATCH_PX
    pictures = _background(num_cases, generator) + _AMPLITUDE * planted.reshape(-1, size, size)
    return PlantedPictures(
        images=torch.from_numpy(pictures[:, None].astype(np.float32)),
        present=torch.from_numpy(causes.any(axis=(2, 3))),
        causes=torch.from_numpy(causes),
    )


def _place(generator: np.random.Generator, largest: int) -> Bool[np.ndarray, "class row column"]:
    """Choose motifs and squares for them; a patch at least lies between two squares."""
    causes = np.zeros((len(MOTIFS), GRID, GRID), dtype=bool)
    taken = np.zeros((GRID, GRID), dtype=bool)
    for motif in generator.permutation(len(MOTIFS)):
        if generator.random() >= PRESENCE:
            continue
        side = int(generator.integers(1, largest + 1))
        for _ in range(_TRIES):
            top, left = generator.integers(0, GRID - side + 1, size=2)
            if not taken[
                max(top - 1, 0) : top + side + 1, max(left - 1, 0) : left + side + 1
            ].any():
                taken[top : top + side, left : left + side] = True
                causes[motif, top : top + side, left : left + side] = True
                break
    return causes


def _background(
    num_cases: int, generator: np.random.Generator
) -> Float[np.ndarray, "case height width"]:
    """Make smooth noise (amplitude 1/frequency) with grain on it."""
    size = GRID * PATCH_PX
    frequency = np.fft.fftfreq(size)
    amplitude = 1.0 / np.maximum(np.hypot(frequency[:, None], frequency[None]), 1.0 / 16)
    spectrum = np.fft.fft2(generator.normal(size=(num_cases, size, size))) * amplitude
    smooth = np.fft.ifft2(spectrum).real
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    return _BACKGROUND * smooth + _GRAIN * generator.normal(size=smooth.shape)


def tiny_vit(*, seed: int = 0) -> nn.Module:
    """Build the untrained model: 8 x 8 patches, 4 blocks of width 64, a logit a motif."""
    spec = ModelSpec(
        architecture="vit",
        num_classes=len(MOTIFS),
        img_size=(GRID * PATCH_PX, GRID * PATCH_PX),
        in_chans=1,
        parameters={
            "patch_size": PATCH_PX,
            "embed_dim": 64,
            "depth": 4,
            "num_heads": 4,
            "mlp_ratio": 2,
        },
    )
    return build(spec, seed=seed).eval()


def train_tiny_vit(
    *,
    seed: int = 0,
    steps: int = STEPS,
    evidence: Evidence = "amount",
    progress: Progress = no_progress,
) -> nn.Module:
    """Train the tiny ViT on fresh pictures (about half a minute on two idle cores).

    Args:
        seed: Of the weights and of the pictures.
        steps: Batches to learn from.
        evidence: What a label means, see the module.
        progress: Told after every step.

    Returns:
        The model in eval mode. On 500 new pictures it is right in at least 99 % of the labels
        (``presence``), or explains at least 95 % of the variance of the true logits (``amount``).

    Raises:
        TrainingError: If it is not.
    """
    model = tiny_vit(seed=seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        batch = plant(_BATCH, seed=1_000_003 * (seed + 1) + step)
        loss = binary_cross_entropy_with_logits(model(batch.images), batch.labels(evidence))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        progress("training the tiny ViT", done=step + 1, total=steps, note=f"loss {loss:.3f}")
    model.eval().requires_grad_(requires_grad=False)
    _check_learned(model, plant(500, seed=seed), evidence=evidence)
    return model


def _check_learned(model: nn.Module, pictures: PlantedPictures, *, evidence: Evidence) -> None:
    """Refuse a model that has not learned its task: its maps would say nothing about a method."""
    with torch.no_grad():
        logits = model(pictures.images)
    if evidence == "presence":
        learned, needed = float(((logits > 0) == pictures.present).float().mean()), 0.99
        what = f"{learned:.3f} of the labels of new pictures are right"
    else:
        truth = pictures.true_logits()
        learned, needed = 1 - float((logits - truth).square().mean() / truth.var()), 0.95
        what = f"{learned:.3f} of the variance of the true logits of new pictures is explained"
    if learned < needed:
        raise TrainingError(
            "tiny ViT",
            what,
            f"explanations are tested on a model that knows its task ({needed})",
            "pass another seed",
        )
