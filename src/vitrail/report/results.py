"""The evaluation becomes tables: metrics of every set, comparisons, subgroups, operating points."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.report.charts import Figure, drawn, style_of
from vitrail.report.contents import Contents, Object
from vitrail.report.curves import Subject, curve_figures
from vitrail.report.tables import (
    METRICS,
    csv_address,
    metric_name,
    model_name,
    number,
    percent,
)

OWN_SETS = frozenset({"train", "validation", "test"})
"""Sets of the run's own split; any other came from elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A table of metrics: one row a metric, one column a model.

    Attributes:
        models: Names of the models.
        rows: (metric, one estimate a model or None).
        notes: What has to be said of the numbers: how intervals were made, why some are missing.
            The first is of most numbers, which carry no mark.
        csv: The same table at full precision, as a ``data:`` address.
    """

    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Object | None, ...]], ...]
    notes: tuple[str, ...]
    csv: str

    def note(self, estimate: Object | None) -> str:
        """Return the marks of the notes on an estimate."""
        own = list(_notes(estimate))
        return ", ".join(
            str(place) for place, note in enumerate(self.notes) if place and note in own
        )


def _notes(estimate: Object | None) -> Iterator[str]:
    """Say how an interval was made, and why a number or an interval is missing."""
    method, reason = (str((estimate or {}).get(key) or "") for key in ("method", "reason"))
    if method and method != "none":
        yield f"Interval: {method}."
    if reason:
        yield f"{reason[0].upper()}{reason[1:]}."


def metrics_table(evaluated: Mapping[str, Object], *, unit: str) -> Headline:
    """Lay out the metrics of models on one set of cases.

    Args:
        evaluated: ``evaluated[model][metric]``, in the order of the columns.
        unit: Unit of analysis, for the file.
    """
    metrics = sorted(
        {metric for one in evaluated.values() for metric in one},
        key=lambda metric: (_rank(metric), metric),
    )
    rows = tuple((m, tuple(one.get(m) for one in evaluated.values())) for m in metrics)
    notes = [note for _, row in rows for one in row for note in _notes(one)]
    return Headline(
        models=tuple(evaluated),
        rows=rows,
        notes=tuple(note for note, _ in Counter(notes).most_common()),
        csv=csv_address(
            ("metric", "model", "value", "low", "high", "n", "unit", "spread", "method", "reason"),
            [
                (
                    metric,
                    model,
                    *(_cell(one, key) for key in ("value", "low", "high", "n")),
                    unit,
                    *(_cell(one, key) for key in ("spread", "method", "reason")),
                )
                for metric, row in rows
                for model, one in zip(evaluated, row, strict=True)
            ],
        ),
    )


def headline(contents: Contents, *, part: str = "test", kind: str = "sets") -> Headline | None:
    """Gather the metrics of one part of the split, or None where there are none.

    Args:
        contents: The run.
        part: Part of the split.
        kind: ``sets`` (the headline), ``image_level`` or ``calibrated``.
    """
    evaluated: Mapping[str, Any] = (contents.evaluation.get(kind) or {}).get(part, {})
    own = {model: evaluated[model] for model in contents.models if model in evaluated}
    unit = "image" if kind == "image_level" else contents.evaluation.get("unit", "image")
    return metrics_table(own, unit=unit) if own else None


def _rank(metric: str) -> int:
    """Place a metric in the table."""
    known = list(METRICS)
    return known.index(metric) if metric in known else len(known)


def _cell(estimate: Object | None, key: str) -> object:
    """Return a value for the table's file, empty where it is not defined."""
    value = (estimate or {}).get(key)
    return "" if value is None else value


