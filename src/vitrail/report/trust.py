"""How far to trust the maps: ``faithfulness.json`` becomes a table and a strip beside each map."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.report.charts import QUIET, Figure
from vitrail.report.contents import Contents, Object
from vitrail.report.figures import UNIT, Axis, Series, bars, chart, nice_axis
from vitrail.report.headline import Headline, metrics_table
from vitrail.report.tables import csv_address, interval, number, plain

_SHOWN = 3
"""Methods that a removal figure draws, the best by mean rank, beside one control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """What was tested of one map.

    Attributes:
        facts: (test, result).
        fails: Why the map should not be trusted; empty where nothing speaks against it.
    """

    facts: tuple[tuple[str, str], ...]
    fails: tuple[str, ...]


def strip(contents: Contents, case_id: str, *, method: str, prefix_share: float | None) -> Strip:
    """Gather what is known of one map; what was not tested is said to be untested.

    Args:
        contents: The run.
        case_id: The case.
        method: The method of its map.
        prefix_share: As the map's own record tells it, where the bench did not run.
    """
    strips: Mapping[str, Any] = contents.faithfulness.get("strips") or {}
    one: Object | None = (strips.get(case_id) or {}).get(method)
    if one is None:
        share = () if prefix_share is None else (("on prefix tokens", _percent(prefix_share)),)
        return Strip(facts=(("trust", "not tested"), *share), fails=())
    return Strip(facts=tuple(_facts(one)), fails=tuple(map(str, one.get("fails") or ())))


def _facts(one: Object) -> Iterator[tuple[str, str]]:
    """Say each result that is there."""
    if _is_number(one.get("gain_over_random")):
        ends = {"low": one.get("gain_low"), "high": one.get("gain_high")}
        span = interval(ends, digits=2)
        text = number(one["gain_over_random"], digits=2)
        yield "gain over random", f"{text} (method: {span})" if span else text
    if _is_number(one.get("stability")):
        yield "stability", number(one["stability"], digits=2)
    elif _is_number(one.get("stability_of_method")):
        yield "stability", f"{number(one['stability_of_method'], digits=2)} (mean of the method)"
    if one.get("randomization_passed") is not None:
        yield "randomization", "passed" if one["randomization_passed"] else "failed"
    if _is_number(one.get("completeness_error")):
        yield "completeness error", _percent(one["completeness_error"], digits=1)
    if _is_number(one.get("prefix_share")):
        yield "on prefix tokens", _percent(one["prefix_share"])


def _is_number(value: object) -> bool:
    """Tell numbers from null."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(name: str) -> str:
    """Write names of methods as words."""
    return name.replace("_", " ")


def _percent(share: float, *, digits: int = 0) -> str:
    """Write a share in percent."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The bench's tables.

    Attributes:
        opening: What was tested on what, in words.
        table: Tests by methods, the controls beside them.
        methods: (method, class-specific, randomization passed, mean rank, cost in words).
        controls: Maps that know nothing of the model.
        recommendation: In words; empty where none is given.
        limits: What the recommendation does not mean.
        warnings: Sentences that belong beside the table.
        refused: (method or test, reason).
        settings: What was chosen, in words.
        figures: The ranks, and the curves behind the removal gain, two a way of hiding patches.
    """

    opening: str
    table: Headline
    methods: tuple[tuple[str, bool | None, bool | None, str, str], ...]
    controls: tuple[str, ...]
    recommendation: str
    limits: tuple[str, ...]
    warnings: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    settings: str
    figures: tuple[Figure, ...]


def trust(contents: Contents) -> Trust | None:
    """Read the bench, or None where it did not run."""
    bench = contents.faithfulness
    tables: Mapping[str, Mapping[str, Object]] = bench.get("tables") or {}
    if not tables:
        return None
    methods = [str(name) for name in bench.get("methods") or ()]
    controls = tuple(str(name) for name in bench.get("controls") or ())
    by_method = {
        _words(name): {test: row[name] for test, row in tables.items() if name in row}
        for name in (*methods, *controls)
    }
    unit = str(bench.get("unit", "picture"))
    advice: Object = bench.get("recommendation") or {}
    return Trust(
        opening=f"{len(methods)} methods and {len(controls)} controls, tested on "
        f"{bench.get('num_cases', 'some')} cases; intervals over {bench.get('num_units', '')} "
        f"{unit}{'' if unit.endswith('s') else 's'}.",
        table=metrics_table(by_method, unit=unit),
        methods=tuple(_method(bench, name) for name in methods),
        controls=tuple(map(_words, controls)),
        recommendation=_words(f"Look at {advice['method']} first. {advice['reason']}")
        if advice.get("method")
        else str(advice.get("reason", "")),
        limits=tuple(_words(str(one)) for one in advice.get("limits") or ()),
        warnings=tuple(map(str, bench.get("warnings") or ())),
        refused=tuple((name, str(why)) for name, why in (bench.get("refused") or {}).items()),
        settings=plain(bench.get("settings") or {}),
        figures=(*_ranks(bench, methods), *_removal(bench, methods=methods, controls=controls)),
    )


def _ranks(bench: Object, methods: list[str]) -> Iterator[Figure]:
    """Draw each method's mean place over the tests, from its best to its worst."""
    ranks: Mapping[str, Object] = bench.get("ranks") or {}
    specific: Mapping[str, bool] = bench.get("class_specific") or {}
    drawn = [name for name in methods if name in ranks]
    if len(drawn) < 2:
        return
    rows = [
        (
            _words(name),
            float(ranks[name]["mean"]),
            float(ranks[name]["best"]),
            float(ranks[name]["worst"]),
            0 if specific.get(name) else QUIET,
        )
        for name in drawn
    ]
    words = "; ".join(
        f"{name} {mean:.1f} ({best:g} to {worst:g})" for name, mean, best, worst, _ in rows
    )
    yield Figure(
        name="Ranks over the tests",
        drawing=bars(
            rows,
            title=f"Mean rank, best and worst: {words}.",
            scale=nice_axis("rank", [1, len(drawn)], whole=True),
        ),
        caption="Dot: mean place over the tests of faithfulness; line: from the best place to the "
        "worst. 1 is best. Lines that overlap: the tests do not agree on one winner. Grey: knows "
        "no class.",
    )


