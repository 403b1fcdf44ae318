"""The run's numbers become figures: training curves, shortcuts, confusion matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan

from markupsafe import Markup

from vitrail.report.contents import Contents, Object, Training
from vitrail.report.figures import UNIT, Axis, Point, Series, bars, chart, nice_axis
from vitrail.report.multiples import Panel, multiples
from vitrail.report.tables import METRICS, csv_address, metric_name, model_name, number

QUIET = 3
"""Style of what stands beside the thing itself: training loss, the reference."""


_OVERLAID = 3
"""More trainings than these get a panel each instead of a line each."""


_AREAS = ("roc_auc_score", "validation_roc_auc_score")
_EQUAL = (
    " Areas within one standard error of the largest count as equal; among them the smallest "
    "validation loss decides."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing with its caption, and its numbers as a ``data:`` address where they are a file."""

    name: str
    drawing: Markup
    caption: str
    csv: str = ""


def style_of(contents: Contents, model: str) -> int:
    """Return a model's style: the same color, dash and marker in every figure."""
    return contents.models.index(model) % QUIET


def training_figures(contents: Contents) -> tuple[Figure, ...]:
    """Draw what came before labels, each model's losses, and the validation metrics of all."""
    before = [one for one in contents.trainings if one.before]
    figures = [_before(contents, before)] if before else []
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


def _before(contents: Contents, runs: Sequence[Training]) -> Figure:
    """Draw the error of filling in hidden patches."""
    series = [
        Series(
            name=model_name(one.model) if place == 0 else "",
            points=[
                (float(line["epoch"]), float(line["train_loss"]))
                for line in one.before
                if isinstance(line["train_loss"], int | float)
            ],
            style=style_of(contents, one.model),
        )
        for place, one in enumerate(runs)
    ]
    points = [point for one in series for point in one.points]
    label = "squared error of hidden patches"
    x = nice_axis("epoch", [x for x, _ in points], whole=True)
    y = nice_axis(label, [0.0, *(y for _, y in points)])
    return Figure(
        name="Learning before labels",
        drawing=chart(series, x=x, y=y, title=f"Learning before labels: {label} by epoch."),
        caption="The model fills in hidden patches of training pictures. The pixels of a patch "
        "have mean 0 and variance 1: knowing nothing gives 1. The last epoch's weights go on.",
    )


def _losses(contents: Contents, model: str, *, runs: Sequence[Training]) -> Figure:
    """Draw the training and validation loss of every training of one model."""
    each = [_loss_lines(contents, one) for one in runs]
    series = [line for lines in each for line in lines]
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x, y = nice_axis(_across(runs), xs, whole=True), nice_axis("loss", [0.0, *ys])
    name = f"Loss: {model_name(model)}"
    if len(runs) > _OVERLAID:
        panels = [
            Panel(name=f"seed {one.seed}, fold {one.fold}", series=lines)
            for one, lines in zip(runs, each, strict=True)
        ]
        return Figure(
            name=name,
            drawing=Markup(
                '<div class="scroll wide" tabindex="0" role="region" aria-label="Panels of {}">'
                "{}</div>"  # on a narrow screen the panels stay readable and scroll sideways
            ).format(
                name, multiples(panels, x=x, y=y, title=f"{name}, by {x.name}.{_best_words(runs)}")
            ),
            caption=f"{len(runs)} trainings, a panel each, by {x.name} on the same axes. Ring: the "
            "one whose weights were kept, chosen on validation cases.",
        )
    series = [
        replace(line, name=line.name if place < len(each[0]) else "")
        for place, line in enumerate(series)
    ]
    seeds = "" if len(runs) == 1 else f" {len(runs)} trainings, one line each."
    return Figure(
        name=name,
        drawing=chart(series, x=x, y=y, title=f"{name}, by {x.name}.{_best_words(runs)}"),
        caption=f"{_best_words(runs).strip()}{seeds}",
    )


