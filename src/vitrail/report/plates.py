"""Figures for papers and slides: pictures, patches, attention and maps, drawn with matplotlib.

The report draws its own figures (they follow the page's colors); these leave the house as PNG, SVG
or PDF. A function takes arrays and returns a matplotlib ``Figure``, which :func:`still` writes;
what is animated is a list of pictures. A map has the colors that it has everywhere
(:mod:`vitrail.color`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vitrail.color import Scale, colorize
from vitrail.errors import InputError
from vitrail.report.pictures import fractions_of, palette, wall

Picture = UInt8[np.ndarray, "height width 3"]
"""A picture as it is shown, red, green and blue."""

Plate = Figure
"""A figure that is drawn but not written yet."""

STILL = ("png", "svg", "pdf")
MOVING = ("gif", "webp", "apng")

_OPACITY = 0.5
_WRONG, _INK, _QUIET = "#c1272d", "#1b1f27", "#8b93a1"
_DPI, _LETTERS = 160, 26
_FRAME_MS = 700
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "svg.hashsalt": "vitrail",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A map, with what it takes to color it.

    Attributes:
        values: On the patch grid.
        largest: Value at the top of the color scale.
        signed: Whether values below zero mean something.
        title: What stands above it.
    """

    values: Float[np.ndarray, "row column"]
    largest: float
    signed: bool = False
    title: str = ""

    @property
    def scale(self) -> Scale:
        """The colors that it is shown in."""
        return "diverging" if self.signed else "sequential"


