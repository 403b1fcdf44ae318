"""The page's tables: metrics with intervals, flow of cases, choices of the plan."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from vitrail.report.contents import Contents, Object

METRICS = {
    "roc_auc_score": "ROC AUC",
    "average_precision_score": "Average precision",
    "accuracy": "Accuracy",
    "accuracy_score": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "balanced_accuracy_score": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "sensitivity_score": "Sensitivity",
    "specificity": "Specificity",
    "specificity_score": "Specificity",
    "precision": "Precision (PPV)",
    "precision_score": "Precision (PPV)",
    "negative_predictive_value": "Negative predictive value",
    "negative_predictive_value_score": "Negative predictive value",
    "f1": "F1",
    "f1_score": "F1",
    "f1_macro": "Macro F1",
    "f1_weighted": "Weighted F1",
    "matthews_corrcoef": "Matthews correlation",
    "cohen_kappa_score": "Cohen's kappa",
    "brier_score_loss": "Brier score",
    "log_loss": "Log loss",
    "expected_calibration_error": "Expected calibration error",
    "adaptive_calibration_error": "Adaptive calibration error",
}
"""How the page calls the metrics; the headline comes first."""

MODEL_NAMES = {"vit": "Vision Transformer", "cnn": "CNN baseline"}
"""How the page calls the models of a run."""

NOT_DEFINED = "not defined"


def metric_name(metric: str) -> str:
    """Name a metric for people."""
    return METRICS.get(metric, metric.replace("_", " ").capitalize())


def model_name(model: str) -> str:
    """Name a model for people."""
    return MODEL_NAMES.get(model, model)


def lower_is_better(metric: str) -> bool:
    """Tell a metric's direction from its name."""
    return metric.endswith(("_loss", "_error"))


