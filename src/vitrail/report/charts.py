"""The record's numbers become figures: training curves, ROC, calibration, confusion matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from markupsafe import Markup

from vitrail.report.contents import Contents, Object, Training
from vitrail.report.figures import UNIT, Axis, Point, Series, bars, chart, nice_axis
from vitrail.report.tables import METRICS, metric_name, model_name, number

QUIET = 3
"""Style of what stands beside the thing itself: training loss, the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing with its caption."""

    name: str
    drawing: Markup
    caption: str


def style_of(contents: Contents, model: str) -> int:
    """Return a model's style: the same color, dash and marker in every figure."""
    return contents.models.index(model) % QUIET


def training_figures(contents: Contents) -> tuple[Figure, ...]:
    """Draw each model's losses, and the validation metrics of all models together."""
    figures = []
    for model in contents.models:
        runs = [one for one in contents.trainings if one.model == model and one.epochs]
        if runs:
            figures.append(_losses(contents, model, runs=runs))
    metrics = [
        name
        for name in dict.fromkeys(key for one in contents.trainings for key in _validation(one))
        if not name.endswith("loss")
    ]
    figures += [_metric(contents, name) for name in metrics]
    return tuple(figures)


def _losses(contents: Contents, model: str, *, runs: Sequence[Training]) -> Figure:
    """Draw the training and validation loss of every training of one model."""
    series = []
    for place, one in enumerate(runs):
        best = best_epoch(one)
        for key, name, style in (
            ("train", "training loss", QUIET),
            ("validation", "validation loss", style_of(contents, model)),
        ):
            points = _points(one, _loss_key(one, key))
            series.append(
                Series(
                    name=name if place == 0 else "",
                    points=points,
                    style=style,
                    mark=_mark(points, best) if key == "validation" else None,
                )
            )
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x, y = nice_axis("epoch", xs, whole=True), nice_axis("loss", [0.0, *ys])
    name = f"Loss: {model_name(model)}"
    seeds = "" if len(runs) == 1 else f" {len(runs)} trainings, one line each."
    return Figure(
        name=name,
        drawing=chart(series, x=x, y=y, title=f"{name}, by epoch.{_best_words(runs)}"),
        caption=f"{_best_words(runs).strip()}{seeds}",
    )


def _metric(contents: Contents, name: str) -> Figure:
    """Draw one validation metric of every training."""
    series = []
    for model in contents.models:
        runs = [one for one in contents.trainings if one.model == model]
        for place, one in enumerate(runs):
            points = _points(one, name)
            series.append(
                Series(
                    name=model_name(model) if place == 0 else "",
                    points=points,
                    style=style_of(contents, model),
                    mark=_mark(points, best_epoch(one)),
                )
            )
    label = metric_name(name.removeprefix("validation_"))
    known = [y for one in series for _, y in one.points if not isnan(y)]
    y = (
        Axis(name=label, low=0.0, high=1.0, ticks=UNIT)
        if known and min(known) >= 0 and max(known) <= 1
        else nice_axis(label, known)
    )
    x = nice_axis("epoch", [x for one in series for x, _ in one.points], whole=True)
    return Figure(
        name=f"{label} on validation cases",
        drawing=chart(series, x=x, y=y, title=f"{label} on validation cases by epoch."),
        caption="Ring: the epoch whose weights were kept.",
    )


def _loss_key(one: Training, part: str) -> str:
    """Find the column of a loss."""
    names = [key for line in one.epochs for key in line if key.endswith("loss")]
    return next((name for name in names if name.startswith(part[:3])), "")


def _validation(one: Training) -> tuple[str, ...]:
    """Name the validation metrics of a training's log."""
    columns = dict.fromkeys(key for line in one.epochs for key in line)
    return tuple(key for key in columns if key.removeprefix("validation_") in METRICS)


def _points(one: Training, column: str) -> list[Point]:
    """Read a column by epoch."""
    return [
        (float(line.get("epoch", place)), float(line[column]))
        for place, line in enumerate(one.epochs)
        if isinstance(line.get(column), int | float)
    ]


def best_epoch(one: Training) -> int | None:
    """Find the epoch whose weights were kept, where ``model.json`` tells."""
    extra = one.about.get("extra") or {}
    places = (one.about, extra, extra.get("training") or {})
    return next((int(place["best_epoch"]) for place in places if "best_epoch" in place), None)


def _mark(points: Sequence[Point], epoch: int | None) -> tuple[Point, str] | None:
    """Mark the point of an epoch."""
    found = next((point for point in points if point[0] == epoch), None)
    return None if found is None else (found, f"best epoch {epoch}: {number(found[1])}")


def _best_words(runs: Sequence[Training]) -> str:
    """Say which epochs were kept."""
    epochs = [best for one in runs if (best := best_epoch(one)) is not None]
    if not epochs:
        return ""
    return f" Weights kept: epoch {', '.join(map(str, epochs))} (ring), the best on validation."


