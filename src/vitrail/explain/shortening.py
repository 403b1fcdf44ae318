"""Leave tokens out of the sequence for real, where that is the same as masking them.

On models whose positions are added to the tokens before the first block, a token that is left out
there is gone: every later layer is cheaper by it. The place is found by watching one pass, as the
call whose result is the first block's input; nothing is patched.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.explain.tokens import Intercept, TokenWatch, entered


class Shortened(Intercept):
    """Cuts the tokens where the first block's input is made.

    Args:
        cut: From :func:`first_block_call`.
        keep: Of each image of the batch, which tokens stay; the same number of each.
    """

    def __init__(self, cut: int, keep: Bool[Tensor, "batch token"]) -> None:
        super().__init__()
        self._left = cut
        self._places = keep.nonzero()[:, 1].view(len(keep), -1)

    def call(
        self,
        func: Callable[..., Any],
        name: str,  # noqa: ARG002 (calls are told by their number)
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call; cut its result if it is the one."""
        result = func(*args, **kwargs)
        self._left -= 1
        if self._left:
            return result
        places = self._places.to(result.device).unsqueeze(2)
        return result.gather(1, places.expand(-1, -1, result.shape[2]))


class _Numbered(Intercept):
    """Keeps the results of all calls, to find which made a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Any] = []

    def call(
        self,
        func: Callable[..., Any],
        name: str,  # noqa: ARG002 (calls are told by their number)
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call and keep its result."""
        result = func(*args, **kwargs)
        self.results.append(result)
        return result


def first_block_call(
    model: nn.Module, image: Float[Tensor, "1 channel height width"]
) -> int | None:
    """Return the number, from 1, of the call that makes the first block's input; None if unseen.

    Args:
        model: In eval mode, so that every pass makes the same calls.
        image: One picture.
    """
    watch, numbered = TokenWatch(), _Numbered()
    with torch.no_grad(), entered(model, watch, numbered):
        model(image)
    if not watch.norms:
        return None
    start = watch.norms[0].input
    made = [number for number, result in enumerate(numbered.results, 1) if result is start]
    return made[0] if made else None
