"""The curves of an evaluation become figures: ROC, precision-recall, calibration, decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

from vitrail.report.charts import QUIET, Figure
from vitrail.report.contents import Object
from vitrail.report.figures import UNIT, Axis, Point, Series, chart, nice_axis
from vitrail.report.tables import csv_address, number

_STYLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model whose curves are drawn.

    Attributes:
        name: What the page calls it.
        style: Its color, dash and marker.
        curves: ``curves[split][model]`` of ``evaluation.json``.
        positive: The positive class of a binary task, else None.
    """

    name: str
    style: int
    curves: Object
    positive: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How a kind of curve is stored and drawn."""

    key: str
    name: str
    columns: tuple[str, str]
    axes: tuple[str, str]
    caption: str
    diagonal: bool


_ROC = _Kind(
    key="roc",
    name="ROC curve",
    columns=("false_positive_rate", "true_positive_rate"),
    axes=("false positive rate (1 \N{MINUS SIGN} specificity)", "sensitivity"),
    caption="Dotted: guessing.",
    diagonal=True,
)
_PRECISION_RECALL = _Kind(
    key="precision_recall",
    name="Precision\N{EN DASH}recall curve",
    columns=("recall", "precision"),
    axes=("recall (sensitivity)", "precision (PPV)"),
    caption="",
    diagonal=False,
)


def curve_figures(subjects: Sequence[Subject], *, part: str = "test set") -> tuple[Figure, ...]:
    """Draw all curves of some models on the same cases.

    The curves of one class stand in one figure; of several classes, each model has its own.

    Args:
        subjects: The models.
        part: What the cases are, for screen readers.
    """
    return (
        *_class_figures(subjects, _ROC, part),
        *_class_figures(subjects, _PRECISION_RECALL, part),
        *(figure for one in subjects for figure in _calibration(one, part)),
        *_decision(subjects, part),
        *(
            figure
            for label in _labels(subjects)
            for figure in _of_label(subjects, label, part=part)
        ),
    )


def _labels(subjects: Sequence[Subject]) -> list[str]:
    """Name the labels, where a case can have several."""
    return list(dict.fromkeys(name for one in subjects for name in one.curves.get("labels") or ()))


def _of_label(subjects: Sequence[Subject], label: str, *, part: str) -> list[Figure]:
    """Draw what is measured of each label by itself: calibration and decision curves."""
    own = [
        replace(one, curves=curves, positive=label)
        for one in subjects
        if (curves := (one.curves.get("labels") or {}).get(label))
    ]
    figures = [figure for one in own for figure in _calibration(one, part)] + _decision(own, part)
    return [replace(figure, name=f"{label}: {figure.name}") for figure in figures]


def _class_figures(subjects: Sequence[Subject], kind: _Kind, part: str) -> list[Figure]:
    """Draw a kind of curve that is stored class by class."""
    lines = {one.name: _lines(one, kind) for one in subjects}
    if all(len(drawn) <= 1 for drawn in lines.values()):
        return _together(
            [line for drawn in lines.values() for line in drawn], kind, subjects, part=part
        )
    figures: list[Figure] = []
    for one in subjects:
        styled = [
            replace(line, style=place % _STYLES, mark=None)
            for place, line in enumerate(lines[one.name])
        ]
        figures += _together(styled, kind, [one], part=part, of=one.name)
    return figures


def _together(
    lines: Sequence[Series],
    kind: _Kind,
    subjects: Sequence[Subject],
    *,
    part: str,
    of: str = "",
) -> list[Figure]:
    """Draw some lines in one figure."""
    if not lines:
        return []
    name = f"{kind.name}: {of}" if of else kind.name
    said = [
        kind.caption,
        "Ring: where decisions are taken." if any(one.mark for one in lines) else "",
        "Shaded: 95\N{NO-BREAK SPACE}% interval." if any(one.band for one in lines) else "",
        "Each class against all others." if of else "",
        "Colors repeat; the file names each line." if len(lines) > _STYLES else "",
        _seeds(subjects),
    ]
    x, y = (Axis(name=axis, low=0.0, high=1.0, ticks=UNIT) for axis in kind.axes)
    return [
        Figure(
            name=name,
            drawing=chart(lines, x=x, y=y, title=f"{name}, {part}.", diagonal=kind.diagonal),
            caption=" ".join(part for part in said if part),
            csv=_csv(lines, kind.columns),
        )
    ]


def _lines(one: Subject, kind: _Kind) -> list[Series]:
    """Read a model's lines of one kind: one a class."""
    stored = one.curves.get(kind.key)
    if not isinstance(stored, Mapping):
        return []
    classes = {name: curve for name, curve in stored.items() if isinstance(curve, Mapping)}
    mark = _operating_point(one, kind) if len(classes) == 1 else None
    found = []
    for name, curve in classes.items():
        across, up, low, high = (_column(curve, key) for key in (*kind.columns, "low", "high"))
        if across and len(across) == len(up):
            whole = len(low) == len(high) == len(across)
            found.append(
                Series(
                    name=one.name if len(classes) == 1 else name,
                    points=list(zip(across, up, strict=True)),
                    style=one.style,
                    band=list(zip(across, low, high, strict=True)) if whole else (),
                    mark=mark,
                )
            )
    return found


