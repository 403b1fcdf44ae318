"""Maps that know nothing of the model: what every explanation has to beat.

``random`` a number a patch · ``blurred_random`` the same, smoothed: looks like an explanation ·
``center`` a Gaussian in the middle, where photographers put things · ``edges`` the picture's own
contrast, which passes for insight in many published figures.
"""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, sobel
from torch import Tensor

CONTROLS = ("random", "blurred_random", "center", "edges")

Maps = Float[np.ndarray, "case row column"]

_BLUR, _CENTER = 1 / 10, 1 / 4


def control_maps(
    images: Float[Tensor, "case channel height width"],
    grid_size: tuple[int, int],
    *,
    seed: int = 0,
) -> dict[str, Maps]:
    """Draw the four control maps of each picture.

    A picture's random map depends on ``seed`` and on its place alone.

    Args:
        images: The pictures; only ``edges`` looks at them.
        grid_size: Rows and columns of the maps.
        seed: Of the random maps.
    """
    noise = np.stack(
        [np.random.default_rng((seed, case)).random(grid_size) for case in range(len(images))]
    )
    sigma = tuple(max(1.0, side * _BLUR) for side in grid_size)
    smooth = np.stack([gaussian_filter(one, sigma, mode="reflect") for one in noise])
    return {
        "random": noise,
        "blurred_random": smooth,
        "center": np.broadcast_to(_center(grid_size), noise.shape).copy(),
        "edges": np.stack([_edges(image.mean(axis=0), grid_size) for image in _numpy(images)]),
    }


def _numpy(images: Tensor) -> Float[np.ndarray, "case channel height width"]:
    """Return pictures as an array."""
    found: np.ndarray = images.detach().cpu().double().numpy()
    return found


def _center(grid_size: tuple[int, int]) -> Float[np.ndarray, "row column"]:
    """Return a Gaussian whose deviation is a quarter of each side."""
    down, right = (
        np.exp(-(((np.arange(side) - (side - 1) / 2) / (side * _CENTER)) ** 2) / 2)
        for side in grid_size
    )
    found: np.ndarray = np.outer(down, right)
    return found


def _edges(
    picture: Float[np.ndarray, "height width"], grid_size: tuple[int, int]
) -> Float[np.ndarray, "row column"]:
    """Return the mean strength of the Sobel gradient in each patch."""
    strength = np.hypot(sobel(picture, axis=0), sobel(picture, axis=1))
    rows, columns = (side // cells for side, cells in zip(picture.shape, grid_size, strict=True))
    inner = strength[: grid_size[0] * rows, : grid_size[1] * columns]
    found: np.ndarray = inner.reshape(grid_size[0], rows, grid_size[1], columns).mean(axis=(1, 3))
    return found
