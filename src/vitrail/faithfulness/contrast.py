"""Does the map move to the class that is named?

Two questions. *Contrast*: how alike are the maps of the target and of the runner-up? A map that
knows no class gives the same one twice. *Mosaics*: two pictures of different classes share one
canvas, in the quarters ``a b / b a``; which share of the positive evidence for a's class lies on
a's quarters? Chance is a half.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor, nn

from vitrail.explain.target import logits_of

Maps = Float[np.ndarray, "case row column"]
Explain = Callable[[nn.Module, Float[Tensor, "case channel height width"], np.ndarray], Maps]
"""(model, images, one class an image) → maps: one method with its parameters."""


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
) -> Float[np.ndarray, " case"]:
    """Return 1 minus the rank correlation of the maps for the target and for the runner-up.

    0: the two maps rank the patches alike (every class-agnostic method); 1: unrelated; 2: opposite.
    """
    with torch.no_grad():
        logits = logits_of(model(images)).cpu().numpy()
    others = runner_up(logits, targets)
    return 1 - rank_correlation(method(model, images, targets), method(model, images, others))


def mosaic_pairs(targets: Int[np.ndarray, " case"], *, seed: int = 0) -> Int[np.ndarray, "pair 2"]:
    """Pair each picture with one of another class, at random; empty if there is one class."""
    generator = np.random.default_rng(seed)
    pairs = []
    for case, target in enumerate(targets):
        others = np.flatnonzero(targets != target)
        if len(others):
            pairs.append((case, int(generator.choice(others))))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def mosaics(
    images: Float[Tensor, "case channel height width"], pairs: Int[np.ndarray, "pair 2"]
) -> Float[Tensor, "pair channel height width"]:
    """Put two pictures at half their size on one canvas, in the quarters ``a b / b a``."""
    height, width = images.shape[-2:]
    half = F.interpolate(
        images, size=(height // 2, width // 2), mode="bilinear", antialias=True, align_corners=False
    )
    a, b = half[pairs[:, 0]], half[pairs[:, 1]]
    canvas = torch.cat([torch.cat([a, b], dim=3), torch.cat([b, a], dim=3)], dim=2)
    return F.pad(canvas, (0, width % 2, 0, height % 2), mode="replicate")


def mosaic_score(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    seed: int = 0,
) -> Float[np.ndarray, " case"]:
    """Return the share of a mosaic's positive evidence that lies on the quarters of its class.

    Args:
        model: In eval mode.
        images: Pictures of more than one class.
        method: The explainer.
        targets: Class of each picture.
        seed: Of the pairs.

    Returns:
        A number a picture (the mosaic with a picture of another class); NaN without another class
        or where no evidence is positive.

    Source: bohle2021convolutional, section 5 (the grid pointing game).

    Differs: two pictures on one canvas of the model's own size, each twice, on the diagonals, so
        that neither left or right nor top or bottom pays.
    """
    found = np.full(len(images), np.nan)
    pairs = mosaic_pairs(targets, seed=seed)
    if not len(pairs):
        return found
    maps = method(model, mosaics(images, pairs), targets[pairs[:, 0]])
    own = _on_diagonal((maps.shape[1], maps.shape[2]))
    positive = maps.clip(min=0)
    total = positive.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        shares = (positive * own).sum(axis=(1, 2)) / np.where(total > 0, total, np.nan)
    found[pairs[:, 0]] = shares
    return found


def _on_diagonal(grid: tuple[int, int]) -> Float[np.ndarray, "row column"]:
    """Return which share of each patch lies on the top left or bottom right quarter."""
    upper, left = (np.clip(side / 2 - np.arange(side), 0, 1) for side in grid)
    found: np.ndarray = np.outer(upper, left) + np.outer(1 - upper, 1 - left)
    return found
