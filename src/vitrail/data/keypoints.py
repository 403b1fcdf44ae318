"""What stays the same when a picture is turned, mirrored, zoomed or cropped: its keypoints.

A *keypoint* is a blob: an extremum of the difference of Gaussians over place and scale. It is
described on rings around it, whose radii grow with its scale. Turning the picture shifts the
samples along every ring, and mirroring reverses them; so the magnitude of a ring's Fourier
coefficients stays, and so does the real part of the product of neighboring rings' coefficients.
No direction has to be estimated, and a mirrored copy needs no second search.

Source: lowe2004 (sections 3 and 4: blobs over scales). Differs: described by ring spectra instead
of histograms of gradients, which know no mirrored copy.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex64, Float, Float32, Int, Int8
from PIL import Image

SIDE_PX = 112
"""Pictures are shrunk or enlarged to about this squared number of pixels, aspect kept."""

MOST = 40
"""Keypoints kept of one picture, the strongest."""

_SCALES = 9
_SCALES_AN_OCTAVE = 2.5
_FINEST_PX = 1.3
_RINGS = np.arange(1.0, 7.0)
_ANGLES = np.arange(16) * (2 * np.pi / 16)
_FREQUENCIES = 5
_EDGE = 3
_STEPS = 40.0
"""Quantization of the descriptor: its numbers are about -2 to 2, and kept as int8."""


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The keypoints of one picture.

    Attributes:
        place: Column + i row, in px of the small picture.
        log_scale: Natural logarithm of the blob's radius in px.
        descriptor: Same for a turned, mirrored or zoomed copy, up to sampling.
    """

    place: Complex64[np.ndarray, " point"]
    log_scale: Float32[np.ndarray, " point"]
    descriptor: Int8[np.ndarray, "point number"]


def small_picture(grey: Float[np.ndarray, "height width"]) -> Float32[np.ndarray, "row column"]:
    """Resize a picture with values in [0, 1] to about ``SIDE_PX`` squared pixels, aspect kept.

    Very long pictures are squashed to an aspect of 4.
    """
    height, width = grey.shape
    zoom = SIDE_PX / np.sqrt(height * width)
    size = [int(np.clip(round(zoom * side), SIDE_PX // 2, SIDE_PX * 2)) for side in (width, height)]
    picture = Image.fromarray(grey.astype(np.float32, copy=False))
    small = picture.resize((size[0], size[1]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


@lru_cache(maxsize=64)
def _blurring(length: int) -> Float32[np.ndarray, "scale place place"]:
    """Return the matrices that blur a line of pixels at every scale; rows sum to one."""
    sigma = _FINEST_PX * 2 ** (np.arange(_SCALES) / _SCALES_AN_OCTAVE)
    apart = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-0.5 * (apart / sigma[:, None, None]) ** 2)
    matrices: Float32[np.ndarray, "scale place place"] = (
        weights / weights.sum(axis=2, keepdims=True)
    ).astype(np.float32)
    return matrices


def find_keypoints(small: Float32[np.ndarray, "row column"]) -> Keypoints:
    """Find and describe the strongest keypoints of a small picture.

    Args:
        small: From `small_picture`.

    Returns:
        At most ``MOST``; none where the picture is flat.
    """
    height, width = small.shape
    blurred = _blurring(height) @ small @ _blurring(width).swapaxes(1, 2)
    strength = np.abs(np.diff(blurred, axis=0))
    scale, row, column = _extrema(strength)
    below, at, above = (strength[scale + step, row, column] for step in (-1, 0, 1))
    # The extremum of the parabola through three scales.
    offset = np.clip(0.5 * (below - above) / (below - 2 * at + above - 1e-12), -0.5, 0.5)
    radius = _FINEST_PX * 2 ** ((scale + 0.5 + offset) / _SCALES_AN_OCTAVE)
    return Keypoints(
        place=(column + 1j * row).astype(np.complex64),
        log_scale=np.log(radius).astype(np.float32),
        descriptor=_describe(blurred, (scale, row, column), radius),
    )


def _extrema(
    strength: Float32[np.ndarray, "scale row column"],
) -> tuple[Int[np.ndarray, " point"], Int[np.ndarray, " point"], Int[np.ndarray, " point"]]:
    """Locate the strongest places that exceed their 26 neighbors: (scale, row, column)."""
    largest = strength
    for axis in range(3):
        line = np.moveaxis(largest, axis, 0)
        line = np.maximum(np.maximum(line[:-2], line[1:-1]), line[2:])
        largest = np.moveaxis(line, 0, axis)
    inner = strength[1:-1, 1:-1, 1:-1]
    is_peak = (inner == largest) & (inner > 1e-4)
    margin = _EDGE - 1
    is_peak[:, :margin], is_peak[:, -margin:] = False, False
    is_peak[:, :, :margin], is_peak[:, :, -margin:] = False, False
    places = np.argwhere(is_peak) + 1
    order = np.argsort(-strength[tuple(places.T)], kind="stable")[:MOST]
    scale, row, column = places[order].T
    return scale, row, column


def _describe(
    blurred: Float32[np.ndarray, "scale row column"],
    where: tuple[Int[np.ndarray, " point"], Int[np.ndarray, " point"], Int[np.ndarray, " point"]],
    radius: Float[np.ndarray, " point"],
) -> Int8[np.ndarray, "point number"]:
    """Sample rings around each keypoint, and keep what no turn and no mirror changes."""
    scale, row, column = where
    reach = radius[:, None, None] * _RINGS[:, None]
    samples = _sample(
        blurred,
        scale[:, None, None],
        row=row[:, None, None] + reach * np.sin(_ANGLES),
        column=column[:, None, None] + reach * np.cos(_ANGLES),
    )
    samples -= samples.mean(axis=(1, 2), keepdims=True)
    samples /= samples.std(axis=(1, 2), keepdims=True) + 1e-6
    spectrum = np.fft.rfft(samples, axis=2) / len(_ANGLES)
    waves = spectrum[:, :, 1 : _FREQUENCIES + 1]
    between = (waves[:, :-1] * waves[:, 1:].conj()).real
    parts = [
        spectrum[:, :, 0].real,
        1.4 * np.abs(waves),
        1.4 * np.sign(between) * np.sqrt(np.abs(between)),
    ]
    # Not -1: it cannot be told where there is no keypoint.
    flat = [part.reshape(len(row), int(np.prod(part.shape[1:]))) for part in parts]
    numbers = np.concatenate(flat, axis=1)
    steps: Int8[np.ndarray, "point number"] = np.rint((numbers * _STEPS).clip(-127, 127)).astype(
        np.int8
    )
    return steps


def _sample(
    blurred: Float32[np.ndarray, "scale row column"],
    scale: Int[np.ndarray, "point 1 1"],
    *,
    row: Float[np.ndarray, "point ring angle"],
    column: Float[np.ndarray, "point ring angle"],
) -> Float[np.ndarray, "point ring angle"]:
    """Interpolate between pixels; outside, the outermost pixels go on."""
    row = row.clip(0, blurred.shape[1] - 1.001)
    column = column.clip(0, blurred.shape[2] - 1.001)
    top, left = row.astype(int), column.astype(int)
    down, right = row - top, column - left
    upper = blurred[scale, top, left] * (1 - right) + blurred[scale, top, left + 1] * right
    lower = blurred[scale, top + 1, left] * (1 - right) + blurred[scale, top + 1, left + 1] * right
    samples: Float[np.ndarray, "point ring angle"] = upper * (1 - down) + lower * down
    return samples
