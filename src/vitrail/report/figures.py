"""Drawings of numbers: inline SVG that takes its colors from the page.

Every figure is a few lines of SVG written here, without a drawing library: the page's style sheet
colors it (light, dark, print), its text is text, and the same numbers give the same bytes.
Series differ by color *and* by dash or marker, so that color never carries meaning alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Literal

from markupsafe import Markup

_WIDTH, _HEIGHT = 420, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 44

Number = int | float
Point = tuple[Number, Number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart.

    Attributes:
        name: What the legend says; nothing is said of a line without a name.
        points: (x, y), drawn in their order.
        style: Which of the page's colors and dashes; the same for a model in every figure.
        band: (x, low, high) of the interval: shaded around a line, upright at dots.
        shape: ``line``, ``step`` (horizontal first) or ``dots`` (line with markers).
        mark: A point to be marked, such as the best epoch, and what it is.
    """

    name: str
    points: Sequence[Point]
    style: int
    band: Sequence[tuple[Number, Number, Number]] = ()
    shape: Literal["line", "step", "dots"] = "line"
    mark: tuple[Point, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis: its name, its ends, and where it is labelled."""

    name: str
    low: Number
    high: Number
    ticks: Sequence[Number] = field(default=(0.0, 0.25, 0.5, 0.75, 1.0))


UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Ticks of an axis from 0 to 1."""


def nice_axis(name: str, values: Sequence[Number], *, whole: bool = False) -> Axis:
    """Choose an axis around values, with some four to eight round ticks.

    It ends at ticks or, where only whole numbers count, at the values themselves.

    Args:
        name: The axis's name.
        values: What has to fit; NaN is passed over.
        whole: Whether only whole numbers may be labelled.

    Example:
        >>> nice_axis("loss", [0.07, 0.91]).ticks
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    known = [value for value in values if not isnan(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high == low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** _exponent(rough)
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    if whole:
        step = max(1, round(step))
    first, last = int(low // step), -int(-high // step)
    ticks = tuple(_tidy(index * step, whole=whole) for index in range(first, last + 1))
    if whole:
        inside = tuple(tick for tick in ticks if low <= tick <= high)
        return Axis(name=name, low=low, high=high, ticks=inside)
    return Axis(name=name, low=ticks[0], high=ticks[-1], ticks=ticks)


def _exponent(value: Number) -> int:
    """Return the decimal exponent of a positive number."""
    return int(f"{value:e}".split("e")[1])


def _tidy(value: Number, *, whole: bool) -> Number:
    """Drop the digits that only binary fractions have."""
    return round(value) if whole else float(f"{value:.10g}")


def chart(
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    title: str,
    diagonal: bool = False,
) -> Markup:
    """Draw lines with their bands, axes and legend.

    Args:
        series: The lines; those without points are left out.
        x: Horizontal axis.
        y: Vertical axis.
        title: What the figure shows, read aloud by screen readers.
        diagonal: Whether the line y = x is drawn as a reference (chance; perfect calibration).

    Returns:
        An ``<svg>`` element.
    """
    frame = _Frame(x, y)
    drawn = [one for one in series if len(one.points)]
    parts = [frame.grid()]
    if diagonal:
        path = frame.path([(x.low, y.low), (x.high, y.high)])
        parts.append(Markup('<path class="reference" d="{}"/>').format(path))
    parts += [frame.band(one) for one in drawn if one.band and one.shape != "dots"]
    parts += [frame.line(one) for one in drawn]
    named = [one for one in drawn if one.name]
    parts += [frame.legend(named), frame.pick()]
    return svg(_WIDTH, _HEIGHT + 20 * len(named), title=title, parts=parts)


class _Frame:
    """Where values lie on the drawing."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self._x, self._y = x, y

    def place(self, point: Point) -> tuple[str, str]:
        """Turn values into coordinates; what lies outside the axes is drawn at their ends."""
        across = _fraction(point[0], self._x) * (_WIDTH - _LEFT - _RIGHT)
        up = _fraction(point[1], self._y) * (_HEIGHT - _TOP - _BOTTOM)
        return _number(_LEFT + across), _number(_HEIGHT - _BOTTOM - up)

    def path(self, points: Sequence[Point], *, step: bool = False) -> str:
        """Write a path through points, interrupted where a value is NaN."""
        words: list[str] = []
        pen_down = False
        for point in points:
            if isnan(point[0]) or isnan(point[1]):
                pen_down = False
                continue
            across, up = self.place(point)
            if not pen_down:
                words.append(f"M{across} {up}")
            elif step:
                words.append(f"V{up}H{across}")
            else:
                words.append(f"L{across} {up}")
            pen_down = True
        return "".join(words)

    def pick(self) -> Markup:
        """Lay an invisible area over the plot, where a click tells the value on the x axis."""
        return Markup(
            '<rect class="pick" fill="none" pointer-events="all" data-axis="{}" '
            'x="{}" y="{}" width="{}" height="{}"/>'
        ).format(self._x.name, _LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> Markup:
        """Draw the axes' lines, ticks and names."""
        parts = []
        for tick in self._x.ticks:
            across, _ = self.place((tick, self._y.low))
            parts.append(
                Markup(
                    '<path class="grid" d="M{0} {1}V{2}"/><text x="{0}" y="{3}" '
                    'text-anchor="middle">{4}</text>'
                ).format(across, _TOP, _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM + 16, _label(tick))
            )
        for tick in self._y.ticks:
            _, up = self.place((self._x.low, tick))
            parts.append(
                Markup(
                    '<path class="grid" d="M{0} {1}H{2}"/><text x="{3}" y="{1}" dy="4" '
                    'text-anchor="end">{4}</text>'
                ).format(_LEFT, up, _WIDTH - _RIGHT, _LEFT - 7, _label(tick))
            )
        middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
        names = Markup(
            '<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>'
            '<text class="axis" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}'
            "</text>"
        ).format(
            _number((_LEFT + _WIDTH - _RIGHT) / 2),
            _HEIGHT - 8,
            self._x.name,
            _number(middle),
            self._y.name,
        )
        return Markup("").join(parts) + names

    def band(self, one: Series) -> Markup:
        """Draw the interval around a line."""
        above = [(at, high) for at, _, high in one.band if not isnan(high)]
        below = [(at, low) for at, low, _ in reversed(one.band) if not isnan(low)]
        return Markup('<path class="band s{}" d="{}Z"/>').format(
            one.style, self.path([*above, *below])
        )

    def line(self, one: Series) -> Markup:
        """Draw a line, its markers and its marked point."""
        drawing = Markup('<path class="line s{}" d="{}"/>').format(
            one.style, self.path(one.points, step=one.shape == "step")
        )
        if one.shape == "dots":
            drawing += Markup("").join(self._whisker(end, one.style) for end in one.band)
            known = [point for point in one.points if not isnan(point[1])]
            drawing += Markup("").join(self._dot(point, one.style) for point in known)
        if one.mark is not None:
            across, up = self.place(one.mark[0])
            drawing += Markup(
                '<g><title>{}</title><circle class="mark s{}" cx="{}" cy="{}" r="5.5"/></g>'
            ).format(one.mark[1], one.style, across, up)
        return drawing

    def _whisker(self, end: tuple[Number, Number, Number], style: int) -> Markup:
        """Draw the interval of one marker."""
        if isnan(end[1]) or isnan(end[2]):
            return Markup("")
        path = self.path([(end[0], end[1]), (end[0], end[2])])
        return Markup('<path class="whisker thin s{}" d="{}"/>').format(style, path)

    def _dot(self, point: Point, style: int) -> Markup:
        """Draw a marker: its form depends on the style as its color does."""
        across, up = self.place(point)
        form = ("M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", "M-4-4H4V4H-4Z", "M0-5L5 4H-5Z")[style % 3]
        return Markup('<path class="dot s{}" transform="translate({} {})" d="{}"/>').format(
            style, across, up, form
        )

    def legend(self, named: Sequence[Series]) -> Markup:
        """Write the names under the drawing, each with a piece of its line."""
        return Markup("").join(
            Markup(
                '<path class="line s{}" d="M{} {}h28"/><text class="legend" x="{}" y="{}">{}</text>'
            ).format(one.style, _LEFT, at - 4, _LEFT + 36, at, one.name)
            for one, at in ((one, _HEIGHT + 12 + 20 * place) for place, one in enumerate(named))
        )


def bars(
    rows: Sequence[tuple[str, Number, Number, Number, int]],
    *,
    title: str,
    scale: Axis = Axis(name="", low=0.0, high=1.0),
) -> Markup:
    """Draw points with intervals on one scale, one row each.

    Args:
        rows: (name, value, low, high, style), from top to bottom; NaN is left blank.
        title: What the figure shows, read aloud by screen readers.
        scale: The scale; by default from 0 to 1.

    Returns:
        An ``<svg>`` element.
    """
    left, row_height = max(140, 24 + 7 * max(len(row[0]) for row in rows)), 28
    height = row_height * len(rows) + 34
    across = _WIDTH - left - 14

    def at(value: Number) -> str:
        return _number(left + _fraction(value, scale) * across)

    parts = [
        Markup(
            '<path class="grid" d="M{0} 4V{1}"/><text x="{0}" y="{2}" text-anchor="middle">{3}'
            "</text>"
        ).format(at(tick), height - 26, height - 10, _label(tick))
        for tick in scale.ticks
    ]
    for place, (name, value, low, high, style) in enumerate(rows):
        middle = 18 + row_height * place
        parts.append(
            Markup('<text class="legend" x="{}" y="{}" text-anchor="end">{}</text>').format(
                left - 14, middle + 4, name
            )
        )
        if not (isnan(low) or isnan(high)):
            parts.append(
                Markup('<path class="whisker s{}" d="M{} {}H{}"/>').format(
                    style, at(low), middle, at(high)
                )
            )
        if not isnan(value):
            parts.append(
                Markup('<circle class="dot s{}" cx="{}" cy="{}" r="5"/>').format(
                    style, at(value), middle
                )
            )
    return svg(_WIDTH, height, title=title, parts=parts)


def window(colors: Sequence[Sequence[str]]) -> Markup:
    """Draw the emblem: a leaded window with one pane a patch.

    Args:
        colors: Hexadecimal colors of the panes, row by row.
    """
    pane = 10
    rows, columns = len(colors), len(colors[0])
    panes = [
        Markup('<path fill="{}" d="M{} {}h{}v{}h-{}z"/>').format(
            color, column * pane, row * pane, pane, pane, pane
        )
        for row, line in enumerate(colors)
        for column, color in enumerate(line)
    ]
    width, height = columns * pane, rows * pane
    half = f"{width / 2:g}"
    arch = f"M0 {height}V{half}A{half} {half} 0 0 1 {width} {half}V{height}Z"
    lead = "".join(f"M{column * pane} 0V{height}" for column in range(1, columns))
    lead += "".join(f"M0 {row * pane}H{width}" for row in range(1, rows))
    return Markup(
        '<svg class="window" viewBox="-3 -3 {} {}" aria-hidden="true" focusable="false">'
        '<clipPath id="arch"><path d="{}"/></clipPath><g clip-path="url(#arch)">{}'
        '<path class="lead" d="{}"/></g><path class="frame" d="{}"/></svg>'
    ).format(width + 6, height + 6, arch, Markup("").join(panes), lead, arch)


def svg(width: int, height: int, *, title: str, parts: Sequence[Markup]) -> Markup:
    """Wrap a drawing of some width and height with its accessible name."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, title, Markup("").join(parts))


def _fraction(value: Number, axis: Axis) -> Number:
    """Place a value between the ends of an axis."""
    return min(max((value - axis.low) / (axis.high - axis.low), 0.0), 1.0)


def _number(value: Number) -> str:
    """Write a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _label(value: Number) -> str:
    """Write a tick's value."""
    return f"{value:g}"
