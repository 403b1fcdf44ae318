"""Pictures and maps as the page shows them: small, inlined, and lying on the right pixels.

A map lives on the patch grid of the model's *input*. The picture may have been squashed or padded
into that input, so a map is first cut to where the picture lies
(:meth:`vitrail.records.Preprocessing.source_box`) and then stretched to the picture.
"""

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from vitrail.color import Scale, colorize
from vitrail.records import Preprocessing

LONGEST_PX = 320
"""Longest side of a picture on the page."""

OVERLAY_PX = 96
"""Longest side of an overlay on the page; a map is coarser than that and the browser stretches."""

Resampling = Literal["bilinear", "patches"]


def data_uri(picture: Image.Image, *, lossless: bool) -> str:
    """Encode a picture for an ``src`` attribute: PNG if lossless, else JPEG at quality 88."""
    stream = BytesIO()
    if lossless:
        picture.save(stream, format="PNG", optimize=True)
    else:
        picture.save(stream, format="JPEG", quality=88)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{b64encode(stream.getvalue()).decode()}"


def read_picture(path: Path, *, longest: int = LONGEST_PX) -> Image.Image:
    """Read a picture of the run folder, grey or color, at most ``longest`` px on a side."""
    with Image.open(path) as stored:
        picture = stored.convert("L" if stored.mode in {"1", "L", "LA"} else "RGB")
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return picture


def register(
    values: Float[np.ndarray, "row column"],
    *,
    preprocessing: Preprocessing,
    source_size: tuple[int, int],
    shown_size: tuple[int, int],
    resampling: Resampling = "bilinear",
) -> Float[np.ndarray, "height width"]:
    """Lay a map over its own picture.

    Args:
        values: The map on the patch grid of the model's input.
        preprocessing: How the picture became the input.
        source_size: (height, width) of the picture file in px.
        shown_size: (height, width) to return, of the same proportions as the source.
        resampling: ``patches`` repeats each patch's value; ``bilinear`` interpolates between the
            centers of the patches and is constant beyond the outermost ones.

    Returns:
        One value a pixel of the shown picture.
    """
    top, left, bottom, right = preprocessing.source_box(*source_size)
    input_rows, input_columns = preprocessing.image_size
    rows = _positions(shown_size[0], (top, bottom), input_px=input_rows, cells=values.shape[0])
    columns = _positions(
        shown_size[1], (left, right), input_px=input_columns, cells=values.shape[1]
    )
    if resampling == "patches":
        near_rows = np.clip(rows.astype(int), 0, values.shape[0] - 1)
        near_columns = np.clip(columns.astype(int), 0, values.shape[1] - 1)
        return np.asarray(values, dtype=np.float64)[np.ix_(near_rows, near_columns)]
    down, across = _weights(rows, values.shape[0]), _weights(columns, values.shape[1])
    return np.asarray(down @ np.asarray(values, dtype=np.float64) @ across.T)


def _positions(
    count: int, ends: tuple[int, int], *, input_px: int, cells: int
) -> Float[np.ndarray, " pixel"]:
    """Place the centers of shown pixels on the grid's axis: cell k covers [k, k + 1)."""
    fractions = (np.arange(count) + 0.5) / count
    return (ends[0] + fractions * (ends[1] - ends[0])) * cells / input_px


def _weights(positions: Float[np.ndarray, " pixel"], cells: int) -> Float[np.ndarray, "pixel cell"]:
    """Return each pixel's linear weights on the centers of the two cells around it."""
    centers = np.clip(positions - 0.5, 0, cells - 1)
    distances = np.abs(centers[:, None] - np.arange(cells)[None, :])
    return np.asarray(np.maximum(1 - distances, 0))


def fractions_of(
    values: Float[np.ndarray, "row column"], *, largest: float, signed: bool
) -> Float[np.ndarray, "row column"]:
    """Turn map values into places on a color scale.

    Args:
        values: Raw values.
        largest: Value at the top of the scale; the bottom is 0, or minus it where signed.
        signed: Whether values below zero mean something.
    """
    scaled = np.asarray(values, dtype=np.float64) / (largest if largest > 0 else 1.0)
    return np.asarray(np.clip(scaled / 2 + 0.5 if signed else scaled, 0.0, 1.0))


def paint(fractions: Float[np.ndarray, "height width"], scale: Scale) -> Image.Image:
    """Color a map in 256 steps of a color scale, as a small palette picture."""
    steps = np.rint(np.clip(fractions, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(steps).convert("P")
    picture.putpalette(palette(scale).tobytes())
    return picture


def palette(scale: Scale) -> UInt8[np.ndarray, "256 3"]:
    """Return 256 colors of a scale, from its low to its high end."""
    return np.asarray(colorize(np.linspace(0.0, 1.0, 256)[None, :], scale)[0])


def color_bar(scale: Scale) -> str:
    """Draw a color scale from left to right, as a data URI."""
    return data_uri(
        paint(np.linspace(0.0, 1.0, 256)[None, :].repeat(2, axis=0), scale), lossless=True
    )


def outline(path: Path) -> Image.Image:
    """Draw the border of a mask: white with a dark rim, everything else transparent."""
    with Image.open(path) as stored:
        mask = stored.convert("L")
    mask.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.NEAREST)
    inside = np.asarray(mask) > 0
    thick = _grown(inside)
    drawing = np.zeros((*inside.shape, 4), dtype=np.uint8)
    drawing[_grown(thick) & ~thick] = (16, 20, 30, 210)
    drawing[thick & ~inside] = (255, 255, 255, 255)
    return Image.fromarray(drawing)


def _grown(inside: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Add every pixel that touches the inside with a side or a corner."""
    padded = np.pad(inside, 1)
    height, width = inside.shape
    shifts = [
        padded[row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    return np.asarray(np.logical_or.reduce(shifts))


def wall(
    attention: Float[np.ndarray, "layer head row column"], *, largest: float, cell_px: int = 4
) -> Image.Image:
    """Tile the maps of all layers (downward) and heads (rightward), each patch a few px wide."""
    layers, heads, rows, columns = attention.shape
    gap = 6
    height = layers * (rows * cell_px + gap) - gap
    width = heads * (columns * cell_px + gap) - gap
    colors = palette("sequential")
    drawing = np.zeros((height, width, 4), dtype=np.uint8)
    for layer in range(layers):
        for head in range(heads):
            steps = np.rint(
                fractions_of(attention[layer, head], largest=largest, signed=False) * 255
            ).astype(np.uint8)
            tile = colors[steps].repeat(cell_px, axis=0).repeat(cell_px, axis=1)
            top, left = layer * (rows * cell_px + gap), head * (columns * cell_px + gap)
            drawing[top : top + tile.shape[0], left : left + tile.shape[1], :3] = tile
            drawing[top : top + tile.shape[0], left : left + tile.shape[1], 3] = 255
    return Image.fromarray(drawing)