def overlay(picture: Picture, heat: Heat) -> Picture:
    """Lay a map over its picture, stretched from patches to pixels."""
    fractions = fractions_of(heat.values, largest=heat.largest, signed=heat.signed)
    height, width = picture.shape[:2]
    stretched = Image.fromarray(fractions.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    painted = colorize(np.asarray(stretched, dtype=np.float64), heat.scale)
    return np.rint((1 - _OPACITY) * picture + _OPACITY * painted).astype(np.uint8)


def grid_of(
    cells: Sequence[tuple[np.ndarray, str]], *, columns: int, side: float = 1.9, title: str = ""
) -> Figure:
    """Lay pictures out row by row, each under its own words.

    Args:
        cells: (picture, words) pairs; words that begin with ``✗`` get a red frame.
        columns: Pictures a row.
        side: Of a picture, in inches.
        title: Over all.
    """
    rows = -(-len(cells) // columns)
    figure = sheet(columns * side, rows * (side + 0.32) + 0.4 * bool(title), title=title)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (picture, words) in zip(places, cells, strict=False):
        show(place, picture, title=fill(words, _LETTERS))
        if words.startswith("✗"):
            place.title.set_color(_WRONG)
            _frame(place)
    for place in places[len(cells) :]:
        place.set_axis_off()
    return figure


def panels(
    picture: Picture, heat: Heat, *, probabilities: Sequence[tuple[str, float]], asked: str
) -> Figure:
    """Draw the three panels (picture, overlay, map) and what the model said.

    Args:
        picture: The model's input.
        heat: The map of the class that was asked for.
        probabilities: The likeliest classes, from the top down.
        asked: Name of the class that the map explains; empty where a map tells no classes apart.
    """
    figure = sheet(9.6, 2.9)
    places = figure.subplots(1, 4, width_ratios=(1, 1, 1.12, 0.85))
    show(places[0], picture, title="the model's input")
    show(places[1], overlay(picture, heat), title=asked and f"what speaks for {asked}")
    show(places[2], colors(heat), title=heat.title)
    _bar(figure, places[2], heat)
    names = [name for name, _ in probabilities][::-1]
    values = [value for _, value in probabilities][::-1]
    marked = [_WRONG if name == asked else _QUIET for name in names]
    places[3].barh(names, values, color=marked)
    places[3].set_xlim(0, 1)
    places[3].set_title("probability")
    for height, value in enumerate(values):
        inside = value > 0.6
        places[3].annotate(
            f"{value:.3f}",
            (value, height),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else _INK,
        )
    return figure


def steps(
    cells: Sequence[tuple[np.ndarray, str]], *, answers: Mapping[str, Sequence[float]], title: str
) -> Figure:
    """Draw the way from a picture to the answer, the answer last.

    Args:
        cells: (picture, words) pairs.
        answers: Probability of each class after every layer; a single number is the end's.
        title: Over all.
    """
    columns = 4
    rows = -(-(len(cells) + 1) // columns)
    figure = sheet(columns * 2.4, rows * 2.6 + 0.4, title=title)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (picture, words) in zip(places, cells, strict=False):
        show(place, picture, title=words)
    last = places[len(cells)]
    for name, values in answers.items():
        last.plot(range(1, len(values) + 1), values, "o-", markersize=3, label=name)
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    last.set(title="head: what it answers", xlabel="if it stopped after layer", ylim=(0, 1))
    last.legend(frameon=False, fontsize=7)
    for place in places[len(cells) + 1 :]:
        place.set_axis_off()
    return figure


def with_depth(pictures: Sequence[Picture]) -> list[UInt8[np.ndarray, "taller width 3"]]:
    """Add a bar under each picture of a row that tells how far along it is."""
    framed = []
    for number, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        bar = np.full((max(4, height // 40), width, 3), 225, dtype=np.uint8)
        bar[:, : round(width * number / max(len(pictures) - 1, 1))] = (31, 78, 156)
        framed.append(np.concatenate([picture, bar]))
    return framed


def tiles(
    maps: Float[np.ndarray, "line place row column"], *, words: tuple[str, str], title: str
) -> Figure:
    """Tile small maps on one color scale: layers and heads, or places of the patch grid.

    Args:
        maps: The maps.
        words: What a line is, and what a place in it is.
        title: Over all.
    """
    lines, places = maps.shape[:2]
    largest = float(np.percentile(maps, 99.5))
    cell = max(2, round(64 / maps.shape[-1]))
    drawing = wall(np.asarray(maps, dtype=np.float64), largest=largest, cell_px=cell)
    width = min(9.6, max(3.0, 0.8 * places + 1.4))
    figure = sheet(width, width * drawing.height / drawing.width * 0.84 + 0.8, title=title)
    axes = figure.subplots()
    axes.imshow(np.asarray(drawing), interpolation="nearest")
    axes.set_xticks(*_middles(drawing.width, places))
    axes.set_yticks(*_middles(drawing.height, lines))
    axes.tick_params(length=0)
    axes.set_ylabel(words[0])
    axes.set_xlabel(words[1])
    for spine in axes.spines.values():
        spine.set_visible(False)
    _bar(figure, axes, Heat(values=maps[0, 0], largest=largest))
    return figure


def _middles(length: int, count: int) -> tuple[list[float], list[str]]:
    """Place labels at the middle of evenly spaced cells, every other one where they are many."""
    step = 1 + count // 15
    shown = range(0, count, step)
    return [(place + 0.5) * length / count for place in shown], [str(place + 1) for place in shown]


def sheet(width: float, height: float, *, title: str = "") -> Figure:
    """Open an empty figure of some inches."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def show(place: Any, picture: np.ndarray, *, title: str = "") -> None:
    """Show a picture without axes, its pixels as they are."""
    place.imshow(picture, interpolation="nearest")
    place.set_axis_off()
    place.set_title(title)


def _frame(place: Any) -> None:
    """Frame a picture in red: the model was wrong."""
    place.set_axis_on()
    place.set(xticks=[], yticks=[])
    for spine in place.spines.values():
        spine.set(visible=True, color=_WRONG, linewidth=2.5)


def colors(heat: Heat) -> Picture:
    """Color a map, a cell a patch."""
    return colorize(fractions_of(heat.values, largest=heat.largest, signed=heat.signed), heat.scale)


def _bar(figure: Figure, place: Any, heat: Heat) -> None:
    """Draw the color scale beside a map."""
    ends = (-heat.largest if heat.signed else 0.0, heat.largest or 1.0)
    scale = ListedColormap(palette(heat.scale) / 255)
    bar = figure.colorbar(ScalarMappable(Normalize(*ends), scale), ax=place, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)


def still(draw: Callable[[], Figure], kind: str) -> bytes:
    """Draw a figure and write it; the same numbers give the same bytes.

    Args:
        draw: Makes the figure.
        kind: One of ``STILL``.

    Raises:
        InputError: If that is no kind of picture.
    """
    if kind not in STILL:
        rule = f"this figure is written as {', '.join(STILL)}"
        raise InputError("--out", f".{kind}", rule, "name a file with such an ending")
    about = {"png": {"Software": "vitrail"}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    stream = BytesIO()
    with rc_context(_STYLE):
        draw().savefig(stream, format=kind, metadata=about[kind])
    return stream.getvalue()


def moving(pictures: Sequence[Picture], kind: str) -> bytes:
    """Write pictures as an animation that never ends.

    Raises:
        InputError: If that is no kind of animation.
    """
    if kind not in MOVING:
        rule = f"an animation is written as {', '.join(MOVING)}"
        raise InputError("--out", f".{kind}", rule, "name a file with such an ending")
    first, *rest = (Image.fromarray(picture) for picture in pictures)
    times = [_FRAME_MS] * (len(pictures) - 1) + [3 * _FRAME_MS]
    stream = BytesIO()
    first.save(
        stream,
        format={"gif": "GIF", "webp": "WEBP", "apng": "PNG"}[kind],
        save_all=True,
        append_images=rest,
        duration=times,
        loop=0,
        **({"lossless": True} if kind == "webp" else {}),
    )
    return stream.getvalue()
