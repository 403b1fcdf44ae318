"""What was tried before a configuration was chosen: ``tuning/study.json`` as figures, a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import nan
from typing import Any

import numpy as np
from markupsafe import Markup

from vitrail.color import colorize
from vitrail.report.charts import Figure
from vitrail.report.contents import Object
from vitrail.report.figures import Series, bars, nice_axis, svg
from vitrail.report.multiples import Panel, multiples
from vitrail.report.tables import csv_address, metric_name, number

_CELL_W, _CELL_H = 74, 30
_GAP = 26
_MOST_PANELS = 100
_DARK = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """A tuning, as the page tells it.

    Attributes:
        sentences: What was tried, on what, and how much too good the best one looks.
        figures: Curves of every trial, heat map, parallel coordinates, importances.
        names: Of the parameters.
        rows: (chosen, one value a parameter, value on validation cases in words), best first.
        skipped: Impossible configurations, each with its reason.
        commands: What trains and evaluates the chosen one.
        csv: Every trial at full precision, as a ``data:`` address.
    """

    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[bool, tuple[str, ...], str], ...]
    skipped: tuple[str, ...]
    commands: tuple[str, ...]
    csv: str


def tuning(study: Object) -> Tuning | None:
    """Tell a study, or None where nothing was tuned."""
    trials: Sequence[Object] = study.get("trials") or ()
    if not trials:
        return None
    names = tuple(str(axis["name"]) for axis in study["axes"])
    order = sorted(trials, key=lambda one: (one["given_up"], -_value(one), one["number"]))
    return Tuning(
        sentences=tuple(_sentences(study)),
        figures=figures(study),
        names=names,
        rows=tuple(
            (
                one["number"] == study["chosen"],
                tuple(_short(one["parameters"][name]) for name in names),
                "given up" if one["given_up"] else number(one["value"]),
            )
            for one in order
        ),
        skipped=tuple(f"{_named(one['parameters'])}: {one['reason']}" for one in study["skipped"]),
        commands=tuple(study["commands"]),
        csv=_csv(study, names),
    )


def figures(study: Object) -> tuple[Figure, ...]:
    """Draw everything that a study shows."""
    drawn = [_curves(study), _heat_map(study), _parallel(study), _importances(study)]
    return tuple(figure for figure in drawn if figure is not None)


def standalone(figure: Figure) -> str:
    """Make an SVG file of a figure, with the page's own style in its light colors."""
    css = files("vitrail.report").joinpath("template/style.css").read_text(encoding="utf-8")
    chart = "\n".join(line for line in css.splitlines() if line.startswith(".chart"))
    style = f"<style>{css[: css.index('@media')]}{chart}</style>"
    opening = '<svg xmlns="http://www.w3.org/2000/svg" class="chart"'
    drawing = str(figure.drawing).replace('<svg class="chart"', opening, 1)
    head, _, body = drawing.partition(">")
    return f"{head}>{style}{body}\n"


def _value(trial: Object) -> float:
    """Read a trial's value; null is the worst."""
    return -np.inf if trial["value"] is None else float(trial["value"])


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _named(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in parameters.items())


def metric_of(study: Object) -> str:
    """Name what the trials were chosen by."""
    name = str(study["metric"])
    return "minus the validation loss" if name == "loss" else metric_name(name)


def _sentences(study: Object) -> list[str]:
    """Say what was tried and what the best number is worth."""
    count = study["configurations_tried"]
    tried = (
        f"{count} configurations were tried, {study['given_up']} of them given up early; "
        f"{len(study['skipped'])} impossible ones were left out. Validation cases chose "
        f"({metric_of(study)}); no test case was looked at."
    )
    said = [tried]
    if study.get("optimism"):
        one = study["optimism"]
        said.append(
            f"The best of many looks too good on the cases that chose it: the winner's ROC AUC "
            f"there is {number(one['chosen'])}, and about {number(one['corrected'])} is to be "
            f"expected on others (choice repeated on resampled validation cases)."
        )
    return said


