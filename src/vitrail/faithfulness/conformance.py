"""The public test of an explainer: does its map point at the cause that was planted?

Three numbers a method, on new pictures of :mod:`~vitrail.faithfulness.planted`, over the maps that
explain the logit of each motif that is in a picture:

pointing
    Share of maps whose highest patch lies on the motif (ties share; chance = the motif's area).
average precision
    Of the patches' scores against "on the motif".
right class
    Of all ordered pairs of motifs (c, d) in one picture, the share in which the map for c is
    higher on c than on d (means over their patches; ties count half). A map that knows no class
    scores 0.5.

A method that reaches .98 in pointing and right class conforms. And because the most copied public
code of gradient rollout is wrong in known ways, an explainer whose maps *are* those wrong maps is
told so by name (:mod:`~vitrail.faithfulness.mistakes`). Intervals are bootstrapped over pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from vitrail.errors import InputError
from vitrail.explain import explain
from vitrail.explain import methods as all_methods
from vitrail.faithfulness.controls import control_maps
from vitrail.faithfulness.interval import mean_estimates, to_plain
from vitrail.faithfulness.mistakes import known_mistakes, recognize
from vitrail.faithfulness.planted import GRID, MOTIFS, PlantedPictures, plant, train_tiny_vit
from vitrail.records import Estimate, Progress, no_progress

Explainer = Callable[[nn.Module, Tensor, int], Any]
"""(model, images [case 1 height width], class) → maps [case row column], a tensor or an array."""

Maps = Float[np.ndarray, "class case row column"]

CONFORMS = 0.98
"""What pointing and right class must reach."""

SEED = 7_000_000
"""Of the pictures; training never draws it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """How one explainer did on planted evidence.

    Attributes:
        name: The explainer.
        pointing: Share of maps whose highest patch lies on the motif.
        average_precision: Mean over maps.
        right_class: Share of pairs told apart; 0.5 knows no class.
        num_maps: Maps behind ``pointing`` and ``average_precision``.
        num_pairs: Ordered pairs behind ``right_class``.
        known_mistake: What public code these maps equal, empty if none.
        is_control: Whether it is a map that knows nothing of the model.
    """

    name: str
    pointing: Estimate
    average_precision: Estimate
    right_class: Estimate
    num_maps: int
    num_pairs: int
    known_mistake: str = ""
    is_control: bool = False

    @property
    def conforms(self) -> bool:
        """Whether the maps point at the cause of the class that was asked for."""
        return (
            min(self.pointing.value, self.right_class.value) >= CONFORMS and not self.known_mistake
        )

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "name": self.name,
            "pointing": to_plain(self.pointing),
            "average_precision": to_plain(self.average_precision),
            "right_class": to_plain(self.right_class),
            "num_maps": self.num_maps,
            "num_pairs": self.num_pairs,
            "known_mistake": self.known_mistake,
            "is_control": self.is_control,
            "conforms": self.conforms,
        }


def conformance(
    model: nn.Module | None = None,
    pictures: PlantedPictures | None = None,
    *,
    methods: Sequence[str] | None = None,
    explainers: Mapping[str, Explainer] | None = None,
    progress: Progress = no_progress,
) -> tuple[Conformance, ...]:
    """Judge methods, anyone's explainers and the controls on planted evidence.

    Args:
        model: Knows the motifs; by default :func:`~vitrail.faithfulness.planted.train_tiny_vit`.
        pictures: By default 100 new ones.
        methods: Names in :func:`vitrail.explain.methods`; by default all.
        explainers: Functions to judge, by the names to call them.
        progress: Told after every explainer.

    Returns:
        One row each, the best first, the controls last.
    """
    model = train_tiny_vit(progress=progress) if model is None else model
    pictures = plant(100, seed=SEED) if pictures is None else pictures
    names = list(all_methods()) if methods is None else list(methods)
    rows = []
    mistakes = known_mistakes(model, pictures.images)
    for done, name in enumerate([*names, *(explainers or {})]):
        progress("conformance", done=done, total=len(names) + len(explainers or {}), note=name)
        if explainers and name in explainers:
            maps = call_explainer(explainers[name], model, pictures=pictures)
        else:
            maps = explain_planted(name, model, pictures=pictures)
        rows.append(judge(name, maps, pictures=pictures, mistakes=mistakes))
    rows.sort(key=lambda row: (row.conforms, row.right_class.value, row.pointing.value))
    controls = [
        judge(name, np.stack([found] * len(MOTIFS)), pictures=pictures, is_control=True)
        for name, found in control_maps(pictures.images, (GRID, GRID), seed=SEED).items()
    ]
    return (*rows[::-1], *controls)


