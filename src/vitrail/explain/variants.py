"""Score many variants (interpolated, noisy, hidden in part) of the same images in few passes."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.intercept import entered
from vitrail.explain.request import Request
from vitrail.explain.target import Selection

Batch = Float[Tensor, "batch channel height width"]


def tiled(selection: Selection, times: int) -> Selection:
    """Return the selection for ``times`` copies of the batch, one after the other.

    Args:
        selection: Settled already (it has seen the untouched images).
        times: Copies of the whole batch.
    """
    copy = Selection(selection.target, selection.versus)
    if selection.classes is not None:
        copy.classes = selection.classes.repeat(1, times)
    return copy


def chunks(count: int, *, batch: int, batch_size: int) -> list[range]:
    """Cut ``count`` variants of ``batch`` images into passes of about ``batch_size`` images.

    Raises:
        MethodError: If ``count`` or ``batch_size`` is not positive.

    Example:
        >>> chunks(5, batch=4, batch_size=8)
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    for name, value in (("count", count), ("batch_size", batch_size)):
        if value < 1:
            raise MethodError(name, str(value), "it must be at least 1", "pass a larger one")
    step = max(1, batch_size // batch)
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def score_variants(
    request: Request, images: Float[Tensor, "variant batch channel height width"]
) -> Float[Tensor, "target variant batch"]:
    """Run every variant of the batch in one pass and return its scores (with their graph)."""
    count, batch = images.shape[:2]
    with entered(request.model):
        output = request.model(images.flatten(0, 1))
    return tiled(request.selection, count).scores(output).reshape(-1, count, batch)


def score_all(
    request: Request, count: int, *, make: Callable[[int], Batch], batch_size: int
) -> Float[Tensor, "target variant batch"]:
    """Score ``count`` variants, made one by one, without a graph; at least float32.

    Args:
        request: Model, images and a settled target.
        count: Number of variants.
        make: Variant number to images.
        batch_size: Images a pass, about.
    """
    with torch.no_grad():
        found = [
            score_variants(request, torch.stack([make(number) for number in part]))
            for part in chunks(count, batch=len(request.images), batch_size=batch_size)
        ]
    scores = torch.cat(found, dim=1)
    return scores.float() if scores.dtype.itemsize < 4 else scores
