"""Several runs on the same test cases become one page, of the same make as a run's report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitrail.errors import InputError, RunFolderError
from vitrail.report import figures
from vitrail.report.charts import QUIET, drawn
from vitrail.report.contents import Contents, Object, read
from vitrail.report.curves import Subject, curve_figures
from vitrail.report.differences import comparison, comparisons, comparisons_csv
from vitrail.report.disagreement import disagreement
from vitrail.report.headline import Headline, metrics_table
from vitrail.report.page import hashes, panes, templates, title
from vitrail.report.sentences import HEADLINE, unit
from vitrail.report.tables import choices, interval, metric_name, model_name, number
from vitrail.runfolder import RunFolder, read_json

_SECTIONS = (
    ("summary", "Summary"),
    ("results", "Results"),
    ("differences", "Differences"),
    ("cases", "Cases"),
    ("plans", "Plans"),
    ("limits", "Limits"),
    ("making", "Making"),
)
Runs = Mapping[str, Contents]
"""The runs by the name that the page gives them."""


def build(
    runs: Sequence[RunFolder], *, compared: Path | None = None, folder: Path | None = None
) -> str:
    """Make the page that sets runs side by side.

    Args:
        runs: At least two runs that were tested on the same cases.
        compared: ``compare.json`` (its schema is in ``schemas``), which holds the paired
            differences; without it the page says that they are missing.
        folder: Where the page will lie; its cases lead from there to the runs' reports.

    Returns:
        A whole HTML page; the same folders always give the same text.

    Raises:
        InputError: If there are fewer than two runs, or one is given twice.
        RunFolderError: If a run was not evaluated, or was tested on other cases or by another unit.
    """
    named = _named(runs)
    _check(named)
    record = {} if compared is None else _record(compared, named)
    stated = record.get("comparisons", ())
    first = next(iter(named.values()))
    name = _naming(named)
    return (
        templates()
        .get_template("compare.html")
        .render(
            kind="comparison of runs",
            source="the run folders",
            title=title(first),
            byline=" \N{MIDDLE DOT} ".join(named),
            emblem=figures.window(panes(first)),
            sections=_SECTIONS,
            names=tuple(named),
            summary=_summary(named, stated, name=name),
            warnings=record.get("warnings", ()),
            unit=first.evaluation["unit"],
            table=side_by_side(named),
            throughput=record.get("throughput"),
            own={run: name(run) for run in named},
            curves=curve_figures(_subjects(named)),
            comparisons=comparisons(stated, name=name),
            comparisons_csv=comparisons_csv(stated),
            parted=disagreement(named, folder=folder),
            choices=differing_choices(named),
            limits=_limits(named),
            made=[
                (name, one.environment.get("command", ""), hashes(one))
                for name, one in named.items()
            ],
        )
    )


def names_of(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Name each run by its folder, with as many parents as it takes to tell them apart.

    Raises:
        InputError: If there are fewer than two runs, or one is given twice.
    """
    places = [run.root.resolve() for run in runs]
    if len(set(places)) < max(2, len(places)):
        came = ", ".join(str(run.root) for run in runs) or "none"
        rule = "a comparison takes two or more different runs"
        raise InputError("runs", came, rule, "name each run folder once")
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = tuple("/".join(place.parts[-depth:]) for place in places)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, places))


def _named(runs: Sequence[RunFolder]) -> Runs:
    """Read the runs."""
    return {name: read(run) for name, run in zip(names_of(runs), runs, strict=True)}


def _check(runs: Runs) -> None:
    """Refuse runs that cannot be compared, and say why."""
    for one in runs.values():
        if not one.truth or not one.evaluation.get("sets", {}).get("test"):
            raise RunFolderError(
                str(one.run.root),
                "it was not evaluated",
                "runs are compared by their predictions on the test cases",
                "run `vitrail evaluate` on it",
            )
    first, *others = runs.values()
    for one in others:
        odd = sorted(set(first.truth.items()) ^ set(one.truth.items()))
        if odd:
            raise RunFolderError(
                str(one.run.root),
                f"its test set differs from that of {first.run.root} in "
                f"{len({case_id for case_id, _ in odd})} cases or their labels, like {odd[0][0]}",
                "runs are compared on the same test cases",
                "plan one of them anew with the split.csv of the other",
            )
        if one.evaluation.get("unit") != first.evaluation.get("unit"):
            raise RunFolderError(
                str(one.run.root),
                f"its numbers are by {one.evaluation.get('unit')}, those of {first.run.root} by "
                f"{first.evaluation.get('unit')}",
                "runs are compared by the same unit of analysis",
                "run `vitrail evaluate` on both with the same patients",
            )