def _removal(bench: Object, *, methods: list[str], controls: tuple[str, ...]) -> Iterator[Figure]:
    """Draw what is left of the class while patches are hidden, most and least relevant first."""
    stored: Mapping[str, Any] = bench.get("curves") or {}
    fractions = [float(value) for value in stored.get("fractions") or ()]
    for hiding, curves in stored.items():
        if hiding == "fractions":
            continue
        drawn = [name for name in (*methods[:_SHOWN], *controls[:1]) if name in curves]
        for order in ("most", "least"):
            lines = [
                _curve(name, curves[name][order], fractions=fractions, style=place)
                for place, name in enumerate(drawn)
            ]
            name = f"Hiding by {_words(hiding)}, {order} relevant first"
            good = "falls early" if order == "most" else "stays high for long"
            values = [end for line in lines for _, low, high in line.band for end in (low, high)]
            yield Figure(
                name=name,
                drawing=chart(
                    lines,
                    x=Axis(name="share of the patches hidden", low=0.0, high=1.0, ticks=UNIT),
                    y=nice_axis("what is left of the class", [0.0, *values]),
                    title=f"{name}.",
                ),
                caption=f"A map that found what matters {good}. The removal gain is the area "
                f"between the two orders. Shaded: 95\N{NO-BREAK SPACE}% interval.",
                csv=_removal_csv(curves, order, fractions=fractions),
            )


def _curve(
    name: str, steps: Sequence[Sequence[float]], *, fractions: Sequence[float], style: int
) -> Series:
    """Make a line of its steps ``[height, low, high]``."""
    return Series(
        name=_words(name),
        points=[(x, step[0]) for x, step in zip(fractions, steps, strict=False)],
        style=style,
        band=[(x, step[1], step[2]) for x, step in zip(fractions, steps, strict=False)],
    )


def _removal_csv(curves: Mapping[str, Any], order: str, *, fractions: Sequence[float]) -> str:
    """Write the curves of every method, the drawn ones and the others."""
    rows = [
        (name, x, *step)
        for name, both in curves.items()
        for x, step in zip(fractions, both[order], strict=False)
    ]
    return csv_address(("method", "share_hidden", "height", "low", "high"), rows)


def _method(bench: Object, name: str) -> tuple[str, bool | None, bool | None, str, str]:
    """Gather what stands in one row of the methods' table."""
    rank: Object = (bench.get("ranks") or {}).get(name) or {}
    cost: Object = (bench.get("costs") or {}).get(name) or {}
    return (
        name,
        (bench.get("class_specific") or {}).get(name),
        (bench.get("randomization_passed") or {}).get(name),
        f"{rank['mean']:.1f} ({rank['best']:g} to {rank['worst']:g})" if rank else "",
        f"{cost['forwards']:.1f} forward passes" if cost else "",
    )
