"""What pixels are like, measured on training pictures alone: nothing of what is held out.

Of many pictures a thousand are measured, spread evenly over the list.
"""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from vitrail.data.loader import PictureDataset
from vitrail.data.raster import read_stored
from vitrail.records import Case, Progress, no_progress

MOST = 1000
SMALLEST_STD = 0.01
_TAIL = 0.5
_STAGE = "measuring training pictures"


def intensity_range(
    cases: Sequence[Case], root: Path, *, progress: Progress = no_progress
) -> tuple[float, float] | None:
    """Find the stored values that become black and white in pictures of more than 8 bits.

    Args:
        cases: Training cases.
        root: Folder that their paths are relative to.
        progress: Told after each picture.

    Returns:
        The smallest of the pictures' 0.5th percentiles and the largest of their 99.5th; None where
        all have 8 bits.
    """
    lows, highs = [], []
    measured = _spread(range(len(cases)))
    for done, index in enumerate(measured, start=1):
        stored = read_stored(root / cases[index].path)
        if stored.dtype != np.uint8:
            low, high = np.percentile(stored[:, ::4, ::4], [_TAIL, 100 - _TAIL])
            lows.append(float(low))
            highs.append(float(high))
        progress(_STAGE, done=done, total=len(measured))
    return (min(lows), max(*highs, min(lows) + 1)) if lows else None


def mean_and_std(
    pictures: PictureDataset, *, progress: Progress = no_progress
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure each channel as the model sees it: resized, padded, before normalization.

    Args:
        pictures: The training pictures; they are cached as for training.
        progress: Told after each picture.

    Returns:
        Mean and standard deviation of each channel over the pixels of all pictures.
    """
    measured = _spread(range(len(pictures)))
    moments = []
    for done, index in enumerate(measured, start=1):
        moments.append(_moments(pictures.pixels(index)))
        progress(_STAGE, done=done, total=len(measured))
    mean, square = np.mean(moments, axis=0)
    std = np.sqrt(np.maximum(square - mean**2, SMALLEST_STD**2))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def _moments(
    pixels: UInt8[np.ndarray, "channel row column"],
) -> Float[np.ndarray, "moment channel"]:
    """Return the mean of each channel in [0, 1], and of its square."""
    values = pixels.reshape(len(pixels), -1) / 255
    return np.stack([values.mean(axis=1), np.square(values).mean(axis=1)])


def _spread(places: range) -> range:
    """Take at most `MOST` places, evenly."""
    return places[:: ceil(len(places) / MOST)]
