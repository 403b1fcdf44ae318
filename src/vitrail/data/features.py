"""Trivial features of a picture: what a model could go by without seeing any disease.

Each family is a handful of numbers from the file, its header or its grey values, never from the
shape of what is shown. `vitrail.data.shortcuts` tries how far each family tells the classes apart.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vitrail.data.raster import RasterInfo

FAMILIES = {
    "intensity": "the overall brightness and contrast",
    "color": "the mean color",
    "histogram": "the histogram of grey values",
    "size": "the picture's width, height and aspect",
    "file_bytes": "the size of the file",
    "file_kind": "the file's format and pixel mode",
    "jpeg_quality": "the JPEG quality",
    "border": "the picture's border and corners",
    "manufacturer": "the scanner's manufacturer and model",
    "kvp": "the tube voltage (kVp)",
    "kernel": "the reconstruction kernel",
    "date": "the date of the scan",
}
"""What each family of features looks at, in words."""

HEADER_FAMILIES = ("manufacturer", "kvp", "kernel", "date")
"""The families that come from DICOM headers."""

_BINS = 16
_MOST_VALUES = 12


def features(
    info: RasterInfo,
    grey: Float[np.ndarray, "height width"],
    *,
    color: Float[np.ndarray, " channel"],
) -> dict[str, list[float]]:
    """Measure one picture.

    Args:
        info: Its header.
        grey: Mean of its channels, in [0, 1].
        color: Mean of each channel, in [0, 1].

    Returns:
        Numbers of each family but those of DICOM headers.
    """
    ring = max(1, round(0.04 * min(grey.shape)))
    corner = max(1, round(0.1 * min(grey.shape)))
    edges = [grey[:ring], grey[-ring:], grey[:, :ring], grey[:, -ring:]]
    corners = [grey[:corner, :corner], grey[:corner, -corner:]]
    corners += [grey[-corner:, :corner], grey[-corner:, -corner:]]
    level = (grey * _BINS).astype(np.uint8).clip(max=_BINS - 1)
    counts = np.bincount(level.ravel(), minlength=_BINS)
    height, width = info.height, info.width
    kinds = [info.format == name for name in ("PNG", "JPEG", "TIFF", "BMP")]
    modes = [info.mode == name for name in ("L", "RGB", "RGBA", "P", "LA", "1")]
    return {
        "intensity": [float(grey.mean()), float(grey.std())],
        "color": [float(value) for value in color],
        "histogram": [float(value) for value in counts / grey.size],
        "size": [np.log(height), np.log(width), np.log(width / height)],
        "file_bytes": [np.log(info.file_bytes), np.log(info.file_bytes / (height * width))],
        "file_kind": [float(value) for value in (*kinds, *modes)],
        "jpeg_quality": [np.log1p(value) for value in info.jpeg_tables],
        "border": [
            float(statistic)
            for part in (*edges, *corners)
            for statistic in (part.mean(), part.std())
        ],
    }


def encode_headers(headers: Sequence[Mapping[str, str | float]]) -> list[dict[str, list[float]]]:
    """Turn header fields into numbers: words become one column a value, missing is a column too.

    Args:
        headers: From `vitrail.data.header.header_features`, one a case; empty where there is none.

    Returns:
        Numbers of each of ``HEADER_FAMILIES``, one dictionary a case.
    """
    encoded: list[dict[str, list[float]]] = [{} for _ in headers]
    for family in HEADER_FAMILIES:
        came = [header.get(family, "") for header in headers]
        words = sorted({value for value in came if isinstance(value, str) and value})
        numbers = [value for value in came if isinstance(value, float)]
        usual = float(np.median(numbers)) if numbers else 0.0
        for row, value in zip(encoded, came, strict=True):
            row[family] = [
                float(value == ""),
                value if isinstance(value, float) else usual,
                *(float(value == word) for word in words[:_MOST_VALUES]),
            ]
    return encoded
