"""Small multiples: the curves of many trainings, each in a small panel with the same axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan

from markupsafe import Markup

from vitrail.report.figures import Axis, Point, Series, svg

_COLUMNS = 5
_WIDTH, _HEIGHT = 150, 112
_LEFT, _TOP = 34, 16
_PLOT = (_WIDTH - 14, _HEIGHT - 34)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One training's lines.

    Attributes:
        name: What stands above the panel.
        series: The lines; a mark is drawn as a ring.
    """

    name: str
    series: Sequence[Series]


def multiples(panels: Sequence[Panel], *, x: Axis, y: Axis, title: str) -> Markup:
    """Draw panels row by row, all on the same axes, whose ends stand at the outer panels.

    Args:
        panels: From left to right and top to bottom, five a row.
        x: Horizontal axis of every panel.
        y: Vertical axis of every panel.
        title: What the figure shows, read aloud by screen readers.

    Returns:
        An ``<svg>`` element.
    """
    columns = min(_COLUMNS, len(panels))
    rows = ceil(len(panels) / _COLUMNS)
    parts = [_panel(panel, place, x, y) for place, panel in enumerate(panels)]
    for row in range(rows):
        for value, at in ((y.high, _TOP + 4), (y.low, _TOP + _PLOT[1])):
            parts.append(_text(_LEFT - 5, row * _HEIGHT + at, f"{value:g}", anchor="end"))
    for column in range(columns):
        for value, at in ((x.low, 0), (x.high, _PLOT[0])):
            across = _LEFT + column * _WIDTH + at
            parts.append(_text(across, rows * _HEIGHT - 4, f"{value:g}", anchor="middle"))
    parts += _legend(panels[0].series, rows * _HEIGHT + 16)
    height = rows * _HEIGHT + 24
    return svg(_LEFT + columns * _WIDTH, height, title=title, parts=parts)


def _panel(panel: Panel, place: int, x: Axis, y: Axis) -> Markup:
    """Draw one panel at its place."""
    row, column = divmod(place, _COLUMNS)
    left, top = _LEFT + column * _WIDTH, row * _HEIGHT + _TOP

    def at(point: Point) -> tuple[str, str]:
        across = (point[0] - x.low) / (x.high - x.low or 1)
        up = (point[1] - y.low) / (y.high - y.low or 1)
        return (
            f"{left + min(max(across, 0), 1) * _PLOT[0]:.1f}",
            f"{top + (1 - min(max(up, 0), 1)) * _PLOT[1]:.1f}",
        )

    drawing = Markup('<path class="grid" d="M{0} {1}V{2}H{3}"/>').format(
        left, top, top + _PLOT[1], left + _PLOT[0]
    )
    drawing += _text(left, top - 4, panel.name, anchor="start")
    for one in panel.series:
        known = [at(point) for point in one.points if not isnan(point[1])]
        path = "L".join(" ".join(point) for point in known)
        if known:
            drawing += Markup('<path class="line s{}" d="M{}"/>').format(one.style, path)
        if one.mark is not None:
            across, up = at(one.mark[0])
            drawing += Markup(
                '<g><title>{}</title><circle class="mark s{}" cx="{}" cy="{}" r="3.5"/></g>'
            ).format(one.mark[1], one.style, across, up)
    return drawing


def _legend(series: Sequence[Series], at: int) -> list[Markup]:
    """Name the lines once, under all panels."""
    return [
        Markup('<path class="line s{}" d="M{} {}h24"/>').format(one.style, left, at - 4)
        + _text(left + 30, at, one.name, anchor="start")
        for left, one in zip(range(_LEFT, 10_000, 170), series, strict=False)
    ]


def _text(x: int, y: int, words: str, *, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, words)
