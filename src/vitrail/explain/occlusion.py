"""Black boxes, asked again with parts hidden: ``occlusion``, ``token_drop``, ``rise``."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.errors import MethodError
from vitrail.explain.anatomy import Anatomy, patch_size
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Request
from vitrail.explain.shortening import Shortened, first_block_call
from vitrail.explain.target import logits_of
from vitrail.explain.tokens import Intercept, entered
from vitrail.explain.variants import chunks, score_all, tiled

_SOFTMAX = frozenset({"softmax"})
_SAME = 1e-5
"""Largest difference, relative to the largest score, at which two ways count as the same."""


@register(
    "occlusion",
    needs="black_box",
    class_specific=True,
    signed=True,
    passes="1 + patches forward",
    source="zeiler2014",
)
def occlusion(
    request: Request,
    *,
    baseline: float = 0.0,
    patch: tuple[int, int] | None = None,
    batch_size: int = 32,
) -> Scores:
    """Hide one patch at a time: y(x) - y(x with the patch at ``baseline``).

    Args:
        request: Model, images and target.
        baseline: Value of the hidden pixels, in the network's input space.
        patch: Rows and columns in pixels; by default the model's own, or 16 px if it has none.
        batch_size: Images a pass, about.

    Returns:
        Signed scores of the patches; positive where hiding lowers the score.

    Raises:
        MethodError: If the patch does not fit into the image.

    Source: zeiler2014, section 4.2.

    Differs: Captum's ``Occlusion`` spreads the same number over the patch's pixels.
    """
    images = request.images
    rows, columns = _patch(request, patch)
    grid = (images.shape[-2] // rows, images.shape[-1] // columns)

    def hidden(number: int) -> Tensor:
        row, column = divmod(number, grid[1])
        variant = images.clone()
        top, left = row * rows, column * columns
        variant[..., top : top + rows, left : left + columns] = baseline
        return variant

    with torch.no_grad():
        whole = request.scores(images)
    found = score_all(request, grid[0] * grid[1], make=hidden, batch_size=batch_size)
    lost = whole.to(found.dtype).unsqueeze(1) - found
    return Scores(grid=lost.transpose(1, 2).reshape(*lost.shape[::2], *grid))


@register(
    "token_drop",
    needs="black_box",
    class_specific=True,
    signed=True,
    passes="1 + patches forward",
    source="zeiler2014",
    row_form=True,
)
def token_drop(request: Request, *, batch_size: int = 32) -> Scores:
    """Leave out one patch token at a time: y(x) - y(x without the token).

    The token is masked as a key in every layer and left out of the pooling; nothing takes its
    place, so no value has to be invented for what is hidden. On models with absolute positions this
    equals a sequence that is shorter by one; whether it does is tried on the first image, and where
    the two agree the sequence is really shortened.

    Args:
        request: Model, images and target.
        batch_size: Images a pass, about.

    Returns:
        Signed scores of the tokens (0 on prefix tokens, which are never left out).

    Raises:
        MethodError: If the model's attention or pooling cannot be masked.

    Source: zeiler2014, section 4.2, with tokens in the place of pixels.

    Differs: other tools hide pixels, and so measure the model's answer to a black patch as well.
    """
    layout = request.record().anatomy  # refuses models whose attention is not of all tokens
    with torch.no_grad():
        whole = request.scores(request.images)
    parts = []
    cut = shorter_cut(request, layout)
    for part in chunks(layout.num_patches, batch=len(request.images), batch_size=batch_size):
        keep = torch.ones(len(part), layout.num_tokens, dtype=torch.bool)
        for place, number in enumerate(part):
            keep[place, layout.num_prefix_tokens + number] = False
        parts.append(score_kept(request, keep, layout=layout, cut=cut))
    found = torch.cat(parts, dim=1)
    lost = (whole.to(found.dtype).unsqueeze(1) - found).transpose(1, 2)
    return Scores(tokens=F.pad(lost, (layout.num_prefix_tokens, 0)))


@register(
    "rise",
    needs="black_box",
    class_specific=True,
    signed=True,
    passes="masks forward",
    source="petsiuk2018rise",
)
def rise(
    request: Request,
    *,
    masks: int = 1000,
    cells: int = 7,
    keep: float = 0.5,
    patch: tuple[int, int] | None = None,
    generator: torch.Generator | None = None,
    batch_size: int = 32,
) -> Scores:
    """Average random masks, each weighted by the score of the image seen through it.

    With masks M_k in [0, 1] and p the share kept::

        1 / (K p)  Σ_k  y(x ⊙ M_k) M_k

    Args:
        request: Model, images and target.
        masks: Number of masks K.
        cells: Rows and columns of the coarse grid that each mask is drawn on, before it is enlarged
            smoothly and shifted.
        keep: Chance p of a coarse cell to be kept.
        patch: Rows and columns in pixels of the cells of the result; as of
            ``occlusion``.
        generator: Source of the masks; by default one seeded with 0, so that calls repeat.
        batch_size: Images a pass, about.

    Returns:
        The weighted mean of the masks, averaged over each patch. Every map carries the mean score
        as an offset: compare places, not heights.

    Raises:
        MethodError: If a parameter is out of range.

    Source: petsiuk2018rise, section 3.

    Differs: the paper weights by the softmax probability; here by the target's score (the logit, or
    what a callable ``target`` returns).
    """
    if not 0.0 < keep < 1.0 or cells < 1:
        raise MethodError(
            "keep" if cells >= 1 else "cells",
            str(keep if cells >= 1 else cells),
            "keep must lie between 0 and 1, cells be at least 1",
            "pass keep=0.5, cells=7",
        )
    images = request.images
    size = _patch(request, patch)
    generator = generator or torch.Generator(device="cpu").manual_seed(0)
    with torch.no_grad():
        request.scores(images)
    total: Tensor | None = None
    for part in chunks(masks, batch=len(images), batch_size=batch_size):
        drawn = torch.cat(
            [
                smooth_mask(
                    (images.shape[-2], images.shape[-1]), cells, keep=keep, generator=generator
                )
                for _ in part
            ]
        ).to(images.device)
        variants = images * drawn[:, None, None].to(images.dtype)
        scores = score_all(request, len(part), make=variants.__getitem__, batch_size=batch_size)
        seen = F.avg_pool2d(drawn.unsqueeze(1), size).squeeze(1).to(scores.dtype)
        found = torch.einsum("tvb,vrc->tbrc", scores, seen)
        total = found if total is None else total + found
    assert total is not None  # noqa: S101 (chunks refuses zero masks)
    return Scores(grid=total / (masks * keep))


def smooth_mask(
    size: tuple[int, int], cells: int, *, keep: float, generator: torch.Generator
) -> Float[Tensor, "1 height width"]:
    """Draw a smooth mask: a coarse grid of zeros and ones, enlarged bilinearly, shifted at random.

    Args:
        size: Height and width in pixels.
        cells: Rows and columns of the coarse grid.
        keep: Chance of a cell to be one.
        generator: Source of the cells and the shift.
    """
    height, width = size
    tall, wide = -(-height // cells), -(-width // cells)
    coarse = (torch.rand(1, 1, cells, cells, generator=generator) < keep).float()
    large = F.interpolate(
        coarse, size=(height + tall, width + wide), mode="bilinear", align_corners=False
    )
    top = int(torch.randint(tall, (1,), generator=generator))
    left = int(torch.randint(wide, (1,), generator=generator))
    return large[0, :, top : top + height, left : left + width]


def shorter_cut(request: Request, layout: Anatomy) -> int | None:
    """Return where tokens can be left out of the sequence with the same answer, or None.

    Nothing is assumed: both ways are tried on the first image, with a third of the patches left
    out.
    """
    image = request.images[:1]
    cut = first_block_call(request.model, image)
    if cut is None:
        return None
    keep = torch.arange(layout.num_tokens).sub(layout.num_prefix_tokens).remainder(3).ne(1)
    keep[: layout.num_prefix_tokens + 1] = True
    masked = tokens_left_out(request.model, image, keep=keep[None], layout=layout)
    try:
        shorter = tokens_left_out(request.model, image, keep=keep[None], layout=layout, cut=cut)
        first, second = (part.detach().float() for part in (logits_of(shorter), logits_of(masked)))
    except Exception:  # noqa: BLE001 (a model may do anything with a length it never saw)
        return None
    return cut if bool((first - second).abs().max() <= _SAME * second.abs().max()) else None


def tokens_left_out(
    model: nn.Module,
    images: Float[Tensor, "batch channel height width"],
    *,
    keep: Bool[Tensor, "batch token"],
    layout: Anatomy,
    cut: int | None = None,
) -> Any:
    """Run a model on images with only some of their tokens, and return its output.

    Args:
        model: In eval mode.
        images: Whatever the model takes.
        keep: Which tokens of each image take part; prefix tokens must.
        layout: The model's tokens.
        cut: From :func:`shorter_cut`, to leave the others out of the sequence (each image must then
            keep equally many); None masks them as keys everywhere and leaves them out of pooling.

    Raises:
        MethodError: If no attention or, where tokens are pooled, no pooling was found to mask.
    """
    keep = keep.to(images.device)
    if cut is not None:
        with torch.no_grad(), entered(model, Shortened(cut, keep)):
            return model(images)
    mode = Dropped(keep, layout)
    with torch.no_grad(), entered(model, mode):
        output = model(images)
    pools = layout.readout in {"patch_mean", "token_mean", "cls_and_patch_mean"}
    if not mode.masked or (pools and not mode.pooled):
        raise MethodError(
            "model",
            f"{mode.masked} attention calls and {mode.pooled} poolings were masked",
            "every token must be left out of attention and of pooling",
            "use 'occlusion', which hides pixels",
        )
    return output


def score_kept(
    request: Request,
    keep: Bool[Tensor, "variant token"],
    *,
    layout: Anatomy,
    cut: int | None = None,
) -> Float[Tensor, "target variant batch"]:
    """Score the images with only some of their tokens, in one pass; at least float32.

    Args:
        request: Model, images and a settled target.
        keep: Which tokens take part, one row a variant; prefix tokens must.
        layout: The model's tokens.
        cut: As of :func:`tokens_left_out`.
    """
    count, batch = len(keep), len(request.images)
    images = request.images.repeat(count, 1, 1, 1)
    repeated = keep.repeat_interleave(batch, dim=0)
    output = tokens_left_out(request.model, images, keep=repeated, layout=layout, cut=cut)
    scores = tiled(request.selection, count).scores(output)
    scores = scores.float() if scores.dtype.itemsize < 4 else scores
    return scores.reshape(-1, count, batch)


def _patch(request: Request, given: tuple[int, int] | None) -> tuple[int, int]:
    """Return the rows and columns in pixels of a cell: given, the model's own, or 16.

    Raises:
        MethodError: If it does not fit into the image.
    """
    height, width = request.images.shape[-2:]
    own = patch_size(request.model)
    if own is None or own[0] > height or own[1] > width:
        own = (min(16, height), min(16, width))
    size = given or own
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise MethodError(
            "patch",
            str(size),
            f"a patch must fit into the image of {height}x{width} px",
            "pass patch=(rows, columns) in pixels, for example (16, 16)",
        )
    return size


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
        if name in _SOFTMAX and args[0].ndim >= 3:
            keep = self._columns(args[0].shape[-1])
            if keep is not None:
                self.masked += 1
                return func(_hidden(args[0], keep), *args[1:], **kwargs)
        if name == "mean" and not self.sequence_first and args[0].ndim == 3:
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
        *rest: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Attend to the kept keys only."""
        keep = self._columns(key.shape[-2])
        if keep is None or len(keep) != query.shape[0]:
            return F.scaled_dot_product_attention(query, key, value, attn_mask, *rest, **kwargs)
        self.masked += 1
        keep = keep[:, None, None, :]
        if attn_mask is None:
            mask = keep
        elif attn_mask.dtype == torch.bool:
            mask = attn_mask & keep
        else:
            mask = attn_mask.masked_fill(~keep, float("-inf"))
        return F.scaled_dot_product_attention(query, key, value, mask, *rest, **kwargs)

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
