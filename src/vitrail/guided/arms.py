"""The arms of the ablation: what the second stage is shown beside the picture, and why.

Every arm has the same channels, cases, folds, seeds and starting weights; only what the map
channel holds differs. So a difference between two arms is the map's doing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from vitrail.errors import InputError

Source = Literal["method", "zero", "random", "center", "shuffled", "mask", "joint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What fills the map channel.

    Attributes:
        name: Of the model in ``predictions.csv``.
        source: ``method`` explains stage one; ``joint`` trains both stages at once, its map made
            by the model itself; the others are controls.
        method: Name in :func:`vitrail.explain.methods`, for maps of stage one.
        in_sample: The naive way: maps of training cases from the model that was trained on them.
        about: What the arm tells, in words.
    """

    name: str
    source: Source
    method: str = ""
    in_sample: bool = False
    about: str


GUIDED = Arm(name="guided", source="method", method="rollout", about="the map of stage one")
NO_MAP = Arm(name="no map", source="zero", about="the picture alone")
CONTROLS = (
    NO_MAP,
    Arm(name="random map", source="random", about="noise as smooth as a map"),
    Arm(name="center map", source="center", about="a Gaussian in the middle of each tile"),
    Arm(name="shuffled maps", source="shuffled", about="the map of another patient"),
    Arm(name="true mask", source="mask", about="where the lesion truly is, as a bound"),
    Arm(
        name="in-sample maps",
        source="method",
        method="rollout",
        in_sample=True,
        about="the naive way: maps of training cases by the model that saw their labels",
    ),
    Arm(
        name="class-specific map",
        source="method",
        method="relevance",
        about="a map of the predicted class, so that it leaks stage one's guess",
    ),
)

END_TO_END = Arm(
    name="end to end",
    source="joint",
    about="both stages trained together, the rollout differentiated",
)


def choose_arms(method: str, *, ablate: bool, end_to_end: bool = False) -> tuple[Arm, ...]:
    """List the arms: guided by a method beside no map, or all of them.

    Args:
        method: Of the guided arm.
        ablate: Whether the controls are wanted.
        end_to_end: Whether both stages are trained together as well.
    """
    guided = Arm(
        name=GUIDED.name, source="method", method=method, about=f"{GUIDED.about}, by {method}"
    )
    arms = (guided, *CONTROLS) if ablate else (guided, NO_MAP)
    return (*arms, END_TO_END) if end_to_end else arms


def control_maps(
    arm: Arm,
    shape: tuple[int, int, int, int],
    *,
    tiles: int,
    names: Sequence[str],
    seed: int,
) -> Float[np.ndarray, "case window row column"]:
    """Make the maps of a control that looks at no model.

    Args:
        arm: With the source ``zero``, ``random`` or ``center``.
        shape: Of the maps: cases, windows, rows and columns of the patch grid.
        tiles: Tiles along each side of the picture.
        names: Of the cases; a case's random map is its own in every fold.
        seed: Of the random maps.

    Raises:
        InputError: If the arm needs a model, other maps or masks.
    """
    if arm.source == "zero":
        return np.zeros(shape, dtype=np.float32)
    if arm.source == "random":
        seeds = [[seed, *name.encode()] for name in names]
        drawn = [np.random.default_rng(one).random(shape[1:], dtype=np.float32) for one in seeds]
        return np.stack(drawn)
    if arm.source == "center":
        down, across = (_bumps(length, tiles) for length in shape[2:])
        return np.broadcast_to(np.outer(down, across).astype(np.float32), shape).copy()
    raise InputError("arm", arm.name, "its maps come from elsewhere", "ask the study for them")


def _bumps(length: int, tiles: int) -> Float[np.ndarray, " place"]:
    """Return a Gaussian for each tile along one side; its deviation is a quarter of a tile."""
    place = (np.arange(length) + 0.5) * tiles / length % 1.0
    bumps: Float[np.ndarray, " place"] = np.exp(-0.5 * ((place - 0.5) / 0.25) ** 2)
    return bumps


def shuffled(
    maps: Float[np.ndarray, "case window row column"], *, groups: Sequence[str], seed: int
) -> Float[np.ndarray, "case window row column"]:
    """Give every case the map of a case of another cluster.

    Args:
        maps: One a case.
        groups: Cluster of each case.
        seed: Of the exchange.

    Raises:
        InputError: If there is one cluster only.
    """
    if len(set(groups)) < 2:
        raise InputError("maps", "one patient", "maps are exchanged between two", "add patients")
    order = np.random.default_rng(seed).permutation(len(groups))
    taken = []
    for place in range(len(groups)):
        ring = np.roll(order, -int(np.flatnonzero(order == place)[0]) - 1)
        taken.append(next(int(other) for other in ring if groups[other] != groups[place]))
    return maps[taken]