def explain_planted(
    method: str, model: nn.Module, *, pictures: PlantedPictures, **parameters: Any
) -> Maps:
    """Explain every motif's logit of every picture by one of vitrail's methods."""
    if not all_methods()[method].class_specific:
        one = explain(model, pictures.images, method=method, **parameters).values
        return np.stack([one.numpy()] * len(MOTIFS))
    maps: np.ndarray = explain(
        model, pictures.images, method=method, target="all", **parameters
    ).values.numpy()
    return maps


def call_explainer(explainer: Explainer, model: nn.Module, *, pictures: PlantedPictures) -> Maps:
    """Explain every motif's logit of every picture by anyone's explainer.

    Raises:
        InputError: If what it returns is not one finite map on the patch grid for each picture.
    """
    maps = []
    rows, columns = pictures.causes.shape[-2:]
    for motif in range(len(MOTIFS)):
        given = explainer(model, pictures.images, motif)
        found = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
        if found.shape != (len(pictures.images), rows, columns) or not np.isfinite(found).all():
            raise InputError(
                "explainer",
                f"it returned {found.shape}" + ("" if np.isfinite(found).all() else " with NaN"),
                f"one finite map [{rows} {columns}] for each of {len(pictures.images)} images",
                "return the patch grid's raw scores as a tensor [case row column]",
            )
        maps.append(found.astype(np.float64))
    return np.stack(maps)


def judge(
    name: str,
    maps: Maps,
    *,
    pictures: PlantedPictures,
    mistakes: Mapping[str, Maps] | None = None,
    is_control: bool = False,
) -> Conformance:
    """Hold maps against the planted causes.

    Args:
        name: What to call the explainer.
        maps: A map for each motif and picture; only motifs that are there are judged.
        pictures: The causes.
        mistakes: Maps of known wrong codes
            (:func:`~vitrail.faithfulness.mistakes.known_mistakes`) to recognize.
        is_control: Whether the maps know nothing of the model.
    """
    cases = len(pictures.images)
    numbers: dict[str, list[list[float]]] = {
        key: [[] for _ in range(cases)] for key in ("pointing", "average_precision", "right_class")
    }
    causes, present = pictures.causes.numpy(), pictures.present.numpy()
    for case, motif in np.argwhere(present):
        values, cause = maps[motif, case], causes[case, motif]
        numbers["pointing"][case].append(_points(values, cause))
        numbers["average_precision"][case].append(
            average_precision_score(cause.ravel(), values.ravel())
        )
        numbers["right_class"][case] += [
            _prefers(values, cause=cause, other=causes[case, other])
            for other in np.flatnonzero(present[case])
            if other != motif
        ]
    counts = {key: np.array([len(part) for part in parts]) for key, parts in numbers.items()}
    means = {
        key: np.array([np.mean(part) if part else np.nan for part in parts])
        for key, parts in numbers.items()
    }
    found = mean_estimates(
        means,
        weights={key: part.astype(np.float64) for key, part in counts.items()},
        proportions=means,
    )
    return Conformance(
        name=name,
        num_maps=int(counts["pointing"].sum()),
        num_pairs=int(counts["right_class"].sum()),
        known_mistake=recognize(maps, mistakes or {}),
        is_control=is_control,
        **found,
    )


def _points(
    values: Float[np.ndarray, "row column"], cause: Bool[np.ndarray, "row column"]
) -> float:
    """Return the share of the highest patches that lie on the cause."""
    highest = values == values.max()
    return float((highest & cause).sum() / highest.sum())


def _prefers(
    values: Float[np.ndarray, "row column"],
    *,
    cause: Bool[np.ndarray, "row column"],
    other: Bool[np.ndarray, "row column"],
) -> float:
    """Return 1 where the cause scores higher than the other motif, 0.5 where they tie."""
    difference = values[cause].mean() - values[other].mean()
    return float(np.sign(difference) + 1) / 2
