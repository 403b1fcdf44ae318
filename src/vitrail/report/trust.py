"""Which map can be trusted: what ``faithfulness.json`` says, for the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from vitrail.report.contents import Object
from vitrail.report.tables import interval, number
from vitrail.runfolder import RunFolder, read_json

COLUMNS = {
    "removal_gain": "Removal gain",
    "contrast_score": "Class contrast",
    "mosaic_score": "Mosaic",
    "stability_score": "Stability",
    "randomization_error": "Left after shuffling all weights",
    "pointing_score": "Pointing at the mask",
}
"""The tests that the page shows; the file holds them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method or control: its name, kind, estimates under the page's tests, rank and cost."""

    name: str
    is_control: bool
    class_specific: bool
    passed: bool | None
    cells: tuple[Object | None, ...]
    rank: Object
    cost: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The trust section.

    Attributes:
        about: Content of ``faithfulness.json``.
        columns: Headings of the shown tests.
        rows: Methods by rank, then the controls.
        strips: ``strips[case_id][method]``: the sentence of a map and why it fails, if it does.
    """

    about: Object
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    strips: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]]


def trust(run: RunFolder) -> Trust | None:
    """Read what the bench found, None where it was not run."""
    if not run.faithfulness.exists():
        return None
    about = cast("Mapping[str, Any]", read_json(run.faithfulness))
    tables = about["tables"]
    tests = [
        (next(test for test in tables if test.partition("/")[0] == key), title)
        for key, title in COLUMNS.items()
        if any(test.partition("/")[0] == key for test in tables)
    ]
    rows = tuple(
        Row(
            name=name,
            is_control=name in about["controls"],
            class_specific=about["class_specific"][name],
            passed=about["randomization_passed"].get(name),
            cells=tuple(tables[test].get(name) for test, _ in tests),
            rank=about["ranks"].get(name, {}),
            cost=about["costs"].get(name, {}),
        )
        for name in (*about["methods"], *about["controls"])
    )
    strips = {
        case: {method: (sentence(strip), tuple(strip["fails"])) for method, strip in row.items()}
        for case, row in about["strips"].items()
    }
    return Trust(about=about, columns=tuple(title for _, title in tests), rows=rows, strips=strips)


def sentence(strip: Object) -> str:
    """Write a map's strip in one line; what was not measured is left out."""
    parts = ["class-specific" if strip["class_specific"] else "class-agnostic"]
    if strip["gain_over_random"] is not None:
        span = interval({"low": strip["gain_low"], "high": strip["gain_high"]}, digits=2)
        method = f" (method {span})" if span else ""
        parts.append(f"gain over random {number(strip['gain_over_random'], digits=2)}{method}")
    if strip["stability"] is not None:
        parts.append(f"stability {number(strip['stability'], digits=2)}")
    if strip["randomization_passed"] is not None:
        fate = "passed" if strip["randomization_passed"] else "failed"
        parts.append(f"randomization {fate}")
    if strip["completeness_error"] is not None:
        parts.append(f"completeness error {number(strip['completeness_error'], digits=2)}")
    if strip["prefix_share"] is not None:
        parts.append(f"on prefix tokens {number(strip['prefix_share'], digits=2)}")
    return " · ".join(parts)
