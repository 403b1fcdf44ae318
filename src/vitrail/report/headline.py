"""The table of metrics: one row a metric, one column a model, and what has to be said of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vitrail.report.contents import Object
from vitrail.report.tables import METRICS, csv_address


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
                    *(cell(one, key) for key in ("value", "low", "high", "n")),
                    unit,
                    *(cell(one, key) for key in ("spread", "method", "reason")),
                )
                for metric, row in rows
                for model, one in zip(evaluated, row, strict=True)
            ],
        ),
    )


def _rank(metric: str) -> int:
    """Place a metric in the table."""
    known = list(METRICS)
    return known.index(metric) if metric in known else len(known)


def cell(estimate: Object | None, key: str) -> object:
    """Return a value for the table's file, empty where it is not defined."""
    value = (estimate or {}).get(key)
    return "" if value is None else value