def side_tables(contents: Contents) -> tuple[tuple[str, Headline], ...]:
    """Gather the tables that stand beside the headline, each with what it is."""
    tables = (
        ("The same test set image by image", headline(contents, kind="image_level")),
        (
            "The same test set after temperature scaling (fitted on validation)",
            headline(contents, kind="calibrated"),
        ),
        (
            "The same test set after vector scaling (fitted on validation)",
            headline(contents, kind="vector_scaled"),
        ),
        (
            "The validation set (it chose the epoch and the threshold, so these are too good)",
            headline(contents, part="validation"),
        ),
    )
    return tuple((name, table) for name, table in tables if table is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """What the models reached on cases from elsewhere."""

    name: str
    table: Headline
    figures: tuple[Figure, ...]


def external_sets(contents: Contents) -> tuple[External, ...]:
    """Gather every evaluated set that is no part of the run's own split."""
    stated: Mapping[str, Any] = contents.evaluation.get("sets") or {}
    found = []
    for part in stated:
        table = headline(contents, part=part)
        if part not in OWN_SETS and table is not None:
            figures = curve_figures(subjects(contents, part=part), part=f"{part} set")
            found.append(External(name=part, table=table, figures=figures))
    return tuple(found)


def subjects(contents: Contents, *, part: str = "test") -> tuple[Subject, ...]:
    """Gather the models whose curves were measured on one set."""
    return tuple(
        Subject(
            name=model_name(model),
            style=style_of(contents, model),
            curves=curves,
            positive=contents.evaluation.get("positive_class"),
        )
        for model in contents.models
        if (curves := drawn(contents, model, part=part))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One paired comparison, as the page tells it."""

    sentence: str
    p_value: str
    p_value_holm: str
    exact: str
    method: str


def comparisons(
    stated: Sequence[Object], *, name: Callable[[str], str] = model_name
) -> tuple[Compared, ...]:
    """Tell paired comparisons in the record's order; ``name`` says what the page calls a model."""
    return tuple(
        Compared(
            sentence=comparison(one, name=name),
            p_value=probability(one.get("p_value")),
            p_value_holm=probability(one.get("p_value_holm")),
            exact=f"{one['exact_test']} {probability(one.get('exact_p_value'))}"
            if one.get("exact_test")
            else "",
            method=str(one.get("method") or ""),
        )
        for one in stated
    )


def comparisons_csv(stated: Sequence[Object]) -> str:
    """Write paired comparisons at full precision, as a ``data:`` address; empty without any."""
    names = "a b metric difference low high p_value p_value_holm exact_p_value exact_test method"
    columns = names.split()
    rows = [[_cell(one, column) for column in columns] for one in stated]
    return csv_address(columns, rows) if rows else ""


def comparison(one: Object, *, name: Callable[[str], str] = model_name) -> str:
    """Tell a comparison in the record's sentence, the models called as the page calls them."""
    text = str(one.get("sentence", "")).strip()
    first, second = str(one.get("a")), str(one.get("b"))
    opening = f"{first} against {second}"
    if text.startswith(opening):
        text = f"{name(first)} against {name(second)}{text.removeprefix(opening)}"
        text = text.replace(f": {first} is ", f": {name(first)} is ", 1)
    return text if text.endswith(".") else f"{text}."


def probability(value: object) -> str:
    """Write a p-value: never as zero, a dash where there is none.

    Example:
        >>> probability(0.0421)
        '0.042'
    """
    if not isinstance(value, int | float):
        return "\N{EN DASH}"
    return "<\N{NO-BREAK SPACE}0.001" if value < 0.001 else number(value)


def operating_points(contents: Contents) -> tuple[str, ...]:
    """Say at which threshold each model decides, and how it was chosen."""
    stated: Mapping[str, Any] = contents.evaluation.get("operating_points") or {}
    said = []
    for model in contents.models:
        points = stated.get(model) or ()
        known = [number(one["threshold"]) for one in points if one.get("threshold") is not None]
        rules = dict.fromkeys(str(one.get("rule", "")) for one in points)
        if known:
            each = "" if len(known) == 1 else ", one a training"
            said.append(
                f"{model_name(model)} decides at {', '.join(known)} ({'; '.join(rules)}{each})"
            )
    return tuple(said)


def deciding(contents: Contents) -> str:
    """Say from which mean probability the gallery's decisions are for the positive class."""
    known = [
        f"{number(threshold)} ({model_name(model)})"
        for model in contents.models
        if (threshold := contents.threshold(model)) is not None
    ]
    positive = contents.evaluation.get("positive_class")
    if not known or positive not in contents.classes:
        return ""
    return f"“{positive}” is decided from a probability of {', '.join(known)} up."


_SUBGROUP_METRICS = ("roc_auc_score", "balanced_accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """One model in the groups of one column.

    Attributes:
        column: What the cases are grouped by.
        model: Name of the model.
        metrics: Names of the shown metrics.
        rows: (group, one estimate a metric).
        gap: The largest gap in words, empty where there is none.
        csv: Every metric of every group at full precision, as a ``data:`` address.
    """

    column: str
    model: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Object, ...]], ...]
    gap: str
    csv: str


def subgroups(contents: Contents) -> tuple[Subgroup, ...]:
    """List the subgroups of every column and model."""
    stated: Mapping[str, Any] = contents.evaluation.get("subgroups") or {}
    return tuple(
        Subgroup(
            column=column,
            model=model,
            metrics=_SUBGROUP_METRICS,
            rows=tuple(
                (name, tuple(metrics.get(metric) or {} for metric in _SUBGROUP_METRICS))
                for name, metrics in one["groups"].items()
            ),
            gap=_gap(one.get("gap") or {}),
            csv=_groups_csv(one["groups"]),
        )
        for column, models in stated.items()
        for model, one in models.items()
    )


def _groups_csv(groups: Mapping[str, Object]) -> str:
    """Write every metric of every group."""
    columns = ("value", "low", "high", "n", "spread", "method", "reason")
    rows = [
        (group, metric, *(_cell(one, column) for column in columns))
        for group, metrics in groups.items()
        for metric, one in metrics.items()
    ]
    return csv_address(("group", "metric", *columns), rows)


def _gap(gap: Object) -> str:
    """Name the largest gap between groups."""
    if not gap:
        return ""
    return (
        f"Largest gap in {metric_name(gap['metric']).lower()}: {number(gap['gap'])} "
        f"({gap['high']} above {gap['low']})."
    )


def openings(contents: Contents) -> str:
    """Say how often the test set was opened, where it was counted, and what was chosen from."""
    opened = contents.evaluation.get("test_openings") or 0
    if not opened:
        return ""
    tried = contents.evaluation.get("configurations_tried") or 1
    counted = f"The test set was opened {opened} time{'s' * (opened != 1)}."
    if tried == 1:
        return f"{counted} Configurations tried: 1, nothing was tuned."
    return f"{counted} Configurations tried: {tried}; validation cases chose this one."


def prevalence(contents: Contents) -> str:
    """Say what the predictive values at a stated prevalence mean, where they are stated."""
    share = contents.evaluation.get("prevalence")
    if share is None:
        return ""
    return (
        f"PPV and NPV at the stated prevalence are those that the same sensitivity and specificity "
        f"give where {percent(share)} of the people have “{contents.evaluation['positive_class']}” "
        "(by Bayes)."
    )


def by_class(contents: Contents, *, part: str = "test") -> tuple[tuple[str, Headline], ...]:
    """Gather each model's metrics of every class or label, where there are more than two."""
    stated: Mapping[str, Any] = (contents.evaluation.get("by_class") or {}).get(part, {})
    unit = contents.evaluation.get("unit", "image")
    return tuple(
        (model_name(model), metrics_table(stated[model], unit=unit))
        for model in contents.models
        if stated.get(model)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """When the models had better not decide.

    Attributes:
        table: Prediction sets and abstention, counted on the test set.
        promises: What was promised from validation cases, in words.
    """

    table: Headline
    promises: tuple[str, ...]


def doubt(contents: Contents) -> Doubt | None:
    """Gather prediction sets and abstention, or None where they were not made."""
    stated: Mapping[str, Any] = contents.evaluation.get("uncertainty") or {}
    own = {model: stated[model] for model in contents.models if model in stated}
    if not own:
        return None
    sets, rests = ([one[key] for one in own.values()] for key in ("conformal", "abstention"))
    error, risk = percent(sets[0]["error"]), percent(rests[0]["risk"])
    promise = (
        "A prediction set names every class that cannot be ruled out; it was made on validation "
        f"cases so that it misses the truth of at most {error} of each class. Abstaining below a "
        f"confidence was to leave at most {risk} wrong decisions."
    )
    broken = [
        f"{model_name(model)}: no confidence kept that promise on the validation cases."
        for model, one in own.items()
        if one["abstention"]["threshold"] is None
    ]
    return Doubt(
        table=metrics_table(
            {model: dict(_kept(one)) for model, one in own.items()},
            unit=contents.evaluation.get("unit", "image"),
        ),
        promises=(promise, *broken),
    )


def _kept(one: Object) -> Iterator[tuple[str, Object]]:
    """Name what was counted."""
    wilson = {"method": "Wilson"}
    sets, rest = one["conformal"], one["abstention"]
    for name, share in sets["coverage"].items():
        yield f"sets that hold the truth: {name}", share | wilson
    for key, name in (("single", "sets of one class"), ("empty", "empty sets")):
        yield name, sets[key] | wilson
    for key, name in (
        ("decided", "decided when abstaining"),
        ("wrong", "wrong among the decided"),
    ):
        if key in rest:
            yield name, rest[key] | wilson


def shortcut_sentences(contents: Contents) -> tuple[str, ...]:
    """Set each model beside the strongest trivial feature, in the record's words."""
    said = []
    for one in contents.evaluation.get("shortcuts") or ():
        model = str(one["model"])
        text = str(one["sentence"]).removeprefix(model)
        said.append(f"{model_name(model)}{text}.")
    return tuple(said)
