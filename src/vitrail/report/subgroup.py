"""How the models serve groups of cases: by site, scanner, sex, age."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitrail.report.contents import Object
from vitrail.report.headline import cell
from vitrail.report.tables import csv_address, metric_name, number

SHOWN = ("roc_auc_score", "balanced_accuracy", "sensitivity", "specificity")


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


def subgroups(stated: Mapping[str, Any]) -> tuple[Subgroup, ...]:
    """List the subgroups of every column and model of one set."""
    return tuple(
        Subgroup(
            column=column,
            model=model,
            metrics=SHOWN,
            rows=tuple(
                (name, tuple(metrics.get(metric) or {} for metric in SHOWN))
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
        (group, metric, *(cell(one, column) for column in columns))
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
