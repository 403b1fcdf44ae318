"""Which cases each step sees: a function of seed and epoch alone, so any step can be repeated."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

Batches = list[list[int]]
Labels = Sequence[int] | Int[np.ndarray, " case"]


def step_seed(seed: int, *place: int) -> int:
    """Mix a seed with a place in the training (epoch, step, process) into one for a generator.

    Example:
        >>> step_seed(0, 1, 2) == step_seed(0, 1, 2) != step_seed(0, 2, 1)
        True
    """
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)


def batches(
    cases: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    weights: Float[np.ndarray, " case"] | None = None,
) -> Batches:
    """Order the cases of one epoch and cut them into batches of nearly equal size.

    Equal sizes spare the last batch from being a rest of one, which batch normalization cannot use.

    Args:
        cases: Number of cases.
        batch_size: Largest size of a batch.
        seed: Of the training.
        epoch: From 0.
        weights: Draw with replacement in proportion to these; None takes every case once.

    Returns:
        Indices of the cases of each batch; sizes differ by one at most.
    """
    generator = torch.Generator().manual_seed(step_seed(seed, epoch))
    if weights is None:
        order = torch.randperm(cases, generator=generator)
    else:
        order = torch.multinomial(torch.from_numpy(weights), cases, True, generator=generator)  # noqa: FBT003, no keyword in its signature
    steps = -(-cases // batch_size)
    return [part.tolist() for part in order.tensor_split(steps)]


def smallest_pass(cases: int, batch_size: int, *, passes: int) -> int:
    """Count the cases of the smallest pass that a batch of an epoch is cut into.

    Example:
        >>> [smallest_pass(cases, 2, passes=1) for cases in (4, 5)]
        [2, 1]
    """
    return cases // -(-cases // batch_size) // passes


def class_weights(labels: Labels, num_classes: int) -> Float[np.ndarray, " class"]:
    """Weigh each class inversely to its size, so that the mean weight of the cases is one.

    A class without cases weighs zero.

    Example:
        >>> class_weights([0, 0, 0, 1], 2).tolist()
        [0.6666666666666666, 2.0]
    """
    counts = class_counts(labels, num_classes)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


def class_counts(labels: Labels, num_classes: int) -> Int[np.ndarray, " class"]:
    """Count the cases of each class."""
    return np.bincount(np.asarray(labels, dtype=np.int64), minlength=num_classes)
