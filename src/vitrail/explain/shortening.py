"""Leave tokens out: masked everywhere, or really out of the sequence where that is the same.

On models whose positions are added to the tokens before the first block, a token that is left out
there is gone: every later layer is cheaper by it. The place is found by watching one pass, as the
call whose result is the first block's input; nothing is patched.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import MethodError
from vitrail.explain.anatomy import Anatomy
from vitrail.explain.intercept import Intercept, entered
from vitrail.explain.request import Request
from vitrail.explain.target import logits_of
from vitrail.explain.tokens import TokenWatch

_SAME = 1e-5
"""Largest difference, relative to the largest score, at which two ways count as the same."""


def shorter_cut(request: Request, layout: Anatomy) -> int | None:
    """Return where tokens can be left out of the sequence with the same answer, or None.

    Nothing is assumed: both ways are tried on the first image, without one third of the patches and
    without another.
    """
    image = request.images[:1]
    cut = first_block_call(request.model, image)
    if cut is None:
        return None
    patches = torch.arange(layout.num_patches).remainder(3).ne(1)
    keep = torch.ones(2, layout.num_tokens, dtype=torch.bool)
    keep[:, layout.num_prefix_tokens :] = torch.stack([patches, patches.roll(1)])
    both = partial(
        tokens_left_out, request.model, image, keep=keep, layout=layout, owners=torch.tensor([0, 0])
    )
    masked = both()
    try:
        shorter = both(cut=cut)
        first, second = (part.detach().float() for part in (logits_of(shorter), logits_of(masked)))
    except Exception:  # noqa: BLE001 (a model may do anything with a length it never saw)
        return None
    return cut if bool((first - second).abs().max() <= _SAME * second.abs().max()) else None


def tokens_left_out(
    model: nn.Module,
    images: Float[Tensor, "batch channel height width"],
    *,
    keep: Bool[Tensor, "variant token"],
    layout: Anatomy,
    owners: Int[Tensor, " variant"] | None = None,
    cut: int | None = None,
) -> Any:
    """Run a model on images with only some of their tokens, and return its output.

    Args:
        model: In eval mode.
        images: Whatever the model takes.
        keep: Which tokens of its image take part in each variant; prefix tokens must.
        layout: The model's tokens.
        owners: Place of each variant's image; by default one variant an image.
        cut: From :func:`shorter_cut`, to leave the others out of the sequence (all variants must
            then keep equally many); None masks them as keys everywhere and leaves them out of
            pooling.

    Raises:
        MethodError: If no attention or, where tokens are pooled, no pooling was found to mask.
    """
    keep = keep.to(images.device)
    owners = torch.arange(len(keep)) if owners is None else owners
    if cut is not None:
        whole = first_block_input(model, images, cut=cut)
        tokens = kept_tokens(whole, keep, owners=owners)
        return run_shortened(model, images, tokens=tokens, cut=cut)
    mode = Dropped(keep, layout)
    with torch.no_grad(), entered(model, mode):
        output = model(images[owners.to(images.device)])
    pools = layout.readout in {"patch_mean", "token_mean", "cls_and_patch_mean"}
    if not mode.masked or (pools and not mode.pooled):
        raise MethodError(
            "model",
            f"{mode.masked} attention calls and {mode.pooled} poolings were masked",
            "every token must be left out of attention and of pooling",
            "use 'occlusion', which hides pixels",
        )
    return output


def first_block_input(
    model: nn.Module, images: Float[Tensor, "batch channel height width"], *, cut: int
) -> Float[Tensor, "batch token feature"]:
    """Return the tokens that the first block gets; the pass ends there."""
    mode = _Until(cut)
    with torch.no_grad(), entered(model, mode), suppress(_Reached):
        model(images)
    return mode.result


def kept_tokens(
    tokens: Float[Tensor, "batch token feature"],
    keep: Bool[Tensor, "variant token"],
    *,
    owners: Int[Tensor, " variant"],
) -> Float[Tensor, "variant kept feature"]:
    """Lay the kept tokens of each variant together; all keep equally many."""
    places = keep.nonzero()[:, 1].view(len(keep), -1).to(tokens.device)
    return tokens[owners.to(tokens.device)[:, None], places]


def run_shortened(
    model: nn.Module,
    images: Float[Tensor, "batch channel height width"],
    *,
    tokens: Float[Tensor, "variant kept feature"],
    cut: int,
) -> Any:
    """Run a model on tokens of pictures that were embedded before, and return its output.

    Args:
        model: In eval mode.
        images: As the model takes them; an empty one goes through what comes before the first
            block, and its tokens are thrown away.
        tokens: What the first block gets.
        cut: From :func:`shorter_cut`.
    """
    image = torch.zeros_like(images[:1])  # not within: it would be counted as a call of the model
    with torch.no_grad(), entered(model, Shortened(cut, tokens)):
        return model(image)


class _Reached(Exception):  # noqa: N818 (no error: a pass is not needed any further)
    """The first block's input is known."""