def _record(path: Path, runs: Runs) -> Object:
    """Read ``compare.json``, and refuse one that was made of other runs."""
    content = read_json(path)
    stated = content.get("runs", ()) if isinstance(content, dict) else ()
    names = [str(one) for one in stated]
    if not isinstance(content, dict) or set(names) != set(runs):
        raise RunFolderError(
            str(path),
            f"it compares {', '.join(names) or 'no runs'}",
            f"it is about {', '.join(runs)}",
            "run `vitrail compare` on these runs",
        )
    return content


def _naming(runs: Runs) -> Callable[[str], str]:
    """Return how ``<run>`` or ``<run>/<model>`` of ``compare.json`` is called on the page."""
    names = {run: _label(run, one, one.models[0]) for run, one in runs.items()}
    names |= {
        f"{run}/{model}": _label(run, one, model)
        for run, one in runs.items()
        for model in one.models
    }
    return lambda name: names.get(name, model_name(name))


def _label(run: str, contents: Contents, model: str) -> str:
    """Name a model of a run; the run's own by its architecture, where the plan names one."""
    planned = str(contents.plan.get("model", {}).get("value", "vit"))
    named = planned if model == "vit" and planned != "vit" else model_name(model)
    return f"{run}: {named}"


def side_by_side(runs: Runs) -> Headline:
    """Set the metrics of every model of every run in one table."""
    evaluated: dict[str, Any] = {
        _label(name, one, model): one.evaluation["sets"]["test"][model]
        for name, one in runs.items()
        for model in one.models
        if model in one.evaluation["sets"]["test"]
    }
    first = next(iter(runs.values()))
    return metrics_table(evaluated, unit=first.evaluation.get("unit", "image"))


def _subjects(runs: Runs) -> list[Subject]:
    """Take each run's own model for the curves."""
    return [
        Subject(
            name=_label(name, one, one.models[0]),
            style=place % QUIET,
            curves=curves,
            positive=one.evaluation.get("positive_class"),
        )
        for place, (name, one) in enumerate(runs.items())
        if (curves := drawn(one, one.models[0]))
    ]


def _summary(
    runs: Runs, stated: Sequence[Object], *, name: Callable[[str], str]
) -> tuple[str, ...]:
    """Say what each run's own model reached, and what the paired differences show."""
    first = next(iter(runs.values()))
    tests = {
        run: one.evaluation["sets"]["test"].get(one.models[0], {}) for run, one in runs.items()
    }
    metric = next((m for m in HEADLINE if all(m in test for test in tests.values())), None)
    count = next((one["n"] for one in next(iter(tests.values())).values()), len(first.truth))
    opening = f"{len(runs)} runs were tested on the same {count} {unit(first, count)}."
    if metric is None:
        return (opening,)
    reached = "; ".join(
        f"{run} {number(test[metric].get('value'))} ({interval(test[metric]) or 'no interval'})"
        for run, test in tests.items()
    )
    told = [comparison(one, name=name) for one in stated if one.get("metric") == metric]
    if len(told) > 3:
        told = [f"The {len(told)} paired differences in it stand below."]
    return (opening, f"{metric_name(metric)} of each run's own model: {reached}.", *told)


def differing_choices(runs: Runs) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """List the plan's choices that are not the same in all runs: (choice, value a run)."""
    plans = [{one.name: one.value for one in choices(contents)} for contents in runs.values()]
    names = dict.fromkeys(name for plan in plans for name in plan)
    rows = ((name, tuple(plan.get(name, "\N{EN DASH}") for plan in plans)) for name in names)
    return tuple((name, values) for name, values in rows if len(set(values)) > 1)


def _limits(runs: Runs) -> tuple[str, ...]:
    """List what a comparison on one test set does not say."""
    device = "This is a research result, not a medical device: do not diagnose or treat with it."
    best = (
        f"{len(runs)} runs looked at these test cases. Whoever keeps the best of them and reports "
        "its number reports one that is too good: confirm it on cases that no run has seen."
    )
    overlap = (
        "Two intervals that overlap do not show that two runs are alike; only the paired "
        "differences speak of differences, and no evidence of one is not evidence of none."
    )
    return device, best, overlap
