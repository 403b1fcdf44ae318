"""Stored maps: reading them, the color scale that all maps of a method share, and painting them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vitrail.color import Scale
from vitrail.records import Preprocessing
from vitrail.report.contents import Contents, read_preprocessing
from vitrail.report.pictures import (
    OVERLAY_PX,
    Resampling,
    color_bar,
    data_uri,
    fractions_of,
    paint,
    register,
)
from vitrail.runfolder import RunFolder

_NO_METHOD = {"attention"}
"""Folders below ``explanations/`` that hold no method's maps."""

CLASS_AGNOSTIC = {"rollout", "raw_attention"}
"""Methods whose map is the same whatever class is asked for, where the record does not tell."""

EVEN = 0.1
"""A map whose values differ by less than this share of the largest is even (view.js, too)."""

_FADED = bytes(min(255, round(510 * abs(step / 127.5 - 1))) for step in range(256))
"""Opacity of a signed scale: near zero the picture shows through (canvas.js, too)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """One case's raw map and what its record says of it."""

    values: Float[np.ndarray, "row column"]
    about: Mapping[str, Any]

    @property
    def method(self) -> str:
        """Name of the method, and of the label that it was asked for."""
        name, label = self.about.get("method", "unnamed method"), self.about.get("label")
        return f"{name} of {label}" if label else str(name)

    @property
    def class_specific(self) -> bool:
        """Whether the map depends on the class asked for."""
        return bool(self.about.get("class_specific", self.method not in CLASS_AGNOSTIC))

    @property
    def signed(self) -> bool:
        """Whether values below zero mean something."""
        return bool(self.about.get("signed", bool((self.values < 0).any())))

    @property
    def even(self) -> bool:
        """Whether hardly anything stands out: painted, it would only veil the picture."""
        return float(np.ptp(self.values)) <= EVEN * float(np.abs(self.values).max())

    @property
    def prefix_share(self) -> float | None:
        """Share of the scores that fell on tokens without a place in the picture."""
        stated = self.about.get("prefix_share")
        found = np.asarray(stated if stated is not None else np.nan, dtype=np.float64).ravel()
        return float(found[0]) if found.size and np.isfinite(found[0]) else None


def methods_of(run: RunFolder) -> tuple[str | None, ...]:
    """List the methods that a run holds maps of; None stands for the run's own."""
    folders = sorted(
        path.name
        for path in run.explanations.glob("*/")
        if path.name not in _NO_METHOD and any(path.glob("*.npz"))
    )
    own: tuple[str | None, ...] = (None,) if any(run.explanations.glob("*.npz")) else ()
    return own + tuple(folders)


def read_maps(run: RunFolder, case_ids: Iterable[str], *, method: str | None) -> dict[str, Map]:
    """Read one method's maps of some cases, those that are there."""
    found = {name: read_map(run.explanation(name, method=method)) for name in case_ids}
    return {name: one for name, one in found.items() if one is not None}


def read_map(path: Path) -> Map | None:
    """Read a map, or None where there is none.

    A map with further axes (slices of a volume, several classes) is shown by the slice or class
    with the largest score.
    """
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        values = np.asarray(stored["values"], dtype=np.float64)
    beside = path.with_suffix(".json")
    about = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    layers = values.reshape(-1, *values.shape[-2:])
    strongest = int(np.abs(layers).max(axis=(1, 2)).argmax())
    return Map(values=layers[strongest], about={**about.get("extra", {}), **about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """What the colors of one method's overlays mean.

    Attributes:
        method: Name of the method.
        class_specific: Whether the maps depend on the class asked for.
        signed: Whether the scale has a negative half.
        bar: Data URI of the color scale.
        largest: Raw value at the top of the scale that all cases share.
        count: Number of maps behind ``largest``.
        target: What was asked of the maps, in words.
    """

    target: str
    method: str
    class_specific: bool
    signed: bool
    bar: str
    largest: float
    count: int

    @property
    def scale(self) -> Scale:
        """The color scale."""
        return "diverging" if self.signed else "sequential"

    @property
    def meaning(self) -> str:
        """Say what a value of the map is."""
        if self.method in CLASS_AGNOSTIC:
            return "Share of the read-out that comes from a patch."
        asked = f" ({self.target})" if self.target else ""
        return f"Raw value of the map at a patch: evidence for the explained class{asked}."


def legend_of(maps: Sequence[Map]) -> Legend | None:
    """Find the scale that maps share: its top is the 99.5th percentile of all their values."""
    if not maps:
        return None
    signed = any(one.signed for one in maps)
    values = np.concatenate([np.abs(one.values).ravel() for one in maps])
    targets = {str(one.about.get("target", "")) for one in maps}
    return Legend(
        target=targets.pop() if len(targets) == 1 else "",
        method=maps[0].method,
        class_specific=all(one.class_specific for one in maps),
        signed=signed,
        bar=color_bar("diverging" if signed else "sequential"),
        largest=float(np.percentile(values, 99.5)),
        count=len(maps),
    )


def overlays(
    contents: Contents, one: Map, *, legend: Legend, shown: tuple[int, int]
) -> dict[str, str]:
    """Paint a map in each normalization and resampling that the page offers.

    Args:
        contents: The run.
        one: The map.
        legend: Its method's scale.
        shown: (width, height) of the picture on the page in px.

    Returns:
        Data URIs by ``<normalization>-<resampling>``; none of a map that is even, nor where nobody
        knows how the picture became the model's input.
    """
    place = placed(contents, one, shown=shown)
    if place is None or one.even:
        return {}
    preprocessing, source_size = place
    width, height = shown
    shrink = min(1.0, OVERLAY_PX / max(shown))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    tops = {"run": legend.largest, "image": float(np.abs(one.values).max())}
    resamplings: tuple[Resampling, ...] = ("bilinear", "patches")
    painted = {}
    for resampling in resamplings:
        lying = register(
            one.values,
            preprocessing=preprocessing,
            source_size=source_size,
            shown_size=size,
            resampling=resampling,
        )
        for normalization, largest in tops.items():
            fractions = fractions_of(lying, largest=largest, signed=legend.signed)
            picture = paint(fractions, legend.scale)
            if legend.signed:
                picture.info["transparency"] = _FADED
            painted[f"{normalization}-{resampling}"] = data_uri(picture, lossless=True)
    return painted


def placed(
    contents: Contents, one: Map, *, shown: tuple[int, int]
) -> tuple[Preprocessing, tuple[int, int]] | None:
    """Find how a map's picture became the model's input.

    Args:
        contents: The run.
        one: The map.
        shown: (width, height) of the picture on the page, for a record without the source's size.

    Returns:
        The preprocessing and (height, width) of the source picture; None where nobody knows.
    """
    stated = one.about.get("preprocessing")
    preprocessing = (
        read_preprocessing(stated)
        if stated
        else contents.preprocessing(str(one.about.get("model", contents.models[0])))
    )
    if preprocessing is None:
        return None
    height, width = one.about.get("source_size") or (shown[1], shown[0])
    return preprocessing, (int(height), int(width))