class _Until(Intercept):
    """Ends a pass where the first block's input is made.

    Args:
        cut: From :func:`first_block_call`.
    """

    result: Tensor

    def __init__(self, cut: int) -> None:
        super().__init__()
        self._left = cut

    def call(
        self,
        func: Callable[..., Any],
        name: str,  # noqa: ARG002 (calls are told by their number)
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call; end the pass if it is the one."""
        result = func(*args, **kwargs)
        self._left -= 1
        if not self._left:
            self.result = result
            raise _Reached
        return result


class Shortened(Intercept):
    """Puts other tokens where the first block's input is made.

    Args:
        cut: From :func:`first_block_call`.
        tokens: What the first block gets, of any batch and any length.
    """

    def __init__(self, cut: int, tokens: Float[Tensor, "variant kept feature"]) -> None:
        super().__init__()
        self._left, self._tokens = cut, tokens

    def call(
        self,
        func: Callable[..., Any],
        name: str,  # noqa: ARG002 (calls are told by their number)
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call; give the tokens in place of its result if it is the one."""
        result = func(*args, **kwargs)
        self._left -= 1
        return result if self._left else self._tokens


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


class Dropped(Intercept):
    """Masks tokens as keys of every attention, and leaves them out of means over tokens.

    Args:
        keep: Of each image of the batch, which tokens take part.
        layout: The model's tokens.
    """

    def __init__(self, keep: Bool[Tensor, "batch token"], layout: Anatomy) -> None:
        super().__init__()
        self._keep = keep
        self._layout = layout
        self.masked = 0
        self.pooled = 0

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call without the dropped tokens."""
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if name == "softmax" and args[0].ndim >= 3:
            keep = self._columns(args[0].shape[-1])
            if keep is not None:
                self.masked += 1
                return func(_hidden(args[0], keep), *args[1:], **kwargs)
        if name == "mean" and self.num_heads is None and args[0].ndim == 3:
            return self._mean(func, args=args, kwargs=kwargs)
        return func(*args, **kwargs)

    def _columns(self, tokens: int) -> Bool[Tensor, "batch key"] | None:
        """Return which of ``tokens`` keys take part: of all tokens, or of the patches alone."""
        if tokens == self._layout.num_tokens:
            return self._keep
        if tokens == self._layout.num_patches:
            return self._keep[:, self._layout.num_prefix_tokens :]
        return None

    def _attention(  # noqa: PLR0917 (torch's signature)
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> Tensor:
        """Attend to the kept keys only."""
        attend = partial(F.scaled_dot_product_attention, query, key, value, dropout_p=dropout_p)
        keep = self._columns(key.shape[-2])
        if keep is None or len(keep) != query.shape[0]:
            return attend(attn_mask=attn_mask, is_causal=is_causal, **kwargs)
        self.masked += 1
        keep = keep.view(len(keep), *(1,) * (query.ndim - 2), -1)
        if is_causal:
            mask = keep.new_ones(query.shape[-2], key.shape[-2]).tril() & keep
        elif attn_mask is None:
            mask = keep
        elif attn_mask.dtype == torch.bool:
            mask = attn_mask & keep
        else:
            mask = attn_mask.masked_fill(~keep, float("-inf"))
        return attend(attn_mask=mask, **kwargs)

    def _mean(
        self, func: Callable[..., Any], *, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """Average the kept tokens only, if it is tokens that are averaged."""
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        keep = self._columns(args[0].shape[1])
        result: Tensor
        axes = [axis] if isinstance(axis, int) else list(axis or ())
        if axes not in ([1], [-2]) or keep is None or len(keep) != len(args[0]):
            result = func(*args, **kwargs)
            return result
        self.pooled += 1
        weights = keep.to(args[0].dtype).unsqueeze(-1)
        keepdim = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
        result = (args[0] * weights).sum(dim=1, keepdim=keepdim)
        counts = weights.sum(dim=1, keepdim=keepdim)
        return result / counts


def _hidden(scores: Tensor, keep: Bool[Tensor, "batch key"]) -> Tensor:
    """Set the scores of left-out keys to minus infinity; leading axes are [batch, ...] in order."""
    heads = scores.shape[0] // len(keep) if scores.ndim == 3 else 1
    keep = keep.repeat_interleave(heads, dim=0)
    shape = (len(keep), *(1,) * (scores.ndim - 2), keep.shape[1])
    return scores.masked_fill(~keep.view(shape), float("-inf"))
