"""The tests of the bench, each on all methods and controls at once, sharing what they can."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import CaptureError, InputError
from vitrail.explain import methods as all_methods
from vitrail.faithfulness.contrast import Explain, class_contrast, mosaic_pairs, mosaic_score
from vitrail.faithfulness.explainers import REFUSALS, Explained
from vitrail.faithfulness.imputers import Ask, Hiding, Imputer, asker
from vitrail.faithfulness.interval import Unit
from vitrail.faithfulness.magnitude import (
    GROUPS,
    PAPER_GROUPS,
    saco_scores,
    sensitivity_n_scores,
)
from vitrail.faithfulness.randomization import RULE, randomization_error, shuffled_models
from vitrail.faithfulness.removal import (
    FRACTIONS,
    TENTHS,
    RemovalCurves,
    chefer_areas,
    removal_curves,
    rise_areas,
)
from vitrail.faithfulness.stability import stability
from vitrail.metrics.localization import (
    coverage,
    lesion_size,
    outside_error,
    pointing_score,
    rank_accuracy_score,
    relevance_mass_score,
    top_iou_score,
)
from vitrail.records import Progress, no_progress

TESTS = (
    "removal",
    "saco",
    "sensitivity_n",
    "contrast",
    "mosaic",
    "stability",
    "randomization",
    "completeness",
    "localization",
)
"""What is tested unless told otherwise."""

PUBLISHED = ("rise", "chefer")
"""Areas as two papers define them, for comparison; they ask for more than all others together."""

LOCALIZATION = {
    "pointing_score": pointing_score,
    "relevance_mass_score": relevance_mass_score,
    "rank_accuracy_score": rank_accuracy_score,
    "top_iou_score": top_iou_score,
    "outside_error": outside_error,
}

FEW_CASES = 24
"""Pictures at most of the tests that describe a method, disqualify it, or hold the first imputer
against another: stability, randomization, removal under every imputer but the first."""

Values = dict[tuple[str, str], Float[np.ndarray, " case"]]
"""(test, method) → a number a case."""


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What is tested, and how.

    Attributes:
        tests: Among :data:`TESTS` and :data:`PUBLISHED`.
        imputers: Of the removal test; the first one also serves the other tests that hide.
        hiding: Black value, seed and batch size of all tests that hide.
        budget_s: Seconds that everything may take: cases are left out to fit; None is no limit.
        thorough: Ten heights of the removal curves instead of six, ten groups of SaCo instead of
            five, and every test on every picture.
        several: Whether a picture can have several labels, each with a probability of its own.
        unit: What groups are: patients, or pictures where one is explained for several labels.
        parameters: Of methods, by name.
    """

    tests: tuple[str, ...] = TESTS
    imputers: tuple[Imputer, ...] = ("token_drop", "blur")
    hiding: Hiding = field(default_factory=Hiding)
    budget_s: float | None = None
    thorough: bool = False
    several: bool = False
    unit: Unit = "patient"
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parameters_of(self, methods: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the parameters that were given of some methods, by name."""
        return {name: self.parameters.get(name, {}) for name in methods}

    @property
    def fractions(self) -> tuple[float, ...]:
        """Shares of hidden patches along the removal curves."""
        return TENTHS if self.thorough else FRACTIONS

    @property
    def groups(self) -> int:
        """Groups of patches for SaCo."""
        return PAPER_GROUPS if self.thorough else GROUPS

    @property
    def few(self) -> int:
        """Pictures at most of the tests that are not made on all."""
        return sys.maxsize if self.thorough else FEW_CASES

    @property
    def protocols(self) -> tuple[str, ...]:
        """Names of the definitions that depend on these settings, and of the rule."""
        return (*(("removal-1", "saco-3") if self.thorough else ("removal-2", "saco-4")), RULE)


@dataclass(eq=False, kw_only=True)
class Suite:
    """All that the tests share, and what they found.

    Attributes:
        model: In eval mode.
        images: Pictures.
        targets: Class of each.
        others: The runner-up of each.
        present: Which labels the model finds in each, where it can have several.
        settings: What is tested.
        explainers: Methods by name.
        controls: Controls by name.
        explained: What the methods said of the pictures.
        maps: Of methods and controls.
        progress: Told of long tests.
        masks: What a person drew, or None.
        values: A number a case, by test and method.
        refused: Tests that cannot be done, with the reason.
        curves: Of the removal test, one an imputer; NaN where a picture was not asked.
        asks: The imputers that the model allows, ready to be asked about the first picture.
        best_control: Of each removal test, the control with the highest mean gain.
    """

    model: nn.Module
    images: Float[Tensor, "case channel height width"]
    targets: Int[np.ndarray, " case"]
    others: Int[np.ndarray, " case"]
    settings: BenchSettings
    explainers: dict[str, Explain]
    controls: dict[str, Explain]
    explained: dict[str, Explained]
    maps: dict[str, Float[np.ndarray, "case row column"]]
    progress: Progress = no_progress
    masks: Bool[np.ndarray, "case height width"] | None = None
    present: Bool[np.ndarray, "case class"] | None = None
    values: Values = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    curves: list[RemovalCurves] = field(default_factory=list)
    asks: Mapping[Imputer, Ask] = field(default_factory=dict)
    best_control: dict[str, str] = field(default_factory=dict)

    @property
    def functions(self) -> dict[str, Explain]:
        """Methods and controls as functions of one kind."""
        return {**self.explainers, **self.controls}

    @property
    def stacked(self) -> Float[np.ndarray, "method case row column"]:
        """All maps, in the order of ``maps``."""
        return np.stack(list(self.maps.values()))

    @property
    def sample(self) -> Int[np.ndarray, " some"]:
        """Places of the pictures of the tests that are not made on all, evenly spread."""
        cases = len(self.images)
        places = np.linspace(0, cases - 1, min(cases, self.settings.few))
        return np.unique(places.round().astype(int))

    def spread(
        self,
        numbers: Float[np.ndarray, "*some"],
        places: Int[np.ndarray, " some"],
        *,
        axis: int = 0,
    ) -> Float[np.ndarray, "*all"]:
        """Lay numbers of some pictures out over all pictures along an axis; the others have NaN."""
        shape = [*numbers.shape]
        shape[axis] = len(self.images)
        found = np.full(shape, np.nan)
        np.moveaxis(found, axis, 0)[places] = np.moveaxis(numbers, axis, 0)
        return found


def allowed_imputers(
    model: nn.Module,
    image: Float[Tensor, "1 channel height width"],
    *,
    grid_size: tuple[int, int],
    settings: BenchSettings,
) -> tuple[dict[Imputer, Ask], dict[str, str]]:
    """Return the imputers that this model allows, and why each of the others is refused."""
    good: dict[Imputer, Ask] = {}
    refused = {}
    for imputer in settings.imputers:
        hiding = replace(settings.hiding, imputer=imputer)
        try:
            good[imputer] = asker(model, image, grid_size=grid_size, hiding=hiding)
        except (InputError, CaptureError) as error:
            refused[f"removal_gain/{imputer}"] = str(error)
    return good, refused


def _removal(work: Suite) -> None:
    """Hide patches under every imputer that the model allows: the first for all pictures."""
    for place, imputer in enumerate(work.asks):
        some = work.sample if place else np.arange(len(work.images))
        found = removal_curves(
            work.model,
            work.images[torch.from_numpy(some)],
            maps=work.stacked[:, some],
            targets=work.targets[some],
            hiding=replace(work.settings.hiding, imputer=imputer),
            fractions=work.settings.fractions,
            several=work.settings.several,
            progress=work.progress,
        )
        most, least = (
            {key: work.spread(part, some, axis=1) for key, part in side.items()}
            for side in (found.most, found.least)
        )
        curves = replace(found, most=most, least=least)
        work.curves.append(curves)
        _put(work, f"removal_gain/{imputer}", numbers=curves.removal_gain())
        for quantity in ("logit", "accuracy"):
            gain = curves.removal_gain(quantity)
            _put(work, f"{quantity}_removal_gain/{imputer}", numbers=gain)


def _rise(work: Suite) -> None:
    """Measure insertion and deletion."""
    areas = rise_areas(
        work.model, work.images, maps=work.stacked, targets=work.targets,
        hiding=work.settings.hiding, several=work.settings.several,
    )  # fmt: skip
    _put(work, "deletion_error", numbers=areas.deletion_error)
    _put(work, "insertion_score", numbers=areas.insertion_score)


def _chefer(work: Suite) -> None:
    """Measure positive and negative perturbation."""
    areas = chefer_areas(
        work.model, work.images, maps=work.stacked, targets=work.targets,
        hiding=work.settings.hiding, several=work.settings.several,
    )  # fmt: skip
    _put(work, "positive_perturbation_error", numbers=areas.positive)
    _put(work, "negative_perturbation_score", numbers=areas.negative)


def _put(work: Suite, test: str, *, numbers: Float[np.ndarray, "method case"]) -> None:
    """Keep numbers of all methods and controls."""
    work.values |= {(test, name): row for name, row in zip(work.maps, numbers, strict=True)}


def _hiding(work: Suite) -> Hiding:
    """Return how the other tests hide: by the first imputer that the model allows."""
    return replace(work.settings.hiding, imputer=next(iter(work.asks), "blur"))


def _saco(work: Suite) -> None:
    """Compare groups of patches."""
    scores = saco_scores(
        work.model, work.images, maps=work.stacked, targets=work.targets,
        groups=work.settings.groups, hiding=_hiding(work), several=work.settings.several,
    )  # fmt: skip
    _put(work, "saco_score", numbers=scores)


def _sensitivity_n(work: Suite) -> None:
    """Compare random sets of patches."""
    scores = sensitivity_n_scores(
        work.model, work.images, maps=work.stacked, targets=work.targets, hiding=_hiding(work)
    )
    _put(work, "sensitivity_n_score", numbers=scores)


def _contrast(work: Suite) -> None:
    """Compare the maps of target and runner-up; what knows no class has 0 without asking."""
    for name, method in work.functions.items():
        specific = name in work.explainers and all_methods()[name].class_specific
        work.values["contrast_score", name] = (
            class_contrast(
                work.model, work.images, method=method, targets=work.targets,
                others=work.others, original=work.maps[name],
            )
            if specific
            else np.zeros(len(work.images))
        )  # fmt: skip


def _mosaic(work: Suite) -> None:
    """Ask for one of two pictures on one canvas."""
    if not len(mosaic_pairs(work.targets, present=work.present)):
        work.refused["mosaic_score"] = "all pictures have one target class; give pictures of two"
        return
    for name, method in work.functions.items():
        work.values["mosaic_score", name] = mosaic_score(
            work.model, work.images, method=method, targets=work.targets, present=work.present,
            seed=work.settings.hiding.seed,
        )  # fmt: skip


def _stability(work: Suite) -> None:
    """Change a few pictures a little."""
    some = work.sample
    images, targets = work.images[torch.from_numpy(some)], work.targets[some]
    for name, method in work.functions.items():
        found = stability(
            work.model, images, method=method, targets=targets, original=work.maps[name][some],
            seed=work.settings.hiding.seed,
        )  # fmt: skip
        for test in ("stability_score", "max_sensitivity_error"):
            work.values[test, name] = work.spread(getattr(found, test), some)


def _randomization(work: Suite) -> None:
    """Shuffle all weights in copies; a shuffled model that breaks a method says nothing of it."""
    some = work.sample
    images, targets = work.images[torch.from_numpy(some)], work.targets[some]
    ignorant = shuffled_models(work.model, seed=work.settings.hiding.seed)
    for name, method in work.functions.items():
        try:
            found = randomization_error(
                ignorant, images, method=method, targets=targets, original=work.maps[name][some]
            )
        except REFUSALS as error:
            work.refused[f"randomization_error of {name}"] = str(error)
            continue
        work.values["randomization_error", name] = work.spread(found, some)


def _completeness(work: Suite) -> None:
    """Keep what the methods said of themselves."""
    for name, found in work.explained.items():
        if np.isfinite(found.completeness_error).any():
            work.values["completeness_error", name] = found.completeness_error


def _localization(work: Suite) -> None:
    """Hold maps against masks; pictures with an empty mask have no number."""
    masks = work.masks
    if masks is None or not masks.any():
        work.refused["localization"] = "no masks were given; pass masks to test it"
        return
    for name, maps in work.maps.items():
        grid = (maps.shape[1], maps.shape[2])
        for test, function in LOCALIZATION.items():
            work.values[test, name] = np.array(
                [
                    function(one, coverage(mask, grid)) if mask.any() else np.nan
                    for one, mask in zip(maps, masks, strict=True)
                ]
            )
    sizes = np.array([lesion_size(mask) if mask.any() else "none" for mask in masks])
    for size in ("small", "medium", "large"):
        if (sizes == size).any() and (sizes != size).any():
            for test, name in [key for key in work.values if key[0] in LOCALIZATION]:
                numbers = np.where(sizes == size, work.values[test, name], np.nan)
                work.values[f"{test}/{size}", name] = numbers


RUN = {
    "removal": _removal,
    "saco": _saco,
    "sensitivity_n": _sensitivity_n,
    "contrast": _contrast,
    "mosaic": _mosaic,
    "stability": _stability,
    "randomization": _randomization,
    "completeness": _completeness,
    "localization": _localization,
    "rise": _rise,
    "chefer": _chefer,
}
"""The tests by name."""
