"""The page's tables of cases and choices, and how numbers and names are written in all of them."""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from vitrail.records import label_names
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
    "calibration_intercept": "Calibration intercept",
    "calibration_slope": "Calibration slope",
    "precision_at_prevalence": "PPV at the stated prevalence",
    "negative_predictive_value_at_prevalence": "NPV at the stated prevalence",
    "exact_match": "All labels right",
}
"""How the page calls the metrics; the headline comes first."""

MODEL_NAMES = {"vit": "Vision Transformer", "cnn": "CNN baseline"}
"""How the page calls the models of a run."""

NOT_DEFINED = "not defined"


def metric_name(metric: str) -> str:
    """Name a metric for people."""
    named = METRICS.get(metric, metric.replace("_", " "))
    return named[:1].upper() + named[1:]


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


def signed(value: float, *, digits: int = 2) -> str:
    """Write a difference with its sign.

    Example:
        >>> signed(0.0249)
        '+0.02'
    """
    text = number(value, digits=digits)
    return text if value < 0 and text[0] == "\N{MINUS SIGN}" else f"+{text}"


def interval(estimate: Object, *, digits: int = 3) -> str:
    """Write a 95 % interval, empty where there is none."""
    low, high = estimate.get("low"), estimate.get("high")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return ""
    return f"{number(low, digits=digits)} to {number(high, digits=digits)}"


def percent(share: float) -> str:
    """Write a share in percent, with as many digits as it has.

    Example:
        >>> percent(0.025).replace(chr(160), " ")
        '2.5 %'
    """
    return f"{100 * share:g}\N{NO-BREAK SPACE}%"


def csv_address(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
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
    labels = tuple(sorted({name for row in used for name in label_names(row.get("label", ""))}))
    parts = []
    for part in ("train", "validation", "test", ""):
        rows = [row for row in used if contents.parts.get(row["case_id"], "") == part]
        count = Counter(name for row in rows for name in label_names(row.get("label", "")))
        counts = tuple(count[label] for label in labels)
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
