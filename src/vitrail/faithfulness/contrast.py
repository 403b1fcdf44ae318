"""Does the map move to the class that is named?

Two questions. *Contrast*: how alike are the maps of the target and of the runner-up? A map that
knows no class gives the same one twice. *Mosaics*: two pictures of different classes share one
canvas, half and half; which share of the positive evidence for a's class lies on a? Chance is
a half.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor, nn

from vitrail.explain.target import logits_of

Maps = Float[np.ndarray, "case row column"]


@runtime_checkable
class Explain(Protocol):
    """One method with its parameters."""

    def __call__(
        self,
        model: nn.Module,
        images: Float[Tensor, "case channel height width"],
        *,
        targets: Int[np.ndarray, " case"],
    ) -> Maps:
        """Explain one class an image."""


def rank_correlation(a: Maps, b: Maps) -> Float[np.ndarray, " case"]:
    """Return Spearman's correlation of two maps of each picture; NaN where one is constant.

    Example:
        >>> map = np.arange(4.0).reshape(1, 2, 2)
        >>> rank_correlation(map, map).tolist(), rank_correlation(map, -map).tolist()
        ([1.0], [-1.0])
    """
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (a, b)]
    first, second = (part - part.mean(axis=1, keepdims=True) for part in ranks)
    spread = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (first * second).sum(axis=1) / np.where(spread > 0, spread, np.nan)
    return found


def runner_up(
    logits: Float[np.ndarray, "case class"], targets: Int[np.ndarray, " case"]
) -> Int[np.ndarray, " case"]:
    """Return the class of the highest logit beside the target's."""
    rest = logits.astype(np.float64)
    rest[np.arange(len(rest)), targets] = -np.inf
    found: np.ndarray = rest.argmax(axis=1)
    return found


def class_contrast(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    others: Int[np.ndarray, " case"] | None = None,
    original: Maps | None = None,
) -> Float[np.ndarray, " case"]:
    """Return 1 minus the rank correlation of the maps for the target and for the runner-up.

    0: the two maps rank the patches alike (every class-agnostic method); 1: unrelated; 2: opposite.

    Args:
        model: In eval mode.
        images: Pictures.
        method: The explainer.
        targets: Class of each picture.
        others: The runner-up of each, where it is known already.
        original: The maps for the targets, where they are known already.
    """
    if others is None:
        with torch.no_grad():
            logits = logits_of(model(images)).cpu().numpy()
        others = runner_up(logits, targets)
    if original is None:
        original = method(model, images, targets=targets)
    contrast: np.ndarray = 1 - rank_correlation(original, method(model, images, targets=others))
    return contrast


def mosaic_pairs(
    targets: Int[np.ndarray, " case"],
    *,
    present: Bool[np.ndarray, "case class"] | None = None,
    seed: int = 0,
) -> Int[np.ndarray, "pair 2"]:
    """Pair each picture with one that is not of its class, at random; empty if there is none.

    Args:
        targets: Class of each picture.
        present: Which labels each picture shows, where it can have several; by default its target.
        seed: Of the pairs.
    """
    generator = np.random.default_rng(seed)
    pairs = []
    for case, target in enumerate(targets):
        others = np.flatnonzero(targets != target if present is None else ~present[:, target])
        if len(others):
            pairs.append((case, int(generator.choice(others))))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def mosaics(
    images: Float[Tensor, "case channel height width"], pairs: Int[np.ndarray, "pair 2"]
) -> Float[Tensor, "2 pair channel height width"]:
    """Join halves of two pictures at their own places: ``a | b``, and ``b | a``."""
    a, b = images[pairs[:, 0]], images[pairs[:, 1]]
    half = images.shape[-1] // 2
    joined = [
        torch.cat([one[..., :half], two[..., half:]], dim=-1) for one, two in ((a, b), (b, a))
    ]
    return torch.stack(joined)


def mosaic_score(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    present: Bool[np.ndarray, "case class"] | None = None,
    seed: int = 0,
) -> Float[np.ndarray, " case"]:
    """Return the share of two mosaics' positive evidence that lies on the picture of its class.

    Args:
        model: In eval mode.
        images: Pictures of more than one class.
        method: The explainer.
        targets: Class of each picture.
        present: As of :func:`mosaic_pairs`.
        seed: Of the pairs.

    Returns:
        A number a picture (with a picture of another class); NaN without another class or where no
        evidence is positive. Chance is a half.

    Source: bohle2021convolutional, section 5 (the grid pointing game).

    Differs: halves of two pictures on one canvas of the model's own size, both ways round and
        counted together: nothing is scaled, all of both pictures is seen once, and neither place
        pays.
    """
    found = np.full(len(images), np.nan)
    pairs = mosaic_pairs(targets, present=present, seed=seed)
    if not len(pairs):
        return found
    canvas = mosaics(images, pairs)
    named = targets[pairs[:, 0]]
    left, right = (method(model, one, targets=named).clip(min=0) for one in canvas)
    own = _left_half(left.shape[2])
    mine = (left * own).sum(axis=(1, 2)) + (right * (1 - own)).sum(axis=(1, 2))
    total = left.sum(axis=(1, 2)) + right.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        found[pairs[:, 0]] = mine / np.where(total > 0, total, np.nan)
    return found


def _left_half(columns: int) -> Float[np.ndarray, " column"]:
    """Return which share of each column of patches lies on the left half."""
    found: np.ndarray = np.clip(columns / 2 - np.arange(columns), 0, 1)
    return found
