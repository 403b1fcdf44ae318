"""Which cases the page shows, and what it shows of each: picture, overlay, mask, probabilities."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vitrail.color import Scale
from vitrail.report.contents import Contents, read_preprocessing
from vitrail.report.pictures import (
    OVERLAY_PX,
    Resampling,
    color_bar,
    data_uri,
    fractions_of,
    outline,
    paint,
    read_picture,
    register,
    wall,
)
from vitrail.runfolder import RunFolder, file_name

MOST_CASES = 120
"""Cases in the galleries; a larger test set is sampled, wrong predictions first."""

SAMPLES = 6
"""Pictures a class in the sample grid."""

_TILE_PX = 72

CLASS_AGNOSTIC = {"rollout", "raw_attention"}
"""Methods whose map is the same whatever class is asked for, where the record does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """One case's raw map and what its record says of it."""

    values: Float[np.ndarray, "row column"]
    about: Mapping[str, Any]

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.about.get("method", "unnamed method"))

    @property
    def class_specific(self) -> bool:
        """Whether the map depends on the class asked for."""
        return bool(self.about.get("class_specific", self.method not in CLASS_AGNOSTIC))

    @property
    def signed(self) -> bool:
        """Whether values below zero mean something."""
        return bool(self.about.get("signed", bool((self.values < 0).any())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """What the colors of the overlays mean.

    Attributes:
        method: Name of the method.
        class_specific: Whether the maps depend on the class asked for.
        signed: Whether the scale has a negative half.
        bar: Data URI of the color scale.
        largest: Raw value at the top of the scale that all cases share.
        count: Number of maps behind ``largest``.
    """

    method: str
    class_specific: bool
    signed: bool
    bar: str
    largest: float
    count: int

    @property
    def meaning(self) -> str:
        """Say what a value of the map is."""
        if self.method in CLASS_AGNOSTIC:
            return "Share of the read-out that comes from a patch."
        return "Raw value of the map at a patch: evidence for the explained class."


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said of a case: rows of (class, probability), and whether it was right."""

    model: str
    probabilities: tuple[tuple[str, float], ...]
    decision: str
    right: bool
    trainings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One case in a gallery.

    Attributes:
        case_id: Name of the case.
        truth: Its class.
        said: What each model said, the run's own model first.
        picture: Data URI, empty where the run folder has no picture of it.
        size: (width, height) of the picture on the page in px.
        overlays: Data URIs by ``<normalization>-<resampling>``; empty where there is no map.
        outline: Data URI of the mask's border, empty where there is no mask.
        peak: Largest value of the map as a share of the run's scale.
    """

    case_id: str
    truth: str
    said: tuple[Said, ...]
    picture: str
    size: tuple[int, int]
    overlays: Mapping[str, str]
    outline: str
    peak: float | None

    @property
    def right(self) -> bool:
        """Whether the run's own model was right."""
        return self.said[0].right

    @property
    def decisions(self) -> str:
        """Decisions of all models as JSON, for the page's filter."""
        return json.dumps({said.model: said.decision for said in self.said}, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """Raw attention of one case in every layer and head."""

    case_id: str
    picture: str
    tiles: str
    size: tuple[int, int]
    layers: int
    heads: int
    largest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """All cases that the page shows, and what has to be said about them."""

    cards: tuple[Card, ...]
    total: int
    legend: Legend | None
    walls: tuple[Wall, ...]

    @property
    def wrong(self) -> tuple[Card, ...]:
        """Cases that the run's own model got wrong."""
        return tuple(card for card in self.cards if not card.right)

    @property
    def right(self) -> tuple[Card, ...]:
        """Cases that the run's own model got right."""
        return tuple(card for card in self.cards if card.right)


def gallery(contents: Contents) -> Gallery:
    """Choose the cases, and draw their pictures and maps."""
    maps = {case_id: one for case_id in contents.truth if (one := read_map(contents.run, case_id))}
    legend = _legend(list(maps.values()))
    chosen = choose(contents)
    return Gallery(
        cards=tuple(
            _card(contents, case_id, one=maps.get(case_id), legend=legend) for case_id in chosen
        ),
        total=len(contents.truth),
        legend=legend,
        walls=tuple(_walls(contents)),
    )


def choose(contents: Contents, *, most: int = MOST_CASES) -> list[str]:
    """Choose cases for the galleries.

    All, if they are at most ``most``. Otherwise each (truth, decision) cell of the confusion
    matrix gives its surest cases in turn, wrong cells before right ones, so that no cell is empty.

    Returns:
        Case ids, wrong predictions first; within a cell the surest decision first.
    """
    if not contents.models or contents.models[0] not in contents.judged:
        return []
    judged = contents.judged[contents.models[0]]
    cells: dict[tuple[str, str], list[str]] = {}
    for case_id in sorted(judged, key=lambda name: (-max(judged[name].probabilities), name)):
        cells.setdefault((contents.truth[case_id], judged[case_id].decision), []).append(case_id)
    order = sorted(cells, key=lambda cell: (cell[0] == cell[1], cell))
    if sum(map(len, cells.values())) > most:
        kept = _round_robin([cells[cell] for cell in order], most)
        cells = {cell: [name for name in cells[cell] if name in kept] for cell in order}
    return [case_id for cell in order for case_id in cells[cell]]


def _round_robin(lists: Sequence[Sequence[str]], most: int) -> set[str]:
    """Take one from each list in turn until there are enough."""
    kept: set[str] = set()
    for depth in range(max(map(len, lists))):
        for one in lists:
            if depth < len(one) and len(kept) < most:
                kept.add(one[depth])
    return kept


def read_map(run: RunFolder, case_id: str) -> Map | None:
    """Read a case's map, or None where there is none."""
    path = run.explanation(case_id)
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        values = np.asarray(stored["values"], dtype=np.float64)
    beside = path.with_suffix(".json")
    about = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return Map(values=values.reshape(values.shape[-2:]), about={**about.get("extra", {}), **about})


def _legend(maps: Sequence[Map]) -> Legend | None:
    """Find the scale that all maps share: its top is the 99.5th percentile of all their values."""
    if not maps:
        return None
    signed = any(one.signed for one in maps)
    values = np.concatenate([np.abs(one.values).ravel() for one in maps])
    return Legend(
        method=maps[0].method,
        class_specific=all(one.class_specific for one in maps),
        signed=signed,
        bar=color_bar(_scale(signed=signed)),
        largest=float(np.percentile(values, 99.5)),
        count=len(maps),
    )


def _scale(*, signed: bool) -> Scale:
    """Choose the color scale of a map."""
    return "diverging" if signed else "sequential"


def _card(contents: Contents, case_id: str, *, one: Map | None, legend: Legend | None) -> Card:
    """Draw one case."""
    path = contents.run.picture(case_id)
    picture = read_picture(path) if path.is_file() else None
    size = (256, 256) if picture is None else picture.size
    overlays: dict[str, str] = {}
    if picture is not None and one is not None and legend is not None:
        overlays = _overlays(contents, one, legend=legend, shown=picture.size)
    mask = path.with_name(f"{path.name.removesuffix('.png')}.mask.png")
    return Card(
        case_id=case_id,
        truth=contents.truth[case_id],
        said=tuple(
            _said(contents, case_id, model=model)
            for model in contents.models
            if case_id in contents.judged.get(model, {})
        ),
        picture="" if picture is None else data_uri(picture, lossless=False),
        size=size,
        overlays=overlays,
        outline=data_uri(outline(mask), lossless=True) if picture and mask.is_file() else "",
        peak=float(np.abs(one.values).max() / legend.largest)
        if one is not None and legend is not None and legend.largest > 0
        else None,
    )


def _said(contents: Contents, case_id: str, *, model: str) -> Said:
    """Sort a model's probabilities from the likeliest class down."""
    judged = contents.judged[model][case_id]
    named = zip(contents.classes, judged.probabilities, strict=True)
    return Said(
        model=model,
        probabilities=tuple(sorted(named, key=lambda pair: (-pair[1], pair[0]))),
        decision=judged.decision,
        right=judged.decision == contents.truth[case_id],
        trainings=judged.trainings,
    )


def _overlays(
    contents: Contents, one: Map, *, legend: Legend, shown: tuple[int, int]
) -> dict[str, str]:
    """Paint a map in each normalization and resampling that the page offers."""
    stated = one.about.get("preprocessing")
    preprocessing = (
        read_preprocessing(stated)
        if stated
        else contents.preprocessing(str(one.about.get("model", contents.models[0])))
    )
    if preprocessing is None:
        return {}
    width, height = shown
    source = one.about.get("source_size") or (height, width)
    shrink = min(1.0, OVERLAY_PX / max(shown))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    tops = {"run": legend.largest, "image": float(np.abs(one.values).max())}
    resamplings: tuple[Resampling, ...] = ("bilinear", "patches")
    overlays = {}
    for resampling in resamplings:
        lying = register(
            one.values,
            preprocessing=preprocessing,
            source_size=(int(source[0]), int(source[1])),
            shown_size=size,
            resampling=resampling,
        )
        for normalization, largest in tops.items():
            fractions = fractions_of(lying, largest=largest, signed=legend.signed)
            painted = paint(fractions, _scale(signed=legend.signed))
            overlays[f"{normalization}-{resampling}"] = data_uri(painted, lossless=True)
    return overlays


def _walls(contents: Contents) -> list[Wall]:
    """Draw the layer x head wall of every case that has one."""
    walls = []
    for path in sorted((contents.run.explanations / "attention").glob("*.npz")):
        case_id = _case_of(path, contents)
        with np.load(path, allow_pickle=False) as stored:
            attention = np.asarray(stored["attention"], dtype=np.float64)
        largest = float(np.percentile(attention, 99.5))
        cell_px = max(2, round(_TILE_PX / attention.shape[-1]))
        tiles = wall(attention, largest=largest, cell_px=cell_px)
        shown = contents.run.picture(case_id)
        walls.append(
            Wall(
                case_id=case_id,
                picture=data_uri(read_picture(shown), lossless=False) if shown.is_file() else "",
                tiles=data_uri(tiles, lossless=True),
                size=tiles.size,
                layers=attention.shape[0],
                heads=attention.shape[1],
                largest=largest,
            )
        )
    return walls


def _case_of(path: Path, contents: Contents) -> str:
    """Find the case that a file is about; the file's own name where it is none of the run's."""
    return next((name for name in contents.cases if file_name(name) == path.stem), path.stem)
