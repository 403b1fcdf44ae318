"""The records that cross the stages: frozen, made of numpy arrays and plain values, no torch.

A record says what a stage hands on; it computes nothing beyond its own consistency.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from vitrail.errors import InputError

SPLITS = ("train", "validation", "test")
"""The parts of a split, by their names in every file."""

SplitName = Literal["train", "validation", "test", ""]


@runtime_checkable
class Progress(Protocol):
    """How a long stage tells how far it is; the command line draws a bar from it."""

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` steps of ``stage`` are finished."""


def label_names(label: str) -> tuple[str, ...]:
    """Split a label into its names: a bar says that a case can have several, or none.

    Example:
        >>> label_names("edema"), label_names("edema|mass"), label_names("edema|"), label_names("|")
        (('edema',), ('edema', 'mass'), ('edema',), ())
    """
    return tuple(name for name in label.split("|") if name) if "|" in label else (label,)


def join_labels(names: Sequence[str]) -> str:
    """Write the labels of a case that can have several: there is always a bar.

    Example:
        >>> join_labels(["edema", "mass"]), join_labels(["edema"]), join_labels([])
        ('edema|mass', 'edema|', '|')
    """
    return "|".join(names) + "|" * (len(names) < 2)


def no_progress(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Ignore progress: the default of every function that takes a ``progress``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One labelled item: a picture, a tile, a slice or a volume.

    Attributes:
        case_id: Unique in its cohort; readable (made from the file's path), stable over runs.
        path: File, relative to the cohort's root.
        label: Class name; where a case can have several, always with a bar: ``a|b``, ``a|``, and
            ``|`` for none of them.
        patient_id: Person, empty where unknown.
        group: What must stay together apart from the person (a source slide, a series).
        site: Hospital, scanner or source, empty where unknown.
        split: The part given by the data's makers, empty where none was given.
        mask: File of the mask, relative to the root, empty where there is none.
        attributes: What else is known of the case, such as ``age``, ``sex`` or ``scanner``: groups
            that the models are measured in. Empty values are left out.
    """

    case_id: str
    path: str
    label: str
    patient_id: str = ""
    group: str = ""
    site: str = ""
    split: SplitName = ""
    mask: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names in ``label``."""
        return label_names(self.label)


@dataclass(frozen=True, slots=True)
class Cohort:
    """A table of cases under one root folder.

    Attributes:
        root: Folder that every path of a case is relative to.
        cases: The rows, in the order of their ``case_id``.
        classes: Class names, sorted; a class's index everywhere is its place here.
    """

    root: Path
    cases: tuple[Case, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        """Iterate over the cases."""
        return iter(self.cases)

    @property
    def multi_label(self) -> bool:
        """Whether a case can have several labels, or none."""
        return any("|" in case.label for case in self.cases)

    def label_index(self, case: Case) -> int:
        """Return the class index of a case with one label."""
        return self.classes.index(case.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeView:
    """How a volume becomes a picture; stored with every model that is shown volumes.

    Attributes:
        mode: ``montage``: ``grid`` x ``grid`` slices as tiles, row by row; ``slice``: one;
            ``projection``: the brightest value of as many slices as a montage has (MIP);
            ``channels``: three slices as the three channels of a picture (2.5-D).
        window: Name of a window in HU, or ``auto``: the volume's own 0.5th to 99.5th percentile.
        orientation: Where slices, rows and columns lead. ``SPL`` is the view of radiology (upwards
            slice by slice, front at the top, the patient's right at the left), ``SAR`` is RAS.
        spacing_mm: Resample to this distance of (slices, rows, columns) first; None keeps them.
        grid: Tiles along each side of a montage.
        stride: Slices from one that is shown to the next.
        tile_px: Rows and columns of each slice in the picture.
        crop: ``whole``: all of the slice, squared with black; ``mask``: a square around the mask,
            and only the slices that it reaches.
        margin_mm: Around the mask.
        votes: Windows of slices, spread evenly, whose probabilities are averaged in evaluation;
            odd, so that one of them is the middle.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  read by those who check JSON with it

    mode: Literal["montage", "slice", "projection", "channels"] = "montage"
    window: str = "auto"
    orientation: str = "SPL"
    spacing_mm: tuple[float, float, float] | None = None
    grid: int = 3
    stride: int = 1
    tile_px: int = 64
    crop: Literal["whole", "mask"] = "whole"
    margin_mm: float = 10.0
    votes: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers that make no picture."""
        least = min(self.grid, self.stride, self.tile_px)
        if least < 1 or self.margin_mm < 0 or self.votes < 1 or self.votes % 2 == 0:
            raise InputError(
                "volume",
                f"grid {self.grid}, stride {self.stride}, tile_px {self.tile_px}, "
                f"margin_mm {self.margin_mm}, votes {self.votes}",
                "they are whole and above 0, the margin at least 0, the votes odd",
                "change them",
            )

    @property
    def depth(self) -> int:
        """Number of slices in one picture."""
        return {"slice": 1, "channels": 3}.get(self.mode, self.grid**2)

    @property
    def picture_px(self) -> int:
        """Rows and columns of the picture."""
        return self.tile_px * (self.grid if self.mode == "montage" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a model's input; stored with every model.

    Attributes:
        image_size: (rows, columns) of the model's input in pixels.
        channels: 1 (grey) or 3 (color).
        fit: ``squash`` resizes the whole picture to ``image_size``; ``pad`` keeps its aspect and
            fills the rest with ``fill``.
        mean: Per channel, of pixel values scaled to [0, 1].
        std: Per channel, of pixel values scaled to [0, 1].
        interpolation: Pillow's name of the resampling filter, always with antialiasing.
        fill: Value in [0, 1] around a padded picture.
        intensity_range: Stored value that maps to 0 and to 1, for pictures of more than 8 bits.
        volume: How a volume becomes the picture; None where the cases are pictures.
    """

    image_size: tuple[int, int]
    channels: Literal[1, 3]
    fit: Literal["squash", "pad"] = "squash"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    fill: float = 0.0
    intensity_range: tuple[float, float] | None = None
    volume: VolumeView | None = None

    def source_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Locate a source picture of ``height`` x ``width`` px in the model's input.

        Returns:
            ``(top, left, bottom, right)`` in input pixels, end exclusive: where the whole source
            picture lies after resizing. A map on the input's grid is cut to this box and
            stretched to the source's size to lie over its own pixels.
        """
        rows, columns = self.image_size
        if self.fit == "squash":
            return 0, 0, rows, columns
        scale = min(rows / height, columns / width)
        inner_rows = max(1, min(rows, round(height * scale)))
        inner_columns = max(1, min(columns, round(width * scale)))
        top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
        return top, left, top + inner_rows, left + inner_columns


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What one model said of one part of the cohort.

    Attributes:
        model: Name of the model in the run (its folder under ``models/``).
        seed: Seed of the training.
        fold: Fold of the cross-validation, 0 where there is one split.
        split: Part of the split that these cases belong to; ``external`` for another source's.
        classes: Class names, in the order of ``probabilities``' last axis.
        case_ids: One a row.
        y_true: Class index of each case; where a case can have several labels, which it has.
        probabilities: Rows sum to one; with several labels each is that of its own label.
    """

    model: str
    seed: int
    fold: int
    split: SplitName | Literal["external"]
    classes: tuple[str, ...]
    case_ids: tuple[str, ...]
    y_true: Int[np.ndarray, " case"] | Bool[np.ndarray, "case class"]
    probabilities: Float[np.ndarray, "case class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: The point estimate; NaN where the metric is not defined on these cases.
        low: Lower end.
        high: Upper end.
        n: Number of units of analysis (patients or images) behind it.
        method: How the interval was made, e.g. ``bootstrap over patients, percentile, 2000``.
        reason: Why ``value`` or its ends are NaN, or what the number leaves out; else empty.
        spread: Standard deviation over seeds, None where there is one seed.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    reason: str = ""
    spread: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired difference of two models on the same cases: ``a`` minus ``b``.

    ``p_value_holm`` is adjusted for all pairs of models compared by the same metric; NaN where no
    p-value is known. ``exact_p_value`` is that of ``exact_test`` (DeLong, McNemar), where each
    case is independent and there is one run a model.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    sentence: str
    p_value: float = float("nan")
    p_value_holm: float = float("nan")
    exact_p_value: float = float("nan")
    exact_test: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that ``evaluation.json`` holds.

    Attributes:
        unit: Unit of analysis of the headline numbers.
        positive_class: Class whose probability is the score in a binary task, else None.
        sets: ``sets[split][model][metric]``.
        comparisons: Paired comparisons on the test set.
        warnings: Sentences that belong beside the numbers.
        curves: What the figures are drawn from: ``curves[split][model]`` with keys such as
            ``confusion``, ``roc``, ``calibration``.
        image_level: Like ``sets``, image by image, where the headline is by patient.
        operating_points: ``operating_points[model]``: one a run, with ``seed``, ``fold``,
            ``threshold``, ``temperature`` and the rule in words.
        calibrated: Like ``sets``: the probability metrics after temperature scaling.
        vector_scaled: Like ``sets``: the probability metrics after vector scaling.
        subgroups: ``subgroups[column][model]``: the ``groups`` and the largest ``gap``.
        external_subgroups: The same of the external set, where it has such columns.
        aggregation: How images rolled up to patients; empty where they did not.
        by_class: ``by_class[split][model][class]``: the metrics of each class against the rest, or
            of each label, where there are more than two.
        uncertainty: ``uncertainty[model]``: the ``conformal`` sets and the ``abstention`` rule made
            from validation cases, with how often they held on the compared set.
        shortcuts: Each model's ROC area beside that of the audit's strongest trivial feature.
        test_openings: How often the test set was evaluated in this run folder; 0 if not counted.
        configurations_tried: How many configurations the models were chosen from.
        prevalence: At which predictive values are stated besides those of the test set.
    """

    unit: Literal["patient", "image"]
    positive_class: str | None
    sets: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    comparisons: tuple[Comparison, ...] = ()
    warnings: tuple[str, ...] = ()
    curves: Mapping[str, Mapping[str, Mapping[str, object]]] = field(default_factory=dict)
    image_level: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    operating_points: Mapping[str, tuple[Mapping[str, object], ...]] = field(default_factory=dict)
    calibrated: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    subgroups: Mapping[str, Mapping[str, Mapping[str, object]]] = field(default_factory=dict)
    external_subgroups: Mapping[str, Mapping[str, Mapping[str, object]]] = field(
        default_factory=dict
    )
    aggregation: str = ""
    by_class: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Estimate]]]] = field(
        default_factory=dict
    )
    uncertainty: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    shortcuts: tuple[Mapping[str, object], ...] = ()
    test_openings: int = 0
    configurations_tried: int = 1
    prevalence: float | None = None
    vector_scaled: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
