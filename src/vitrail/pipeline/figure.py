"""``vitrail figure``: the figures that papers and slides expect, from a run, as files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.errors import InputError, RunFolderError, VitrailError
from vitrail.explain import attention_maps, explain, logit_lens, methods
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.portrait import (
    Portrait,
    Studio,
    distances,
    in_color,
    positions,
    rollouts,
    tokens,
)
from vitrail.report import contents, plates, plots
from vitrail.report.gallery import choose, is_right
from vitrail.report.mosaic import patch_mosaic
from vitrail.report.pictures import read_picture
from vitrail.report.plates import MOVING, STILL, Heat, Picture, Plate
from vitrail.report.tables import metric_name, model_name
from vitrail.runfolder import RunFolder, write_bytes

_SAMPLES, _CASES, _TOP = 24, 8, 5
_LONGEST_PX = 256
_SPECIFIC = "relevance"
_LOSSES = {"train_loss": "training", "validation_loss": "validation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a figure shows, where it is not the usual.

    Attributes:
        case: Id of the case; empty for one that the model is sure and right about.
        label: Class that a map explains; empty for the predicted one.
        method: Of the explanation; empty for ``relevance``.
    """

    case: str = ""
    label: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A figure that there is: what it shows, what draws it, and whether it can move."""

    about: str
    draw: Callable[[RunFolder, Asked], Plate]
    frames: Callable[[RunFolder, Asked], Sequence[Picture]] | None = None


def list_figures() -> Result:
    """List what can be drawn."""
    rows = [
        {"name": name, "about": kind.about, "formats": _formats(kind)}
        for name, kind in FIGURES.items()
    ]
    said = [f"{name:<16} {kind.about}" for name, kind in FIGURES.items()]
    said.append("draw one with `vitrail figure NAME RUN`, as .png, .svg or .pdf; rollout as .gif")
    return {"figures": rows, "summary": said}


def figure(name: str, run: RunFolder, *, asked: Asked = Asked(), out: Path | None = None) -> Result:
    """Draw one figure of a run.

    Args:
        name: One of :data:`FIGURES`.
        run: The run; nothing but its folder ``figures`` is written to.
        asked: What it shows.
        out: The file, by whose ending its kind is told; ``RUN/figures/NAME.png`` by default.

    Raises:
        InputError: If there is no such figure, case, class or kind of file, or the model has not
            what the figure shows.
        RunFolderError: If the run does not hold what is drawn.
    """
    if name not in FIGURES:
        near = get_close_matches(name, FIGURES, n=1, cutoff=0.0)[0]
        rule = f"the nearest figure is {near!r}"
        raise InputError("figure", f"unknown {name!r}", rule, "see `vitrail figure list`")
    kind = FIGURES[name]
    out = out or run.root / "figures" / f"{name}.{'gif' if kind.frames else 'png'}"
    ending = out.suffix.removeprefix(".").lower()
    if ending not in _formats(kind):
        rule = f"this figure is written as {', '.join(_formats(kind))}"
        raise InputError("--out", str(out), rule, "name a file with such an ending")
    if kind.frames is not None and ending in MOVING:
        content = plates.moving(kind.frames(run, asked), ending)
    else:
        content = plates.still(partial(kind.draw, run, asked), ending)
    write_bytes(out, content)
    return {"figure": name, "path": str(out), "summary": [f"{name}: {out}"]}


def _formats(kind: Kind) -> tuple[str, ...]:
    return (*MOVING, *STILL) if kind.frames else STILL


def _patches(run: RunFolder, asked: Asked) -> Plate:
    """Cut one case's input into its patches."""
    one = Studio(run).portrait(asked.case)
    rows, columns = one.layout.grid_size
    words = f"{rows} x {columns} patches of {one.patch_px} px"
    return plates.grid_of([(_mosaic(one), words)], columns=1, side=4.0, title=one.case_id)


def _mosaic(one: Portrait) -> np.ndarray:
    """Lay the patches of a model's input apart."""
    whole = replace(one.loaded.preprocessing, fit="squash")
    picture = Image.fromarray(one.picture())
    return np.asarray(patch_mosaic(picture, preprocessing=whole, patch_px=one.patch_px))


def _positions(run: RunFolder, asked: Asked) -> Plate:
    """Compare the positions' embeddings."""
    alike = positions(Studio(run).portrait(asked.case))
    title = "Likeness of each patch's position embedding to all others (cosine)"
    return plates.tiles(np.clip(alike, 0, None), words=("row of the patch", "column"), title=title)


def _heads(run: RunFolder, asked: Asked) -> Plate:
    """Tile the read-out row's attention of every layer and head."""
    one = Studio(run).portrait(asked.case)
    maps = attention_maps(one.model, one.image)[:, 0].numpy()
    title = f"Attention of every layer and head: {one.case_id}"
    return plates.tiles(maps, words=("layer", "head"), title=title)


