"""Do the map's numbers, not only their order, tell how much the model needs each part?

``saco_score`` compares groups of patches by their salience and by what hiding them costs;
``sensitivity_n_score`` correlates the sum over random sets of patches with what hiding the set
costs. Both see a constant factor as no fault; ``sensitivity_n_score`` sees signs.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.faithfulness.imputers import Hiding, asker
from vitrail.faithfulness.removal import ask_once, quantities, tie_orders

Maps = Float[np.ndarray, "method case row column"]

GROUPS = 5
"""Of ``saco-4``."""

PAPER_GROUPS = 10
"""Of the paper, and of ``saco-3``."""

FRACTIONS = (0.1, 0.3, 0.5)
SUBSETS = 20
_ROUNDING = 1e-12


def saco_scores(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    maps: Maps,
    targets: Int[np.ndarray, " case"],
    groups: int = GROUPS,
    hiding: Hiding = Hiding(),  # noqa: B008 (frozen)
    several: bool = False,
) -> Float[np.ndarray, "method case"]:
    """Measure the salience-guided faithfulness coefficient, in [-1, 1]; 0 for a constant map.

    The patches fall into equal groups by rank. Each pair of groups whose order by salience is their
    order by lost probability counts for the difference of their saliences, any other against::

        F = Σ_{i<j} ± (s_i - s_j) / Σ_{i<j} |s_i - s_j|

    Args:
        model: In eval mode.
        images: Pictures.
        maps: Of several methods.
        targets: Class whose probability is followed.
        groups: How many.
        hiding: How a group is hidden.
        several: As of :func:`~vitrail.faithfulness.removal.quantities`.

    Source: wu2024saco, algorithm 1.

    Differs: whole patches; five groups where the paper has ten; any imputer where it takes the
        mean pixel; ties of the lost probability count half. A group's salience is its mean: the
        paper's sum but for a factor where groups are equal, and where one patch is left over
        (``saco-1``, ``saco-2`` took sums) it is not the larger group's for its size alone.
    """
    grid = (maps.shape[2], maps.shape[3])
    ask = asker(model, images, grid_size=grid, hiding=hiding)
    found = np.empty(maps.shape[:2])
    for case, target in enumerate(targets):
        orders = [tie_orders(one, seed=(hiding.seed, case))[0] for one in maps[:, case]]
        parts = [np.array_split(order, min(groups, order.size)) for order in orders]
        hidden = np.zeros((1 + sum(map(len, parts)), grid[0] * grid[1]), dtype=bool)
        for variant, part in enumerate((one for some in parts for one in some), start=1):
            hidden[variant, part] = True
        logits, _ = ask_once(ask, hidden[None], cases=[case], grid=grid)
        kept = quantities(logits[0], int(target), several=several)["probability"]
        lost = (kept[0] - kept[1:]).reshape(len(maps), -1)
        for method, some in enumerate(parts):
            salience = np.array([maps[method, case].ravel()[part].mean() for part in some])
            found[method, case] = _coefficient(salience, lost[method])
    return found


def _coefficient(salience: Float[np.ndarray, " group"], lost: Float[np.ndarray, " group"]) -> float:
    """Return the coefficient of one picture; groups come most salient first."""
    i, j = np.triu_indices(len(salience), k=1)
    weight = salience[i] - salience[j]
    total = np.abs(weight).sum()
    if total <= _ROUNDING * np.abs(salience).max():
        return 0.0
    return float((np.sign(lost[i] - lost[j]) * weight).sum() / total)


def sensitivity_n_scores(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    maps: Maps,
    targets: Int[np.ndarray, " case"],
    subsets: int = SUBSETS,
    hiding: Hiding = Hiding(),  # noqa: B008 (frozen)
) -> Float[np.ndarray, "method case"]:
    """Correlate sums of a map over random sets of patches with the logit that hiding them costs.

    The sets are the same for all methods, so that their forwards are shared.

    Args:
        model: In eval mode.
        images: Pictures.
        maps: Of several methods.
        targets: Class whose logit is followed.
        subsets: Sets a size; the sizes are 10, 30 and 50 % of the patches.
        hiding: How a set is hidden.

    Returns:
        Pearson's correlation, mean over the sizes; 0 where a map is constant.

    Source: ancona2018better, section 4, equation 3.

    Differs: the paper draws sets of every size; three sizes keep the cost in bounds.
    """
    grid = (maps.shape[2], maps.shape[3])
    ask = asker(model, images, grid_size=grid, hiding=hiding)
    found = np.empty(maps.shape[:2])
    for case, target in enumerate(targets):
        sets = _subsets(grid[0] * grid[1], subsets, seed=(hiding.seed, case, 1))
        hidden = np.concatenate([np.zeros_like(sets[0, :1]), sets.reshape(-1, sets.shape[2])])
        logits, _ = ask_once(ask, hidden[None], cases=[case], grid=grid)
        kept = quantities(logits[0], int(target))["logit"]
        lost = (kept[0] - kept[1:]).reshape(sets.shape[:2])
        sums = np.einsum("nsp,mp->mns", sets, maps[:, case].reshape(len(maps), -1))
        found[:, case] = _correlation(sums, lost).mean(axis=1)
    return found


def _subsets(
    patches: int, count: int, *, seed: tuple[int, ...]
) -> Bool[np.ndarray, "size subset patch"]:
    """Draw sets of patches of each size."""
    generator = np.random.default_rng(seed)
    chance = generator.random((len(FRACTIONS), count, patches)).argsort(axis=2)
    sizes = np.maximum(1, np.rint(np.array(FRACTIONS) * patches)).astype(int)
    found: np.ndarray = chance < sizes[:, None, None]
    return found


def _correlation(
    sums: Float[np.ndarray, "method size subset"], lost: Float[np.ndarray, "size subset"]
) -> Float[np.ndarray, "method size"]:
    """Return Pearson's correlation over the sets; 0 where one side is constant."""
    a = sums - sums.mean(axis=-1, keepdims=True)
    b = lost - lost.mean(axis=-1, keepdims=True)
    spread = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    scale = np.abs(sums).max(axis=-1) * np.abs(lost).max(axis=-1) * sums.shape[-1]
    some = spread > _ROUNDING * scale
    found: np.ndarray = np.where(some, (a * b).sum(axis=-1) / np.where(some, spread, 1.0), 0.0)
    return found