def curve_figures(contents: Contents) -> tuple[Figure, ...]:
    """Draw ROC, precision-recall and calibration curves of the test set, where they were kept."""
    curves: Mapping[str, Mapping[str, Any]] = contents.evaluation.get("curves", {}).get("test", {})
    makers = (
        (
            "roc",
            "ROC curve",
            ("false positive rate (1 \N{MINUS SIGN} specificity)", "sensitivity"),
            "Dotted: guessing.",
        ),
        (
            "precision_recall",
            "Precision\N{EN DASH}recall curve",
            ("recall (sensitivity)", "precision (PPV)"),
            "",
        ),
        (
            "calibration",
            "Calibration",
            ("predicted probability", "observed frequency"),
            "On the dotted line, what is announced with 0.7 happens 7 times in 10.",
        ),
    )
    figures = []
    for key, name, axes, caption in makers:
        series = [
            one
            for model in contents.models
            for one in _curve(contents, model, key=key, curve=curves.get(model, {}).get(key))
        ]
        if any(one.points for one in series):
            x, y = (Axis(name=axis, low=0.0, high=1.0, ticks=UNIT) for axis in axes)
            reference = key != "precision_recall"
            shaded = any(one.band for one in series)
            band = " Shaded: 95 % interval." if shaded else ""
            figures.append(
                Figure(
                    name=name,
                    drawing=chart(
                        series, x=x, y=y, title=f"{name}, test cases.", diagonal=reference
                    ),
                    caption=f"{caption}{band}".strip(),
                )
            )
    return tuple(figures)


_AXES = {
    "roc": (("false_positive_rate", "fpr", "x"), ("true_positive_rate", "tpr", "sensitivity", "y")),
    "precision_recall": (("recall", "x"), ("precision", "y")),
    "calibration": (
        ("predicted", "mean_predicted", "confidence", "x"),
        ("observed", "fraction_positive", "frequency", "accuracy", "y"),
    ),
}
"""Names of a curve's coordinates in ``evaluation.json``."""


def _curve(contents: Contents, model: str, *, key: str, curve: Any) -> list[Series]:
    """Read one model's curve; a curve a class becomes one line a class."""
    if not isinstance(curve, Mapping):
        return []
    xs, ys = (_column(curve, names) for names in _AXES[key])
    if xs is None or ys is None:
        lines = [(str(name), one) for name, one in curve.items() if isinstance(one, Mapping)]
        return [
            Series(
                name=f"{model_name(model)}: {name}",
                points=series.points,
                style=style_of(contents, model),
                shape=series.shape,
            )
            for name, one in lines
            for series in _curve(contents, model, key=key, curve=one)
        ]
    low, high = _column(curve, ("low", "lower")), _column(curve, ("high", "upper"))
    at = _column(curve, ("band_x", "grid")) or xs
    banded = low is not None and high is not None and len(low) == len(high) == len(at)
    return [
        Series(
            name=model_name(model),
            points=list(zip(xs, ys, strict=False)),
            style=style_of(contents, model),
            band=list(zip(at, low or (), high or (), strict=True)) if banded else (),
            shape="dots" if key == "calibration" else "step" if key == "roc" else "line",
        )
    ]


def _column(curve: Object, names: Sequence[str]) -> list[float] | None:
    """Read the first known column of numbers; null is NaN."""
    for name in names:
        if isinstance(curve.get(name), list):
            return [float("nan") if value is None else float(value) for value in curve[name]]
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of (truth, decision) of one model.

    Attributes:
        model: Name of the model.
        classes: Class names in the order of rows and columns.
        counts: ``counts[truth][decision]``.
    """

    model: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def share(self, truth: int, decision: int) -> float:
        """Return a cell's share of its row, 0 for an empty row."""
        total = sum(self.counts[truth])
        return self.counts[truth][decision] / total if total else 0.0


def confusions(contents: Contents) -> tuple[Confusion, ...]:
    """Count truths and decisions of every model on the test cases, as the gallery shows them."""
    places = {name: place for place, name in enumerate(contents.classes)}
    found = []
    for model in contents.models:
        judged = contents.judged.get(model)
        if not judged or not set(contents.truth.values()) <= set(places):
            continue
        counts = [[0] * len(places) for _ in places]
        for case_id, one in judged.items():
            counts[places[contents.truth[case_id]]][places[one.decision]] += 1
        found.append(
            Confusion(model=model, classes=contents.classes, counts=tuple(map(tuple, counts)))
        )
    return tuple(found)


def shortcut_figure(contents: Contents) -> Figure | None:
    """Set what trivial features reach beside the models' own ROC area."""
    rows = [
        (
            str(one.get("feature", "unnamed")).replace("_", " "),
            *_estimate(one, "roc_auc_score"),
            QUIET,
        )
        for one in contents.audit.get("shortcuts", ())
        if isinstance(one, Mapping)
    ]
    if not rows:
        return None
    tests = contents.evaluation.get("sets", {}).get("test", {})
    models = [
        (model_name(model), *_estimate(one, "value"), style_of(contents, model))
        for model in contents.models
        if (one := tests.get(model, {}).get("roc_auc_score"))
    ]
    words = "; ".join(f"{name} {number(value)}" for name, value, *_ in [*models, *rows])
    return Figure(
        name="Shortcut audit",
        drawing=bars([*models, *rows], title=f"{METRICS['roc_auc_score']}: {words}."),
        caption="ROC AUC (0.5 is guessing) of the models, and of a logistic regression that sees "
        "only one trivial kind of feature. If one comes close to the model, the model may not "
        "have needed what the pictures show.",
    )


def _estimate(one: Object, key: str) -> tuple[float, float, float]:
    """Read a value with its interval; null is NaN."""
    low, value, high = (one.get(name) for name in ("low", key, "high"))
    low, value, high = (
        float(number) if isinstance(number, int | float) else float("nan")
        for number in (low, value, high)
    )
    return value, low, high
