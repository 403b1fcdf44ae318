"""Does the map stay when the picture hardly changes?

Pictures are shifted by a patch, mirrored, and given faint noise; each map is carried back to where
it came from before it is compared. Explanations may change only as the model's answer does: the
target stays the same class throughout.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.faithfulness.contrast import Explain, rank_correlation

Images = Float[Tensor, "case channel height width"]
Maps = Float[np.ndarray, "case row column"]

NOISE = 0.05
"""Standard deviation of the noise, relative to the pictures' own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Stability:
    """How alike a method's maps stay.

    Attributes:
        stability_score: Mean rank correlation with the maps carried back, in [-1, 1].
        max_sensitivity_error: Largest relative change ‖changed - original‖ / ‖original‖.
    """

    stability_score: Float[np.ndarray, " case"]
    max_sensitivity_error: Float[np.ndarray, " case"]


def stability(
    model: nn.Module,
    images: Images,
    *,
    method: Explain,
    targets: Int[np.ndarray, " case"],
    original: Maps | None = None,
    seed: int = 0,
) -> Stability:
    """Measure how a method's maps answer to shifts, a flip, and noise.

    Args:
        model: In eval mode.
        images: Pictures.
        method: The explainer.
        targets: Class of each picture.
        original: The pictures' maps, where they are known already.
        seed: Of the noise; a picture's noise depends on this and its place alone.

    Source: yeh2019infidelity, definition 3 (max-sensitivity).

    Differs: the paper samples a ball of noise; here shifts and a flip, which a picture undergoes in
        practice, stand beside one draw of noise. Changes are relative to the map's own norm.
    """
    if original is None:
        original = method(model, images, targets=targets)
    grid = (original.shape[1], original.shape[2])
    alike, changes = [], []
    for changed, back in _changes(images, grid, seed=seed):
        before, after = back(method(model, changed, targets=targets), original)
        alike.append(rank_correlation(before, after))
        norms = [np.linalg.norm(part.reshape(len(part), -1), axis=1) for part in (before, after)]
        moved = np.linalg.norm((after - before).reshape(len(after), -1), axis=1)
        changes.append(moved / np.where(norms[0] > 0, norms[0], np.nan))
    return Stability(
        stability_score=np.mean(alike, axis=0), max_sensitivity_error=np.max(changes, axis=0)
    )


Back = Callable[[Maps, Maps], tuple[Maps, Maps]]
"""(map of the changed picture, original map) → (original, changed), over the patches both show."""


def _changes(images: Images, grid: tuple[int, int], *, seed: int) -> Iterator[tuple[Images, Back]]:
    """Yield changed pictures, each with the way back."""
    rows, columns = (side // cells for side, cells in zip(images.shape[2:], grid, strict=True))
    yield _shifted(images, rows, axis=2), lambda new, old: (old[:, :-1], new[:, 1:])
    yield _shifted(images, columns, axis=3), lambda new, old: (old[:, :, :-1], new[:, :, 1:])
    yield images.flip(3), lambda new, old: (old, new[:, :, ::-1])
    noise = torch.stack(
        [_noise(image, seed=seed * 1_000_003 + i) for i, image in enumerate(images)]
    )
    yield images + noise, lambda new, old: (old, new)


def _shifted(images: Images, by: int, *, axis: int) -> Images:
    """Move pictures down or right; what comes in repeats the border."""
    border = images.narrow(axis, 0, 1).expand(
        *(by if place == axis else side for place, side in enumerate(images.shape))
    )
    return torch.cat([border, images.narrow(axis, 0, images.shape[axis] - by)], dim=axis)


def _noise(
    image: Float[Tensor, "channel height width"], seed: int
) -> Float[Tensor, "channel height width"]:
    """Draw faint noise for one picture."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=generator).to(image)
    scaled: Tensor = noise * (image.std() * NOISE)
    return scaled