def _curves(study: Object) -> Figure | None:
    """Draw the learning curve of every trial in a panel of its own."""
    shown = [one for one in study["trials"] if one["curve"]][:_MOST_PANELS]
    if not shown:
        return None
    values = [float(value) for one in shown for _, value in one["curve"]]
    epochs = [int(epoch) for one in shown for epoch, _ in one["curve"]]
    panels = []
    for one in shown:
        points = [(int(epoch), float(value)) for epoch, value in one["curve"]]
        best = max(points, key=lambda point: point[1])
        chosen = one["number"] == study["chosen"]
        words = "/".join(_short(value) for value in one["parameters"].values())
        panels.append(
            Panel(
                name=f"\N{BLACK STAR} {words}" if chosen else words,
                series=[
                    Series(
                        name="validation cases",
                        points=points,
                        style=1 if chosen else 3 if one["given_up"] else 0,
                        mark=(best, f"best: {number(best[1])}") if chosen else None,
                    )
                ],
            )
        )
    name = "Learning curve of every trial"
    order = "/".join(str(axis["name"]) for axis in study["axes"])
    return Figure(
        name=name,
        drawing=multiples(
            panels,
            x=nice_axis("epoch", epochs, whole=True),
            y=nice_axis(metric_of(study), values),
            title=f"{name}: {metric_of(study)} by epoch.",
        ),
        caption=f"{metric_of(study)} on validation cases by epoch, the same axes everywhere; "
        f"panels are named {order}. Star and ring: the chosen one. Grey: given up early.",
    )


def _heat_map(study: Object) -> Figure | None:
    """Draw the best value over the first two lists of values, a panel a value of the third."""
    axes = [axis for axis in study["axes"] if len(axis["values"]) > 1]
    if len(axes) < 2:
        return None
    down, across, *others = axes
    panels = others[0]["values"] if others else [None]
    known = [one for one in study["trials"] if one["value"] is not None and not one["given_up"]]
    if not known:
        return None
    values = [float(one["value"]) for one in known]
    low, high = min(values), max(values)
    parts = []
    width = len(across["values"]) * _CELL_W + _GAP
    for place, panel in enumerate(panels):
        left = 60 + place * width
        parts.append(_words(left, 14, f"{others[0]['name']} {_short(panel)}" if others else ""))
        for row, first in enumerate(down["values"]):
            for column, second in enumerate(across["values"]):
                wanted = {down["name"]: first, across["name"]: second}
                wanted |= {others[0]["name"]: panel} if others else {}
                best = best_of(known, wanted)
                at = (left + column * _CELL_W, 22 + row * _CELL_H)
                parts.append(_cell(at, best, share=_share(best, low, high)))
    bottom = 22 + len(down["values"]) * _CELL_H
    for row, first in enumerate(down["values"]):
        parts.append(_words(52, 42 + row * _CELL_H, _short(first), anchor="end"))
    for place in range(len(panels)):
        for column, second in enumerate(across["values"]):
            at_x = 60 + place * width + column * _CELL_W + _CELL_W // 2
            parts.append(_words(at_x, bottom + 16, _short(second), anchor="middle"))
    name = "Values over the grid"
    return Figure(
        name=name,
        drawing=svg(
            60 + len(panels) * width, bottom + 24, title=f"{name}: {metric_of(study)}.", parts=parts
        ),
        caption=f"{metric_of(study)} on validation cases: {down['name']} downward, "
        f"{across['name']} rightward. Where further parameters vary, the best of them.",
    )


def best_of(trials: Sequence[Object], wanted: Mapping[str, Any]) -> float:
    """Return the best value among the trials of some parameters; NaN without one."""
    fits = [
        float(one["value"])
        for one in trials
        if all(one["parameters"].get(name) == value for name, value in wanted.items())
    ]
    return max(fits, default=nan)


def _share(value: float, low: float, high: float) -> float:
    """Place a value between the worst and the best."""
    return 0.5 if high <= low else (value - low) / (high - low)