def _operating_point(one: Subject, kind: _Kind) -> tuple[Point, str] | None:
    """Find where on the curve the decisions of the confusion matrix were taken."""
    confusion = one.curves.get("confusion")
    if not isinstance(confusion, Mapping) or one.positive not in confusion.get("classes", ()):
        return None
    positive = confusion["classes"].index(one.positive)
    counts = confusion["counts"]
    if len(counts) != 2:
        return None
    (hits, misses), (alarms, quiet) = (
        (counts[row][positive], counts[row][1 - positive]) for row in (positive, 1 - positive)
    )
    down = (alarms, quiet) if kind is _ROC else (hits, alarms)
    if not hits + misses or not sum(down):
        return None
    sensitivity, other = hits / (hits + misses), down[0] / sum(down)
    at = (other, sensitivity) if kind is _ROC else (sensitivity, other)
    words = "specificity" if kind is _ROC else "precision"
    value = 1 - other if kind is _ROC else other
    return at, f"sensitivity {number(sensitivity)}, {words} {number(value)}"


def _calibration(one: Subject, part: str) -> list[Figure]:
    """Draw one model's reliability diagram, before and after temperature scaling."""
    before = _bins(one, "calibration")
    if before is None:
        return []
    after = _bins(one, "calibration_after")
    vector = _bins(one, "calibration_vector")
    lines = [before]
    if after is not None:
        lines = [
            replace(before, name="as trained", style=QUIET),
            replace(after, name="after temperature scaling"),
        ]
    if vector is not None:
        other = (one.style + 1) % QUIET
        lines.append(replace(vector, name="after vector scaling", style=other, band=()))
    name = f"Calibration: {one.name}"
    what = f"“{one.positive}”" if one.positive else "the likeliest class"
    said = (
        "On the dotted line, what is stated with 0.7 happens 7 times in 10. "
        f"Stated is the probability of {what}; upright lines: 95\N{NO-BREAK SPACE}% intervals."
    )
    if after is not None:
        said += " The temperature was fitted on validation cases; it changes no ranking."
    if vector is not None:
        said += " Vector scaling has a scale and a shift a class; its intervals are in the file."
    x = Axis(name="stated probability", low=0.0, high=1.0, ticks=UNIT)
    y = Axis(name="observed frequency", low=0.0, high=1.0, ticks=UNIT)
    return [
        Figure(
            name=name,
            drawing=chart(lines, x=x, y=y, title=f"{name}, {part}.", diagonal=True),
            caption=" ".join(part for part in (said, _seeds([one])) if part),
            csv=_csv([*lines[:2], vector] if vector else lines, ("probability", "frequency")),
        )
    ]


def _bins(one: Subject, key: str) -> Series | None:
    """Read the bins of a reliability diagram."""
    stored = one.curves.get(key)
    if not isinstance(stored, list) or not stored:
        return None
    at, up, low, high = (
        [_value(point.get(name)) for point in stored]
        for name in ("probability", "frequency", "low", "high")
    )
    return Series(
        name=one.name,
        points=list(zip(at, up, strict=True)),
        style=one.style,
        band=list(zip(at, low, high, strict=True)),
        shape="dots",
    )


def _decision(subjects: Sequence[Subject], part: str) -> list[Figure]:
    """Draw the net benefit of acting on each model, where it was measured."""
    lines: list[Series] = []
    for one in subjects:
        stored = one.curves.get("decision") or {}
        at, up, low, high = (_column(stored, key) for key in ("threshold", "model", "low", "high"))
        if at:
            whole = len(low) == len(high) == len(at)
            band = list(zip(at, low, high, strict=True)) if whole else ()
            points = list(zip(at, up, strict=True))
            lines.append(Series(name=one.name, points=points, style=one.style, band=band))
    if not lines:
        return []
    everybody = subjects[0].curves.get("decision") or {}
    points = list(
        zip(_column(everybody, "threshold"), _column(everybody, "treat_all"), strict=False)
    )
    best = max(value for one in lines for _, value in one.points)
    floor = -0.15 * max(best, 0.05)
    lines.append(Series(name="treating everybody", points=points, style=QUIET))
    banded = " Shaded: 95\N{NO-BREAK SPACE}% interval." if any(one.band for one in lines) else ""
    return [
        Figure(
            name="Decision curve",
            drawing=chart(
                [_above(one, floor) for one in lines],
                x=Axis(name="threshold probability", low=0.0, high=1.0, ticks=UNIT),
                y=nice_axis("net benefit", [floor, best]),
                title=f"Decision curve, {part}.",
            ),
            caption="True positives a case, less the false positives at the exchange rate of the "
            f"threshold; treating nobody is zero.{banded}",
            csv=_csv(lines, ("threshold", "net_benefit")),
        )
    ]


def _above(one: Series, floor: float) -> Series:
    """Leave out of a drawing what lies far below the axis."""
    points = [(x, y if y >= floor else nan) for x, y in one.points]
    band = [(x, max(low, floor), max(high, floor)) for x, low, high in one.band]
    return replace(one, points=points, band=band)


def _seeds(subjects: Sequence[Subject]) -> str:
    """Say which training is drawn, where there were several."""
    seeds = {one.curves["seed"] for one in subjects if one.curves.get("several_seeds")}
    if not seeds:
        return ""
    return f"Drawn is the training with seed {', '.join(map(str, sorted(seeds)))}."


def _column(curve: Object, name: str) -> list[float]:
    """Read a column of numbers; null is NaN."""
    values = curve.get(name)
    return [_value(value) for value in values] if isinstance(values, list) else []


def _value(value: Any) -> float:
    """Read a number; null is NaN."""
    return nan if value is None else float(value)


def _csv(lines: Sequence[Series], columns: tuple[str, str]) -> str:
    """Write the drawn numbers as a ``data:`` address."""
    rows = [
        (one.name, *(_digits(value) for value in (*point, *ends)))
        for one in lines
        for point, ends in zip(
            one.points, [end[1:] for end in one.band] or [(nan, nan)] * len(one.points), strict=True
        )
    ]
    return csv_address(("line", *columns, "low", "high"), rows)


def _digits(value: float) -> str:
    """Write six digits, nothing for NaN."""
    return "" if isnan(value) else f"{value:.6g}"