def number(value: object, *, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals and a true minus sign.

    Example:
        >>> number(0.91249), number(12, digits=1), number(None)
        ('0.912', '12.0', 'not defined')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NOT_DEFINED
    text = f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.removeprefix("-")


def interval(estimate: Object, *, digits: int = 3) -> str:
    """Write a 95 % interval, empty where there is none."""
    low, high = estimate.get("low"), estimate.get("high")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return ""
    return f"{number(low, digits=digits)} to {number(high, digits=digits)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The table of metrics: one row a metric, one pair of columns a model.

    Attributes:
        models: Names of the models.
        rows: (metric, one estimate a model or None).
        methods: Numbered notes: how the intervals were made.
        csv: The same table at full precision, as a ``data:`` address.
    """

    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Object | None, ...]], ...]
    methods: tuple[str, ...]
    csv: str

    def note(self, estimate: Object | None) -> str:
        """Return the number of the note on how this interval was made."""
        method = (estimate or {}).get("method")
        return str(self.methods.index(method) + 1) if method in self.methods else ""


def headline(contents: Contents, *, part: str = "test", kind: str = "sets") -> Headline | None:
    """Gather the metrics of one part of the split, or None where there are none.

    Args:
        contents: The run.
        part: Part of the split.
        kind: ``sets`` (the headline), ``image_level`` or ``calibrated``.
    """
    evaluated: Mapping[str, Any] = (contents.evaluation.get(kind) or {}).get(part, {})
    models = tuple(model for model in contents.models if model in evaluated)
    if not models:
        return None
    metrics = sorted(
        {metric for model in models for metric in evaluated[model]},
        key=lambda metric: (_rank(metric), metric),
    )
    rows = tuple(
        (metric, tuple(evaluated[model].get(metric) for model in models)) for metric in metrics
    )
    found = [str(one["method"]) for _, row in rows for one in row if one and one.get("method")]
    unit = "image" if kind == "image_level" else contents.evaluation.get("unit", "image")
    return Headline(
        models=models,
        rows=rows,
        methods=tuple(dict.fromkeys(found)),
        csv=_csv(
            ("metric", "model", "value", "low", "high", "n", "unit", "method"),
            [
                (
                    metric,
                    model,
                    *(_cell(one, key) for key in ("value", "low", "high", "n")),
                    unit,
                    _cell(one, "method"),
                )
                for metric, row in rows
                for model, one in zip(models, row, strict=True)
            ],
        ),
    )


def _rank(metric: str) -> int:
    """Place a metric in the table."""
    known = list(METRICS)
    return known.index(metric) if metric in known else len(known)


def _cell(estimate: Object | None, key: str) -> object:
    """Return a value for the table's file, empty where it is not defined."""
    value = (estimate or {}).get(key)
    return "" if value is None else value


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table as a ``data:`` address."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return f"data:text/csv;charset=utf-8,{quote(stream.getvalue())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How many cases came in, which were left out and why, and where the others went.

    Attributes:
        found: Cases in the folder or the manifest.
        unreadable: (file, reason) of those left out.
        used: Cases that the run works with.
        classes: Class names.
        parts: (part of the split, count, count a class).
    """

    found: int
    unreadable: tuple[tuple[str, str], ...]
    used: int
    classes: tuple[str, ...]
    parts: tuple[tuple[str, int, tuple[int, ...]], ...]


def flow(contents: Contents) -> Flow:
    """Count the cases on their way."""
    unreadable = tuple(_unreadable(one) for one in contents.audit.get("unreadable", ()))
    left_out = {name for name, _ in unreadable}
    used = [
        row
        for case_id, row in contents.cases.items()
        if case_id not in left_out and row.get("path") not in left_out
    ]
    labels = tuple(sorted({row.get("label", "") for row in used}))
    parts = []
    for part in ("train", "validation", "test", ""):
        rows = [row for row in used if contents.parts.get(row["case_id"], "") == part]
        counts = tuple(sum(row.get("label") == label for row in rows) for label in labels)
        if rows:
            parts.append((part or "not in the split", len(rows), counts))
    listed = len(used) + len(unreadable)
    return Flow(
        found=max(listed, len(contents.cases)),
        unreadable=unreadable,
        used=len(used),
        classes=labels,
        parts=tuple(parts),
    )


def _unreadable(one: object) -> tuple[str, str]:
    """Read an entry of the audit's list: a name, or an object with a reason."""
    if not isinstance(one, Mapping):
        return str(one), ""
    name = next((one[key] for key in ("case_id", "path", "file") if key in one), "unnamed")
    reason = next((one[key] for key in ("reason", "problem", "error", "message") if key in one), "")
    return str(name), str(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice of the plan, in words."""

    name: str
    value: str
    reason: str


def choices(contents: Contents) -> tuple[Choice, ...]:
    """List the plan's choices, the timing left to its own table."""
    return tuple(
        Choice(
            name=name.replace("_", " "),
            value=plain(entry.get("value") if isinstance(entry, Mapping) else entry),
            reason=str(entry.get("reason", "")) if isinstance(entry, Mapping) else "",
        )
        for name, entry in contents.plan.items()
        if name not in {"expected_minutes", "data"}
    )


def plain(value: object) -> str:
    """Write a value of YAML or JSON without brackets and quotes."""
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return " \N{MULTIPLICATION SIGN} ".join(plain(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def minutes(contents: Contents) -> tuple[tuple[str, float | None, float | None], ...]:
    """Set the expected minutes of each stage beside the used ones."""
    entry = contents.plan.get("expected_minutes") or {}
    expected = entry.get("value", entry) if isinstance(entry, Mapping) else {}
    stages = contents.environment.get("stages", {})
    used = {
        name: float(stage["seconds"]) / 60
        for name, stage in stages.items()
        if name not in {"report", "run"} and "seconds" in stage
    }
    names = list(dict.fromkeys([*expected, *used]))
    return tuple(
        (name, float(expected[name]) if name in expected else None, used.get(name))
        for name in names
    )


def side_tables(contents: Contents) -> tuple[tuple[str, Headline], ...]:
    """Gather the tables that stand beside the headline, each with what it is."""
    tables = (
        ("The same test set image by image", headline(contents, kind="image_level")),
        (
            "The same test set after temperature scaling (fitted on validation)",
            headline(contents, kind="calibrated"),
        ),
        (
            "The validation set (it chose the epoch and the threshold, so these are too good)",
            headline(contents, part="validation"),
        ),
    )
    return tuple((name, table) for name, table in tables if table is not None)


def operating_points(contents: Contents) -> tuple[str, ...]:
    """Say at which threshold each model decides, and how it was chosen."""
    stated: Mapping[str, Any] = contents.evaluation.get("operating_points") or {}
    said = []
    for model in contents.models:
        points = stated.get(model) or ()
        known = [number(one["threshold"]) for one in points if one.get("threshold") is not None]
        rules = dict.fromkeys(str(one.get("rule", "")) for one in points)
        if known:
            said.append(f"{model_name(model)}: {', '.join(known)} ({'; '.join(rules)})")
    return tuple(said)


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
    """

    column: str
    model: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Object, ...]], ...]
    gap: str


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
        )
        for column, models in stated.items()
        for model, one in models.items()
    )


def _gap(gap: Object) -> str:
    """Name the largest gap between groups."""
    if not gap:
        return ""
    return (
        f"Largest gap in {metric_name(gap['metric']).lower()}: {number(gap['gap'])} "
        f"({gap['high']} above {gap['low']})."
    )
