"""The evaluation becomes tables and sentences: metrics of every set, operating points, doubt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.report.charts import Figure, drawn, style_of
from vitrail.report.contents import Contents, Object
from vitrail.report.curves import Subject, curve_figures
from vitrail.report.headline import Headline, metrics_table
from vitrail.report.subgroup import Subgroup, subgroups
from vitrail.report.tables import model_name, number, percent

OWN_SETS = frozenset({"train", "validation", "test"})
"""Sets of the run's own split; any other came from elsewhere."""


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
    subgroups: tuple[Subgroup, ...]


def external_sets(contents: Contents) -> tuple[External, ...]:
    """Gather every evaluated set that is no part of the run's own split."""
    stated: Mapping[str, Any] = contents.evaluation.get("sets") or {}
    found = []
    for part in stated:
        table = headline(contents, part=part)
        if part not in OWN_SETS and table is not None:
            figures = curve_figures(subjects(contents, part=part), part=f"{part} set")
            grouped = subgroups(contents.evaluation.get(f"{part}_subgroups") or {})
            found.append(External(name=part, table=table, figures=figures, subgroups=grouped))
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


def openings(contents: Contents) -> str:
    """Say how often the test set was opened, where it was counted, and what was chosen from."""
    opened = contents.evaluation.get("test_openings") or 0
    if not opened:
        return ""
    tried = contents.evaluation.get("configurations_tried") or 1
    counted = f"The test set was opened {'once' if opened == 1 else f'{opened} times'}."
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