def _across(runs: Sequence[Training]) -> str:
    """Name what follows one another: epochs, or the settings that a frozen head chose among."""
    settles = {any("penalty" in line or "neighbors" in line for line in one.epochs) for one in runs}
    if len(settles) > 1:
        return "epoch, or setting of a head"
    return "setting of the head" if True in settles else "epoch"


def _loss_lines(contents: Contents, one: Training) -> list[Series]:
    """Read a training's two losses."""
    best = best_epoch(one)
    lines = []
    for key, name, style in (
        ("train", "training loss", QUIET),
        ("validation", "validation loss", style_of(contents, one.model)),
    ):
        points = _points(one, _loss_key(one, key))
        mark = _mark(points, best) if key == "validation" else None
        lines.append(Series(name=name, points=points, style=style, mark=mark))
    return lines


def _metric(contents: Contents, name: str) -> Figure:
    """Draw one validation metric of every training."""
    series: list[Series] = []
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
    across = _across(contents.trainings)
    x = nice_axis(across, [x for one in series for x, _ in one.points], whole=True)
    return Figure(
        name=f"{label} on validation cases",
        drawing=chart(series, x=x, y=y, title=f"{label} on validation cases by {across}."),
        caption=f"Ring: the {across} whose weights were kept."
        + (_EQUAL if across == "epoch" and name in _AREAS else ""),
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
    return f" Weights kept: epoch {', '.join(map(str, epochs))} (ring), chosen on validation cases."


def drawn(contents: Contents, model: str, *, part: str = "test") -> Object:
    """Return what the figures of a model on one set are drawn from."""
    curves: Object = contents.evaluation.get("curves", {}).get(part, {}).get(model, {})
    seeds = {
        one.get("seed") for one in contents.evaluation.get("operating_points", {}).get(model, ())
    }
    return {**curves, "several_seeds": len(seeds) > 1} if curves else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of (truth, decision) of one model.

    Attributes:
        model: Name of the model.
        classes: Class names in the order of rows and columns.
        counts: ``counts[truth][decision]``.
        seed: The training that decided.
    """

    seed: object
    model: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def csv(self) -> str:
        """The counts as a ``data:`` address."""
        rows = [(name, *row) for name, row in zip(self.classes, self.counts, strict=True)]
        return csv_address(("truth", *(f"decided {name}" for name in self.classes)), rows)

    def share(self, truth: int, decision: int) -> float:
        """Return a cell's share of its row, 0 for an empty row."""
        total = sum(self.counts[truth])
        return self.counts[truth][decision] / total if total else 0.0


def confusions(contents: Contents) -> tuple[Confusion, ...]:
    """Read each model's confusion matrix on the test set, else count it in the predictions."""
    found = []
    for model in contents.models:
        stored = drawn(contents, model).get("confusion")
        labels = drawn(contents, model).get("labels")
        if isinstance(labels, Mapping):
            found += [_confusion(model, one["confusion"], seed=0) for one in labels.values()]
            continue
        if isinstance(stored, Mapping):
            found.append(_confusion(model, stored, seed=drawn(contents, model).get("seed", 0)))
            continue
        if model in contents.judged and set(contents.truth.values()) <= set(contents.classes):
            counted = {"classes": contents.classes, "counts": _count(contents, model)}
            found.append(_confusion(model, counted, seed=0))
    return tuple(found)


def _confusion(model: str, stored: Object, *, seed: object) -> Confusion:
    """Read a confusion matrix."""
    rows = tuple(tuple(int(one) for one in row) for row in stored["counts"])
    return Confusion(seed=seed, model=model, classes=tuple(stored["classes"]), counts=rows)


def _count(contents: Contents, model: str) -> list[list[int]]:
    """Count truths and decisions as the galleries show them."""
    places = {name: place for place, name in enumerate(contents.classes)}
    counts = [[0] * len(places) for _ in places]
    for case_id, one in contents.judged[model].items():
        counts[places[contents.truth[case_id]]][places[one.decision]] += 1
    return counts


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