def _distances(run: RunFolder, asked: Asked) -> Plate:
    """Draw how far each head looks."""
    studio = Studio(run)
    chosen = [asked.case] if asked.case else studio.surest()[:_CASES]
    found = [distances(studio.portrait(case_id)) for case_id in chosen]
    mean = np.mean([values for values, _ in found], axis=0)
    return plots.distances(mean, even=found[0][1], cases=len(found))


def _layers(run: RunFolder, asked: Asked) -> list[tuple[Picture, str]]:
    """Lay the rollout after each layer over its picture, all on one color scale."""
    one = Studio(run).portrait(asked.case)
    maps = rollouts(one)
    picture, largest = one.picture(), float(maps.max())
    laid = [plates.overlay(picture, Heat(values=values, largest=largest)) for values in maps]
    return [(picture, "the input")] + [(p, f"after layer {n}") for n, p in enumerate(laid, 1)]


def _layer_strip(run: RunFolder, asked: Asked) -> Plate:
    """Draw the rollout after each layer side by side."""
    return plates.grid_of(_layers(run, asked), columns=5, title="Rollout through the layers")


def _layer_frames(run: RunFolder, asked: Asked) -> list[Picture]:
    """Draw the rollout after each layer one after the other, a bar telling how deep."""
    return plates.with_depth([picture for picture, _ in _layers(run, asked)])


def _variants(run: RunFolder, asked: Asked) -> Plate:
    """Draw rollout with each fusion of the heads, thinned and not."""
    one = Studio(run).portrait(asked.case)
    picture = one.picture()
    cells: list[tuple[Picture, str]] = []
    for discard, fusion in product((0.0, 0.9), ("mean", "max", "min")):
        found = explain(
            one.model, one.image, method="rollout", head_fusion=fusion, discard_ratio=discard
        )
        values = found.values[0].numpy()
        heat = Heat(values=values, largest=float(values.max()))
        cells.append((plates.overlay(picture, heat), f"{fusion}, discard {discard:g}"))
    title = "Rollout: fusion of heads and share discarded, each on a scale of its own"
    return plates.grid_of(cells, columns=3, side=2.4, title=title)


def _panels(run: RunFolder, asked: Asked) -> Plate:
    """Draw picture, overlay and map of a class, with the likeliest classes."""
    one = Studio(run).portrait(asked.case)
    said = one.probabilities()
    label = asked.label or next(iter(said))
    if label not in said:
        near = get_close_matches(label, said, n=1, cutoff=0.0)[0]
        raise InputError("--class", repr(label), "it is none of the run's", f"perhaps {near!r}")
    method = asked.method or _SPECIFIC
    found = explain(one.model, one.image, method=method, target=one.loaded.classes.index(label))
    values = found.values[0].numpy()
    heat = Heat(
        values=values,
        largest=float(np.abs(values).max()),
        signed=found.signed,
        title=f"{method}, {values.shape[0]} x {values.shape[1]} patches",
    )
    specific = methods()[method].class_specific
    top = list(said.items())[:_TOP]
    asked_for = label if specific else ""
    return plates.panels(one.picture(), heat, probabilities=top, asked=asked_for)


def _steps(run: RunFolder, asked: Asked) -> Plate:
    """Draw every step from the picture to the answer."""
    one = Studio(run).portrait(asked.case)
    grid, picture = one.layout.grid_size, one.picture()
    inside = tokens(one)
    drawn = {n: in_color(v, grid, cell_px=one.patch_px) for n, v in inside.items()}
    last = attention_maps(one.model, one.image)[-1, 0].mean(dim=0).numpy()
    followed = rollouts(one)[-1]
    reader = "class token" if one.layout.readout == "cls" else "read-out"
    cells = [
        (picture, "1 picture: the input"),
        (_mosaic(one), f"2 patches: {grid[0]} x {grid[1]}"),
        (drawn["embedding"], "3 embedding: likeness as color"),
        *_position_cells(one),
        (drawn["encoder"], "5 encoder: after the last layer"),
        *(
            (plates.overlay(picture, Heat(values=m, largest=float(m.max()))), words)
            for m, words in ((last, f"6 attention of the {reader}"), (followed, "7 rollout"))
        ),
    ]
    return plates.steps(cells, answers=_answers(one), title=f"{one.case_id}: {one.label}")


