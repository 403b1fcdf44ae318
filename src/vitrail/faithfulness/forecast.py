"""What a bench will cost, and how many pictures fit into the time there is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.explain.target import logits_of
from vitrail.faithfulness.controls import CONTROLS
from vitrail.faithfulness.explainers import Panel, native_grid
from vitrail.faithfulness.imputers import Ask, Imputer
from vitrail.faithfulness.magnitude import FRACTIONS, SUBSETS
from vitrail.faithfulness.randomization import SHUFFLES
from vitrail.faithfulness.suite import BenchSettings

_HIDDEN, _TRIED, _EXPLAINED = 0.3, 8, 2


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one picture is asked.

    Attributes:
        explanations: By all methods together.
        variants: With patches hidden by the first imputer.
        others: With patches hidden by another one.
    """

    explanations: int
    variants: int
    others: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the bench will cost.

    Attributes:
        every: What every picture is asked.
        few: What a few are asked beside (:attr:`BenchSettings.few`).
        cases: Pictures that fit into the budget.
        seconds: Everything.
        megabytes: Of the pictures and maps held.
        pass_seconds: One forward pass of a picture.
    """

    every: Load
    few: Load
    cases: int
    seconds: float
    megabytes: float
    pass_seconds: float

    @property
    def passes(self) -> float:
        """Forward passes of whole pictures that would take as long as everything."""
        return self.seconds / max(self.pass_seconds, 1e-9)


def loads(settings: BenchSettings, methods: int) -> tuple[Load, Load]:
    """Count what every picture is asked, and what a few are asked beside.

    Args:
        settings: The tests.
        methods: How many; controls come on top.
    """
    tests, rows = set(settings.tests), methods + len(CONTROLS)
    curves = 2 * rows * (len(settings.fractions) - 1) + 1
    explained = {"contrast": 1, "mosaic": 2}
    hidden = {
        "removal": curves,
        "saco": settings.groups * rows + 1,
        "sensitivity_n": len(FRACTIONS) * SUBSETS + 1,
    }
    published = {"rise": 80 * rows + 2, "chefer": 18 * rows + 1}
    again = {"stability": 4, "randomization": SHUFFLES}
    every = Load(
        explanations=1 + sum(explained[test] for test in tests & set(explained)),
        variants=sum(hidden[test] for test in tests & set(hidden)),
        others=sum(published[test] for test in tests & set(published)),
    )
    few = Load(
        explanations=sum(again[test] for test in tests & set(again)),
        variants=0,
        others=curves * (len(settings.imputers) - 1) if "removal" in tests else 0,
    )
    return every, few


def forecast(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    methods: Sequence[str],
    settings: BenchSettings,
    asks: Mapping[Imputer, Ask],
) -> Forecast:
    """Estimate the cost from two pictures' explanations and a few forwards.

    Args:
        model: In eval mode.
        images: All pictures.
        methods: That serve the model.
        settings: The tests.
        asks: The imputers that the model allows.
    """
    grid = native_grid(model, images[:1])
    every, few = loads(settings, len(methods))
    explaining = _explaining(
        model, images[:_EXPLAINED], methods=methods, settings=settings, grid=grid
    )
    prices = [_price(ask, grid) for ask in asks.values()] or [0.0]

    def seconds(load: Load) -> float:
        dearest = max(prices)
        hiding = load.variants * prices[0] + load.others * dearest
        return load.explanations * explaining + hiding

    cases = len(images)
    if settings.budget_s is not None:
        cases = fitting(settings.budget_s, seconds(every), few=seconds(few), some=settings.few)
        cases = max(1, min(cases, len(images)))
    held = cases * (images[0].nbytes + (len(methods) + len(CONTROLS)) * grid[0] * grid[1] * 8)
    return Forecast(
        every=every,
        few=few,
        cases=cases,
        seconds=cases * seconds(every) + min(cases, settings.few) * seconds(few),
        megabytes=held / 1e6,
        pass_seconds=_pass(model, images),
    )


def fitting(budget_s: float, every: float, *, few: float, some: int) -> int:
    """Return how many pictures fit: each takes ``every`` seconds, the first ``some`` also ``few``.

    Example:
        >>> fitting(60.0, 2.0, few=4.0, some=5), fitting(12.0, 2.0, few=4.0, some=5)
        (20, 2)
    """
    cases = budget_s / max(every + few, 1e-9)
    return int(cases if cases <= some else (budget_s - some * few) / max(every, 1e-9))


def _explaining(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    methods: Sequence[str],
    settings: BenchSettings,
    grid: tuple[int, int],
) -> float:
    """Return the seconds a picture of all methods together."""
    panel = Panel(methods=settings.parameters_of(methods), grid_size=grid)
    targets = np.zeros(len(images), dtype=np.int64)
    began = time.perf_counter()
    for name in methods:
        panel.explained(name, model, images=images, targets=targets)
    return (time.perf_counter() - began) / len(images)


def _pass(model: nn.Module, images: Float[Tensor, "case channel height width"]) -> float:
    """Return the seconds a picture of one forward pass."""
    few = images[:_TRIED]
    began = time.perf_counter()
    with torch.no_grad():
        logits_of(model(few))
    return (time.perf_counter() - began) / len(few)


def _price(ask: Ask, grid: tuple[int, int]) -> float:
    """Return the seconds of a variant of the first picture with some patches hidden."""
    patches = grid[0] * grid[1]
    hidden = (torch.arange(patches) < _HIDDEN * patches).reshape(1, *grid)
    began = time.perf_counter()
    ask(torch.zeros(_TRIED, dtype=torch.long), hidden.expand(_TRIED, -1, -1))
    return (time.perf_counter() - began) / _TRIED
