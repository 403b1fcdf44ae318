"""Does the map help? The guided study of a run: its arms, their differences, what was looked at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from vitrail.report.charts import Figure
from vitrail.report.contents import Contents, Object, read_object
from vitrail.report.differences import comparison
from vitrail.report.figures import bars, nice_axis
from vitrail.report.gallery import Card, Gallery
from vitrail.report.tables import csv_address, interval, number

_METRIC, _GUIDED = "roc_auc_score", "guided"
_EVIDENCE = "guided_cnn"
_EXAMPLES = 6
_OWN = {
    "vit alone": "the transformer of stage one by itself",
    "cnn alone": "the run's own convolutional baseline by itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm: what filled its map channel, how good it was, and guided's difference from it."""

    name: str
    about: str
    value: str
    interval: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A case with the evidence of both stages over its montage, as data URIs; empty if even."""

    card: Card
    vit: str
    cnn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A guided study, as the page tells it.

    Attributes:
        opening: What was trained.
        figures: Every arm, and guided's differences from the others.
        rows: One an arm.
        evidence: How much of both stages' evidence lies in the masks; empty where there are none.
        examples: Cases with both overlays.
    """

    opening: str
    figures: tuple[Figure, ...]
    rows: tuple[Row, ...]
    evidence: str
    examples: tuple[Example, ...]


def told(contents: Contents) -> bool:
    """Tell whether a run holds a whole study."""
    folder = contents.run.root / "guided"
    return all((folder / f"{name}.json").is_file() for name in ("study", "evaluation"))


def study(contents: Contents, shown: Gallery) -> Study | None:
    """Tell the study of a run, or None where there was none.

    Args:
        contents: The run.
        shown: Its gallery, whose cards hold the maps.
    """
    if not told(contents):
        return None
    folder = contents.run.root / "guided"
    about, evaluation = (read_object(folder / f"{name}.json") for name in ("study", "evaluation"))
    arms: Mapping[str, Object] = evaluation["sets"].get("test") or {}
    measured = {name: one[_METRIC] for name, one in arms.items() if _METRIC in one}
    against = dict(_against(evaluation.get("comparisons") or ()))
    order = [one["name"] for one in about["arms"] if one["name"] in measured]
    order += [name for name in measured if name not in order]
    words = {one["name"]: one["about"] for one in about["arms"]} | _OWN
    return Study(
        opening=_opening(about),
        figures=_figures(measured, against, order=order),
        rows=tuple(
            Row(
                name=name,
                about=str(words.get(name, "")),
                value=number(measured[name]["value"]),
                interval=interval(measured[name]),
                sentence=comparison(against[name]) if name in against else "",
            )
            for name in order
        ),
        evidence=str(about.get("evidence") or ""),
        examples=tuple(_examples(shown)),
    )


def _opening(about: Object) -> str:
    """Say what was trained."""
    columns = about.get("columns") or ()
    joined = f"; the columns {', '.join(columns)} are joined to its last layer" if columns else ""
    named = str(about["classifier"])
    kind = "of the baseline's kind" if named == "plan" else named
    return (
        f"A second network ({kind}) was shown the montage and, as a further "
        f"channel, stage one's map of it ({about['method']}){joined}. Maps of training cases come "
        "from inner models that never saw their labels. Every arm has the same cases, folds, "
        "seeds and starting weights; only the map channel differs."
    )


def _against(stated: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the paired comparison of guided with each other arm, by the other's name."""
    for one in stated:
        if one.get("metric") == _METRIC and _GUIDED in (one.get("a"), one.get("b")):
            yield str(one["b"] if one["a"] == _GUIDED else one["a"]), one


def _figures(
    measured: Mapping[str, Any], against: Mapping[str, Object], *, order: Sequence[str]
) -> tuple[Figure, ...]:
    """Draw the arms, and the differences as a forest around zero."""
    rows = [(name, *_ends(measured[name], "value"), int(name != _GUIDED)) for name in order]
    drawn = [
        _forest(
            "Every arm",
            rows,
            axis="ROC AUC",
            caption="ROC AUC on the test cases of all folds, with 95 % intervals.",
        )
    ]
    pairs = []
    for name in order:
        if name in against:
            sign = 1.0 if against[name]["a"] == _GUIDED else -1.0
            value, *span = (sign * one for one in _ends(against[name], "difference"))
            pairs.append((name, value, min(span), max(span), 0))
    if pairs:
        drawn.append(
            _forest(
                "Guided minus each other arm",
                pairs,
                axis="difference in ROC AUC",
                caption="Difference in ROC AUC on the same cases, with 95 % intervals: right of 0 "
                "guided is better. An interval that holds 0 shows no difference.",
            )
        )
    return tuple(drawn)


def _ends(one: Object, value: str) -> tuple[float, float, float]:
    """Read a number and its interval; NaN where there is none."""
    found = (one.get(name) for name in (value, "low", "high"))
    center, low, high = (nan if number is None else float(number) for number in found)
    return center, low, high


def _forest(
    name: str, rows: Sequence[tuple[str, float, float, float, int]], *, axis: str, caption: str
) -> Figure:
    """Draw one forest plot."""
    scale = nice_axis(axis, [number for row in rows for number in row[1:4]])
    return Figure(
        name=name,
        drawing=bars(rows, title=f"{name}: {axis}.", scale=scale),
        caption=caption,
        csv=csv_address(("arm", "value", "low", "high"), [row[:4] for row in rows]),
    )


def _examples(shown: Gallery) -> Iterator[Example]:
    """Take cases that have a map of both stages, wrong and right predictions in turn."""
    found = 0
    for card in (*shown.wrong[: _EXAMPLES // 2], *shown.right):
        drawn = {one.method: one.overlays.get("run-bilinear", "") for one in card.maps}
        if found == _EXAMPLES or not card.picture or _EVIDENCE not in drawn or len(drawn) < 2:
            continue
        found += 1
        second = drawn.pop(_EVIDENCE)
        yield Example(card=card, vit=next(iter(drawn.values())), cnn=second)