def _position_cells(one: Portrait) -> list[tuple[Picture, str]]:
    """Color how like the middle patch's position each other one is; nothing without positions."""
    try:
        alike = positions(one)
    except InputError:
        return []
    middle = alike[alike.shape[0] // 2, alike.shape[1] // 2]
    heat = Heat(values=np.clip(middle, 0, None), largest=1.0)
    return [(plates.colors(heat), "4 position: likeness to the middle")]


def _answers(one: Portrait) -> dict[str, list[float]]:
    """Return each likely class's probability after every layer, or only at the end."""
    said = one.probabilities()
    named = list(said)[:_TOP]
    try:
        logits = logit_lens(one.model, one.image).logits[:, 0].double()
    except VitrailError:  # this model's layers cannot be read one by one
        return {name: [said[name]] for name in named}
    several = bool(one.loaded.extra.get("multi_label", False))
    by_layer = logits.sigmoid() if several else logits.softmax(dim=-1)
    return {name: by_layer[:, one.loaded.classes.index(name)].tolist() for name in named}


def _samples(run: RunFolder, asked: Asked) -> Plate:
    """Lay test cases out, wrong ones first, in red."""
    del asked
    read = contents.read(run)
    name = _first_model(read, run)
    cells: list[tuple[np.ndarray, str]] = []
    for case_id in choose(read, most=_SAMPLES)[:_SAMPLES]:
        judged, truth = read.judged[name][case_id], read.truth[case_id]
        right = is_right(truth, judged)
        sure = f"{max(judged.probabilities):.2f}"
        words = f"✓ {truth} {sure}" if right else f"✗ {truth} → {judged.decision} {sure}"
        path = run.require(run.picture(case_id), "explain")
        cells.append((np.asarray(read_picture(path, longest=_LONGEST_PX).convert("RGB")), words))
    title = f"{model_name(name)}: {len(cells)} of {len(read.truth)} test cases, wrong ones first"
    return plates.grid_of(cells, columns=6, title=title)


def _confusion(run: RunFolder, asked: Asked) -> Plate:
    """Draw the confusion matrix on the test cases."""
    del asked
    read = contents.read(run)
    drawn = read.evaluation.get("curves", {}).get("test", {}).get(_first_model(read, run), {})
    if "confusion" not in drawn:
        came, rule = "its evaluation holds no confusion matrix", "each case has one class"
        raise RunFolderError(str(run.root), came, rule, "see its ROC curves in report.html")
    stated = drawn["confusion"]
    return plots.confusion(np.array(stated["counts"]), classes=stated["classes"])


def _first_model(read: contents.Contents, run: RunFolder) -> str:
    """Name the run's own model; it has been evaluated."""
    run.require(run.evaluation, "evaluate")
    return read.models[0]


def _curves(run: RunFolder, asked: Asked) -> Plate:
    """Draw losses and validation metrics of every training by epoch."""
    del asked
    read = contents.read(run)
    panels: dict[str, dict[str, list[plots.Line]]] = {}
    for one in read.trainings:
        for column in dict.fromkeys(name for line in one.epochs for name in line):
            if column in _LOSSES:
                quantity, name = "loss", f"{model_name(one.model)}, {_LOSSES[column]}"
            elif column.endswith("_score"):
                quantity, name = f"{metric_name(column)}, validation", model_name(one.model)
            else:
                continue
            lines = [line for line in one.epochs if line.get(column) is not None]
            points = ([line["epoch"] for line in lines], [line[column] for line in lines])
            panels.setdefault(quantity, {}).setdefault(name, []).append(points)
    if not panels:
        run.require(run.root / "models", "train")
        came, rule = "its trainings have no epochs", "a frozen head is fitted, not trained"
        raise RunFolderError(str(run.root), came, rule, "see report.html")
    return plots.curves(panels)


def _tuned(run: RunFolder, asked: Asked, *, draw: Callable[[Any], Plate | None]) -> Plate:
    """Draw what was tuned."""
    del asked
    run.require(run.tuning, "tune")
    drawn = draw(contents.read(run).study)
    if drawn is None:
        rule = "two parameters have a list of values"
        raise InputError("figure", "the study has no grid", rule, "draw tuning-parallel")
    return drawn


FIGURES = {
    "patches": Kind("the picture cut into the patches that the model sees", _patches),
    "positions": Kind("how alike the embeddings of the patches' positions are", _positions),
    "heads": Kind("attention of the read-out row in every layer and head", _heads),
    "distance": Kind("how far each head looks, layer by layer", _distances),
    "rollout": Kind(
        "rollout through the layers, moving or as a strip", _layer_strip, _layer_frames
    ),
    "rollout-variants": Kind("rollout with mean, max, min fusion, thinned and not", _variants),
    "panels": Kind("picture, overlay and map of a class, with probabilities", _panels),
    "steps": Kind("from the picture to the answer, step by step", _steps),
    "samples": Kind("test cases with the model's answers, wrong ones in red", _samples),
    "confusion": Kind("the confusion matrix on the test cases", _confusion),
    "curves": Kind("losses and validation metrics by epoch", _curves),
    "tuning-curves": Kind(
        "the curve of every trial of a tuning", partial(_tuned, draw=plots.tuning_curves)
    ),
    "tuning-map": Kind("values over a tuned grid", partial(_tuned, draw=plots.tuning_map)),
    "tuning-parallel": Kind(
        "every trial as a line over its parameters", partial(_tuned, draw=plots.tuning_parallel)
    ),
}
"""Every figure by its name."""
