"""What a map's value looks like: two color scales that color-blind readers can read.

``explain`` (overlays), ``report`` (figures) and the viewer take their colors from here, so that a
value has one color everywhere. Both scales are interpolated linearly between anchors; lightness
of the sequential one rises from end to end, of the diverging one it peaks in the middle.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

Scale = Literal["sequential", "diverging"]

ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    # Dark blue to yellow: lightness rises evenly, no hue carries meaning alone.
    "sequential": (
        (0, 32, 81),
        (18, 53, 112),
        (59, 73, 107),
        (92, 93, 109),
        (120, 114, 119),
        (149, 136, 119),
        (180, 160, 109),
        (214, 186, 87),
        (253, 231, 55),
    ),
    # Blue (negative) over near-white (zero) to orange (positive).
    "diverging": (
        (33, 74, 153),
        (76, 130, 196),
        (150, 188, 222),
        (244, 244, 240),
        (244, 190, 132),
        (222, 130, 50),
        (163, 78, 6),
    ),
}
"""Anchor colors (red, green, blue; 0 to 255), evenly spaced over [0, 1]."""


def colorize(
    values: Float[np.ndarray, "row column"], scale: Scale = "sequential"
) -> UInt8[np.ndarray, "row column 3"]:
    """Color a map whose values already lie in [0, 1]; what lies outside is clipped.

    Args:
        values: Fractions of the scale. For ``diverging``, 0.5 is the neutral middle.
        scale: Which color scale.

    Returns:
        Red, green, blue of each cell.

    Example:
        >>> import numpy as np
        >>> colorize(np.array([[0.0, 1.0]])).tolist()
        [[[0, 32, 81], [253, 231, 55]]]
    """
    anchors = np.asarray(ANCHORS[scale], dtype=np.float64)
    positions = np.linspace(0.0, 1.0, len(anchors))
    fractions = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)
    channels = [np.interp(fractions, positions, anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
