"""Take evidence away in the order of a map, and watch the model's answer.

Two curves a picture: most relevant patches first and least relevant first. A map that ranks the
evidence makes the first fall early and the second late; ``removal_gain`` is the area between them.
A random order gains 0 on average, whatever the model and whatever stands where a patch was; a
reversed map gains exactly the negative. Ties are broken at random in pairs of opposite orders, so
that a constant map gains exactly 0, which is the mean over random orders.

Protocol ``removal-2``: 0, 0.1, 0.3, 0.5, 0.7 and 0.9 of all patches (rounded) are hidden; areas are
by the trapezoid, divided by 0.9, so that they are mean heights. ``removal-1`` has all ten tenths.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import InputError
from vitrail.faithfulness.imputers import Ask, Hiding, Imputer, asker
from vitrail.records import Progress, no_progress

FRACTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Of ``removal-2``."""

TENTHS = tuple(step / 10 for step in range(10))
"""Of ``removal-1``, and of Chefer's areas."""

ALL_FRACTIONS = tuple(step / 20 for step in range(21))

Quantity = Literal["probability", "logit", "accuracy"]
Maps = Float[np.ndarray, "method case row column"]
Order = Int[np.ndarray, "tie case patch"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RemovalCurves:
    """The answers of one model under one imputer, for maps of several methods.

    Attributes:
        fractions: Share of the patches that is hidden, a step.
        most: Most relevant first: quantity → height of the curve.
        least: Least relevant first.
        imputer: What stood where a patch was.
        forwards: Variants that the model was asked about.
    """

    fractions: tuple[float, ...]
    most: dict[Quantity, Float[np.ndarray, "method case step"]]
    least: dict[Quantity, Float[np.ndarray, "method case step"]]
    imputer: Imputer
    forwards: int

    def removal_gain(self, quantity: Quantity = "probability") -> Float[np.ndarray, "method case"]:
        """Return the mean height of least-relevant-first minus that of most-relevant-first."""
        gain: np.ndarray = self.area(self.least[quantity]) - self.area(self.most[quantity])
        return gain

    def area(
        self, curves: Float[np.ndarray, "method case step"]
    ) -> Float[np.ndarray, "method case"]:
        """Return mean heights of curves, by the trapezoid."""
        found: np.ndarray = np.trapezoid(curves, self.fractions, axis=-1)
        found /= self.fractions[-1] - self.fractions[0]
        return found


def removal_curves(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    maps: Maps,
    targets: Int[np.ndarray, " case"],
    hiding: Hiding = Hiding(),  # noqa: B008 (frozen)
    fractions: Sequence[float] = FRACTIONS,
    several: bool = False,
    progress: Progress = no_progress,
) -> RemovalCurves:
    """Hide patches in the order of maps, most and least relevant first.

    Args:
        model: In eval mode.
        images: Normalized pictures.
        maps: Higher is more relevant; maps of several methods share the forwards they can.
        targets: Class whose probability and logit are followed (predicted or label);
            ``accuracy`` is 1 where the decision is this class.
        hiding: What stands where a patch was.
        fractions: Share of hidden patches at each step, rising.
        several: As of :func:`quantities`.
        progress: Told after every picture.

    Raises:
        InputError: If maps, targets or fractions do not fit.
        MethodError: If the model cannot be asked in this way.
    """
    steps = tuple(fractions)
    _check(images, maps, targets=targets, fractions=steps)
    grid = (maps.shape[2], maps.shape[3])
    ask = asker(model, images, grid_size=grid, hiding=hiding)
    counts = np.rint(np.array(steps) * grid[0] * grid[1]).astype(int)
    heights = []
    forwards = 0
    together = -(-hiding.batch_size // len(maps))  # of few maps, several pictures fill a pass
    for start in range(0, len(images), together):
        some = range(start, min(start + together, len(images)))
        orders = np.stack(
            [[tie_orders(one, seed=(hiding.seed, case)) for one in maps[:, case]] for case in some]
        )
        hidden = np.stack([_hidden(orders, counts), _hidden(orders[..., ::-1], counts)], axis=1)
        variants = hidden.reshape(len(some), -1, grid[0] * grid[1])
        logits, asked = ask_once(ask, variants, cases=some, grid=grid)
        forwards += asked
        for case, answer in zip(some, logits, strict=True):
            answers = quantities(answer, int(targets[case]), several=several)
            shape = hidden.shape[1:-1]
            heights.append({k: part.reshape(shape).mean(axis=2) for k, part in answers.items()})
            progress(f"removal, {hiding.imputer}", done=case + 1, total=len(images))
    stacked = {key: np.stack([part[key] for part in heights], axis=2) for key in heights[0]}
    return RemovalCurves(
        fractions=steps,
        most={key: part[0] for key, part in stacked.items()},
        least={key: part[1] for key, part in stacked.items()},
        imputer=hiding.imputer,
        forwards=forwards,
    )


def tie_orders(
    values: Float[np.ndarray, "row column"], *, seed: tuple[int, int]
) -> Int[np.ndarray, "2 patch"]:
    """Return two orders of the patches, highest first, that break ties in opposite ways."""
    chance = np.random.default_rng(seed).permutation(values.size)
    return np.stack([np.lexsort((way, -values.ravel())) for way in (chance, -chance)])


def _hidden(orders: Int[np.ndarray, "*any patch"], counts: Int[np.ndarray, " step"]) -> np.ndarray:
    """Return which patches are gone at each step: the first ``count`` of each order."""
    rank = np.argsort(orders, axis=-1)
    found: np.ndarray = rank[..., None, :] < counts[:, None]
    return found


def ask_once(
    ask: Ask,
    hidden: Bool[np.ndarray, "case variant patch"],
    *,
    cases: Sequence[int],
    grid: tuple[int, int],
) -> tuple[Float[np.ndarray, "case variant class"], int]:
    """Ask about each distinct set of hidden patches of each picture, and hand out the answers."""
    owners = np.repeat(np.array(cases, dtype=np.uint32), hidden.shape[1])
    flat = hidden.reshape(len(owners), -1)
    packed = np.concatenate([owners[:, None].view(np.uint8), np.packbits(flat, axis=1)], axis=1)
    _, first, back = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    variants = torch.from_numpy(flat[first]).reshape(-1, *grid)
    logits = ask(torch.from_numpy(owners[first].astype(np.int64)), variants).cpu().double().numpy()
    return logits[back.ravel()].reshape(*hidden.shape[:2], -1), len(first)


def quantities(
    logits: Float[np.ndarray, "variant class"], target: int, *, several: bool = False
) -> dict[Quantity, Float[np.ndarray, " variant"]]:
    """Return the target's probability, logit, and whether it is the decision.

    Args:
        logits: Of each variant.
        target: The class.
        several: Whether a picture can have several labels: the target's probability is then the
            sigmoid of its logit, and it is a decision by itself.
    """
    if several:
        own = logits[:, target]
        logits, target = np.stack([np.zeros_like(own), own], axis=1), 1
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {
        "probability": odds[:, target] / odds.sum(axis=1),
        "logit": logits[:, target],
        "accuracy": (logits.argmax(axis=1) == target).astype(np.float64),
    }


def _check(
    images: Tensor, maps: Maps, *, targets: np.ndarray, fractions: tuple[float, ...]
) -> None:
    """Refuse maps, targets and fractions that do not fit."""
    if maps.shape[1] != len(images) or len(targets) != len(images):
        raise InputError(
            "maps",
            f"{maps.shape[1]} maps and {len(targets)} targets for {len(images)} images",
            "there must be one of each an image",
            "explain and name a class for every image",
        )
    if not np.isfinite(maps).all():
        raise InputError("maps", "NaN or infinity", "a map must be finite", "check the explainer")
    rising = all(a < b for a, b in pairwise(fractions))
    if len(fractions) < 2 or not rising or fractions[0] < 0 or fractions[-1] > 1:
        raise InputError(
            "fractions",
            str(fractions),
            "they must rise within 0 to 1",
            "pass for example (0, 0.1, …, 0.9)",
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Rise:
    """Areas under the curves of the RISE paper.

    Attributes:
        deletion_error: Lower is better: most relevant patches go first, to black.
        insertion_score: Higher is better: most relevant patches come first, out of the blur.
    """

    deletion_error: Float[np.ndarray, "method case"]
    insertion_score: Float[np.ndarray, "method case"]


def rise_areas(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    maps: Maps,
    targets: Int[np.ndarray, " case"],
    hiding: Hiding = Hiding(),  # noqa: B008 (frozen)
    several: bool = False,
) -> Rise:
    """Measure deletion (to black) and insertion (into the blurred picture) of probability.

    Inserting the most relevant first is hiding the least relevant first, read backward.

    Source: petsiuk2018rise, section 4.1.

    Differs: twenty steps of whole patches instead of single pixels; the blur is as wide as a patch.
    """
    imputers: tuple[Imputer, Imputer] = ("black", "blur")
    deletion, insertion = (
        removal_curves(
            model,
            images,
            maps=maps,
            targets=targets,
            hiding=replace(hiding, imputer=imputer),
            fractions=ALL_FRACTIONS,
            several=several,
        )
        for imputer in imputers
    )
    return Rise(
        deletion_error=deletion.area(deletion.most["probability"]),
        insertion_score=insertion.area(insertion.least["probability"]),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Perturbation:
    """Chefer's areas, a number between 0 and 90 a method.

    Attributes:
        positive: Most relevant first; lower is better.
        negative: Least relevant first; higher is better.
    """

    positive: Float[np.ndarray, "method case"]
    negative: Float[np.ndarray, "method case"]


def chefer_areas(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    maps: Maps,
    targets: Int[np.ndarray, " case"],
    hiding: Hiding = Hiding(),  # noqa: B008 (frozen)
    several: bool = False,
) -> Perturbation:
    """Measure positive and negative perturbation: accuracy, trapezoid over 0…0.9, times 100.

    Source: chefer2021transformer, section 4 (perturbation tests).

    Differs: whole patches instead of pixels of the enlarged map: the maps are on the patch grid.
    """
    black = replace(hiding, imputer="black")
    curves = removal_curves(
        model, images, maps=maps, targets=targets, hiding=black, fractions=TENTHS, several=several
    )
    return Perturbation(
        positive=100 * np.trapezoid(curves.most["accuracy"], curves.fractions, axis=-1),
        negative=100 * np.trapezoid(curves.least["accuracy"], curves.fractions, axis=-1),
    )