def _color(share: float) -> str:
    red, green, blue = (int(one) for one in colorize(np.array([[share]]))[0, 0])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _cell(at: tuple[int, int], value: float, *, share: float) -> Markup:
    """Draw one cell with its value."""
    left, top = at
    if np.isnan(value):
        return _words(left + _CELL_W // 2, top + 20, "\N{EN DASH}", anchor="middle")
    ink = "#ffffff" if share < _DARK else "#111111"
    return Markup(
        '<path fill="{}" d="M{} {}h{}v{}h-{}z"/><text x="{}" y="{}" text-anchor="middle" '
        'style="fill:{}">{}</text>'
    ).format(
        *(_color(share), left, top, _CELL_W - 2, _CELL_H - 2, _CELL_W - 2),
        *(left + _CELL_W // 2, top + 20, ink, number(value)),
    )


def _words(x: int, y: int, words: str, *, anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, words)


def _parallel(study: Object) -> Figure | None:
    """Draw every trial as a line over all parameters and its value."""
    known = [one for one in study["trials"] if one["value"] is not None]
    if len(known) < 2:
        return None
    values = [float(one["value"]) for one in known]
    low, high = min(values), max(values)
    names = [str(axis["name"]) for axis in study["axes"]]
    scales = [ranks([one["parameters"][name] for one in known]) for name in names]
    step, top, height = 110, 30, 190
    parts = []
    lines = sorted(known, key=lambda one: (one["number"] == study["chosen"], _value(one)))
    for one in lines:
        shares = [scale[one["parameters"][name]] for name, scale in zip(names, scales, strict=True)]
        shares.append(_share(float(one["value"]), low, high))
        path = "L".join(
            f"{50 + place * step} {top + (1 - share) * height:.1f}"
            for place, share in enumerate(shares)
        )
        wide = 3.5 if one["number"] == study["chosen"] else 1.2
        parts.append(
            Markup('<path d="M{}" fill="none" stroke="{}" stroke-width="{}"/>').format(
                path, _color(shares[-1]), wide
            )
        )
    ends = [(_short(min(s, key=s.__getitem__)), _short(max(s, key=s.__getitem__))) for s in scales]
    ends.append((number(low), number(high)))
    for place, (name, (bottom, upper)) in enumerate(zip([*names, "value"], ends, strict=True)):
        x = 50 + place * step
        parts.append(Markup('<path class="grid" d="M{} {}v{}"/>').format(x, top, height))
        parts.append(_words(x, 12, name, anchor="middle"))
        parts.append(_words(x, 25, upper, anchor="middle"))
        parts.append(_words(x, top + height + 15, bottom, anchor="middle"))
    name = "Parallel coordinates"
    return Figure(
        name=name,
        drawing=svg(100 + len(names) * step, top + height + 24, title=f"{name}.", parts=parts),
        caption=f"A line a trial, from parameter to parameter to its {metric_of(study)}: the "
        "brighter the better; the thick one was chosen.",
    )


def ranks(values: Sequence[Any]) -> dict[Any, float]:
    """Place different values evenly between 0 and 1, numbers in their order."""
    numbers = all(isinstance(value, int | float) for value in values)
    different = sorted(set(values), key=None if numbers else str)
    most = max(len(different) - 1, 1)
    return {value: place / most for place, value in enumerate(different)}


def _importances(study: Object) -> Figure | None:
    """Draw how much of the differences each parameter explains."""
    known: Mapping[str, float] = study.get("importances") or {}
    if not known:
        return None
    name = "Importance of the parameters"
    rows = [(one, value, nan, nan, 0) for one, value in known.items()]
    return Figure(
        name=name,
        drawing=bars(rows, title=f"{name}."),
        caption="Share of the differences between trials that a parameter explains (fANOVA).",
    )


def _csv(study: Object, names: Sequence[str]) -> str:
    """Write every trial."""
    rows = [
        (
            one["number"],
            *(one["parameters"][name] for name in names),
            "" if one["value"] is None else one["value"],
            one["given_up"],
            one["seconds"],
            one["number"] == study["chosen"],
        )
        for one in study["trials"]
    ]
    return csv_address(("trial", *names, "value", "given_up", "seconds", "chosen"), rows)
