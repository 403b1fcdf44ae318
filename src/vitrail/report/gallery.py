"""Which cases the page shows, and what it shows of each: picture, overlay, mask, probabilities."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.report.contents import Contents, Judged
from vitrail.report.maps import Legend, Map, legend_of, methods_of, overlays, read_maps
from vitrail.report.pictures import data_uri, outline, read_picture, wall
from vitrail.report.tables import number
from vitrail.report.trust import Strip, strip
from vitrail.runfolder import file_name

MOST_CASES = 200
"""Cases in the galleries; a larger test set is sampled, wrong predictions first."""

MOST_MAPS = 600
"""Maps in the galleries; where there are many methods, the last cases show only the run's own."""

MOST_WALLS = 8
"""Cases whose layers and heads are drawn for readers without a script."""

SAMPLES = 6
"""Pictures a class in the sample grid."""

_TILE_PX = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said of a case: rows of (class, probability), and whether it was right.

    ``doubt`` says in words how sure it was: how its trainings differ, or its prediction set.
    """

    model: str
    probabilities: tuple[tuple[str, float], ...]
    decision: str
    right: bool
    trainings: int
    doubt: str

    @property
    def stated(self) -> float:
        """Probability of the class decided for."""
        return dict(self.probabilities)[self.decision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One method's map of a case.

    Attributes:
        method: Name of the method.
        class_specific: Whether the map depends on the class asked for.
        overlays: Data URIs by ``<normalization>-<resampling>``; none of an even map.
        peak: Largest value of the map as a share of the method's scale.
        strip: What was tested of it.
        raw: The map itself.
    """

    method: str
    class_specific: bool
    overlays: Mapping[str, str]
    peak: float
    strip: Strip
    raw: Map


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One case in a gallery.

    Attributes:
        case_id: Name of the case.
        truth: Its class.
        said: What each model said, the run's own model first.
        picture: Data URI, empty where the run folder has no picture of it.
        size: (width, height) of the picture on the page in px.
        maps: The run's own method first; empty where there is no map.
        outline: Data URI of the mask's border, empty where there is no mask.
    """

    case_id: str
    truth: str
    said: tuple[Said, ...]
    picture: str
    size: tuple[int, int]
    maps: tuple[Drawn, ...]
    outline: str

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
    """All cases that the page shows, and what has to be said about them.

    Attributes:
        cards: The cases, wrong ones first.
        total: Cases of the test set.
        legends: One a method, the run's own first.
        partly: How many of the cases show all methods, where not all do.
        walls: Attention layer by layer of a few cases.
        strongest: The run's strongest map, for the emblem.
        several_labels: Whether a case can have several labels.
    """

    cards: tuple[Card, ...]
    total: int
    legends: tuple[Legend, ...]
    partly: int | None
    walls: tuple[Wall, ...]
    strongest: Map | None
    several_labels: bool

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
    chosen = choose(contents)
    methods = methods_of(contents.run)
    whole = len(chosen) if len(methods) < 2 else max(1, MOST_MAPS // len(methods))
    found = {}
    for place, method in enumerate(methods):
        shown = contents.truth if place == 0 else chosen[:whole]
        found[method] = read_maps(contents.run, shown, method=method)
    legends = {
        method: legend for method, maps in found.items() if (legend := legend_of([*maps.values()]))
    }
    own = [*found[methods[0]].values()] if methods else []
    return Gallery(
        cards=tuple(
            _card(
                contents,
                case_id,
                maps=[
                    (found[method][case_id], legend)
                    for method, legend in legends.items()
                    if case_id in found[method]
                ],
            )
            for case_id in chosen
        ),
        total=len(contents.truth),
        legends=tuple(legends.values()),
        partly=whole if whole < len(chosen) else None,
        walls=tuple(_walls(contents)),
        strongest=max(own, key=lambda one: float(np.abs(one.values).max()), default=None),
        several_labels=any("|" in truth for truth in contents.truth.values()),
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


def _card(contents: Contents, case_id: str, *, maps: Sequence[tuple[Map, Legend]]) -> Card:
    """Draw one case."""
    path = contents.run.picture(case_id)
    picture = read_picture(path) if path.is_file() else None
    mask = contents.run.mask(case_id)
    return Card(
        case_id=case_id,
        truth=contents.truth[case_id],
        said=tuple(
            said_of(contents, case_id, model=model)
            for model in contents.models
            if case_id in contents.judged.get(model, {})
        ),
        picture="" if picture is None else data_uri(picture, lossless=False),
        size=(256, 256) if picture is None else picture.size,
        maps=tuple(
            drawn
            for one, legend in maps
            if picture is not None
            and (drawn := _drawn(contents, case_id, one=one, legend=legend, shown=picture.size))
        ),
        outline=data_uri(outline(mask), lossless=True) if picture and mask.is_file() else "",
    )


def _drawn(
    contents: Contents, case_id: str, *, one: Map, legend: Legend, shown: tuple[int, int]
) -> Drawn | None:
    """Draw one map, or nothing where nobody knows where it lies."""
    painted = overlays(contents, one, legend=legend, shown=shown)
    if not (painted or one.even):
        return None
    return Drawn(
        method=legend.method,
        class_specific=one.class_specific,
        overlays=painted,
        peak=float(np.abs(one.values).max() / legend.largest) if legend.largest > 0 else 0.0,
        strip=strip(contents, case_id, method=legend.method, prefix_share=one.prefix_share),
        raw=one,
    )


def is_right(truth: str, judged: Judged) -> bool:
    """Tell whether a decision fits the truth.

    A case with several labels (``a|b``, ``a|``) is right if its likeliest class is one of them; one
    with none (``|``) if no class reaches one half.
    """
    labels = [name for name in truth.split("|") if name]
    return judged.decision in labels if labels else max(judged.probabilities) < 0.5


def said_of(contents: Contents, case_id: str, *, model: str) -> Said:
    """Sort a model's probabilities from the likeliest class down."""
    judged = contents.judged[model][case_id]
    named = zip(contents.classes, judged.probabilities, strict=True)
    return Said(
        model=model,
        probabilities=tuple(sorted(named, key=lambda pair: (-pair[1], pair[0]))),
        decision=judged.decision,
        right=is_right(contents.truth[case_id], judged),
        trainings=judged.trainings,
        doubt=_doubt(contents, judged, model=model),
    )


def _doubt(contents: Contents, judged: Judged, *, model: str) -> str:
    """Say how a model's trainings differ on a case, or which classes one training leaves open."""
    if judged.trainings > 1:
        place = contents.classes.index(judged.decision)
        low, high = (number(end[place], digits=2) for end in judged.ends)
        return f"{judged.decision}: {low} to {high} over {judged.trainings} trainings"
    stated = contents.evaluation.get("uncertainty", {}).get(model, {}).get("conformal")
    if not stated or contents.evaluation.get("unit") != "image":
        return ""
    left = [
        name
        for name, value in zip(contents.classes, judged.probabilities, strict=True)
        if value >= stated["thresholds"].get(name, 0.0)
    ]
    return f"not ruled out: {', '.join(left) or 'nothing'}"


def _walls(contents: Contents) -> list[Wall]:
    """Draw the layer x head wall of every case that has one."""
    walls = []
    for path in sorted((contents.run.explanations / "attention").glob("*.npz"))[:MOST_WALLS]:
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
