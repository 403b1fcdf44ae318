"""Is the evidence where a person drew it? Plausibility, to be reported apart from faithfulness.

All functions take a map on its patch grid and, for each patch, the share that the mask covers
(:func:`coverage`). They do not say whether the model is right to look there.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Map = Float[np.ndarray, "row column"]
Size = Literal["small", "medium", "large"]

SMALL, LARGE = 0.01, 0.05
"""Shares of the picture: smaller lesions are ``small``, larger ones ``large``."""

_COVERED = 0.5


def coverage(
    mask: Bool[np.ndarray, "height width"], grid_size: tuple[int, int]
) -> Float[np.ndarray, "row column"]:
    """Return the share of each patch that a mask covers; patches may have fractional sides.

    Args:
        mask: Of the picture as the model saw it.
        grid_size: Rows and columns of the patches.

    Example:
        >>> coverage(np.array([[True, True, False, False]]), (1, 2)).tolist()
        [[1.0, 0.0]]
    """
    down, right = (
        _overlaps(side, cells) for side, cells in zip(mask.shape, grid_size, strict=True)
    )
    found: np.ndarray = down @ mask.astype(np.float64) @ right.T
    return found


def _overlaps(side: int, cells: int) -> Float[np.ndarray, "cell pixel"]:
    """Return which share of each cell each pixel makes up; rows sum to one."""
    edges = np.arange(cells + 1)[:, None] * (side / cells)
    low = np.maximum(edges[:-1], np.arange(side))
    high = np.minimum(edges[1:], np.arange(1, side + 1))
    found: np.ndarray = np.clip(high - low, 0, None) * (cells / side)
    return found


def lesion_size(mask: Bool[np.ndarray, "height width"]) -> Size:
    """Return the size class of a lesion: below 1 %, up to 5 %, or more of the picture."""
    share = float(mask.mean())
    if share < SMALL:
        return "small"
    return "medium" if share <= LARGE else "large"


def pointing_score(values: Map, covered: Map) -> float:
    """Return the share of the highest patches that touch the mask: 1 or 0 without ties.

    Source: zhang2018excitation, section 4.1.

    Differs: without a tolerance in pixels: a patch is the finest place a map knows.
    """
    highest = values == values.max()
    return float((covered[highest] > 0).mean())


def relevance_mass_score(values: Map, covered: Map) -> float:
    """Return the share of the positive relevance inside the mask; NaN where none is positive.

    Source: arras2022clevr, equation 1.
    """
    positive = values.clip(min=0)
    total = float(positive.sum())
    return float((positive * covered).sum()) / total if total > 0 else float("nan")


def outside_error(values: Map, covered: Map) -> float:
    """Return the share of the positive relevance outside the mask or organ: the shortcut alarm."""
    return 1.0 - relevance_mass_score(values, covered)


def rank_accuracy_score(values: Map, covered: Map) -> float:
    """Return the share of the K highest patches that are the mask's K patches.

    Ties at the K-th place share what is left.

    Source: arras2022clevr, equation 2.
    """
    inside = mask_patches(covered)
    return _shared(values, inside, count=int(inside.sum())) / float(inside.sum())


def top_iou_score(values: Map, covered: Map, *, top: float | None = None) -> float:
    """Return the intersection over union of the highest patches and the mask's patches.

    Args:
        values: The map.
        covered: See :func:`coverage`.
        top: Share of the patches that counts as highest; by default as many as the mask has.
    """
    inside = mask_patches(covered)
    count = int(inside.sum()) if top is None else max(1, round(top * values.size))
    both = _shared(values, inside, count=count)
    return both / (count + float(inside.sum()) - both)


def mask_patches(covered: Map) -> Bool[np.ndarray, "row column"]:
    """Return the patches of a mask: covered by half or more, or else the most covered."""
    inside: np.ndarray = covered >= min(_COVERED, float(covered.max()))
    return inside


def _shared(values: Map, inside: Bool[np.ndarray, "row column"], *, count: int) -> float:
    """Return how many of the ``count`` highest patches are inside, ties shared evenly."""
    edge = np.sort(values, axis=None)[-count]
    above, tied = values > edge, values == edge
    share = (count - above.sum()) / tied.sum()
    return float((above & inside).sum() + share * (tied & inside).sum())
