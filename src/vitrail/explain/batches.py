"""Run many things batch by batch, in smaller batches where memory ends."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

logger = logging.getLogger("vitrail")

Part = TypeVar("Part")


def in_batches(
    run: Callable[[int, int], Part],
    total: int,
    *,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> list[Part]:
    """Run ``total`` things; where memory ends, halve the batch and go on, saying so.

    Args:
        run: Runs the things from a start to a stop.
        total: How many there are.
        batch_size: At most so many at once; by default all.
        generator: Set back to where it was before a batch that is tried again.

    Returns:
        What each batch gave, in order.
    """
    step, start = batch_size or total, 0
    parts = []
    while start < total:
        state = None if generator is None else generator.get_state()
        try:
            parts.append(run(start, min(start + step, total)))
        except (RuntimeError, MemoryError) as error:
            if step == 1 or not is_out_of_memory(error):
                raise
            step = (step + 1) // 2
            logger.warning("out of memory: going on with %d images at a time", step)
            if generator is not None and state is not None:
                generator.set_state(state)
        else:
            start += step
    return parts


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ended, on any device."""
    words = str(error)
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "not enough memory" in words
        or "can't allocate memory" in words
    )
