"""Paired comparisons of models, in the record's words and numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitrail.report.contents import Object
from vitrail.report.headline import cell
from vitrail.report.tables import csv_address, model_name, number


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
    rows = [[cell(one, column) for column in columns] for one in stated]
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
