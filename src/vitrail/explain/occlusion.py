"""Black boxes, asked again with parts hidden: ``occlusion``, ``token_drop``, ``rise``."""

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Bool, Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.anatomy import Anatomy
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Request
from vitrail.explain.shortening import shorter_cut, tokens_left_out
from vitrail.explain.variants import chunks, score_all, tiled


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
    output = tokens_left_out(
        request.model,
        request.images,
        keep=keep.repeat_interleave(batch, dim=0),
        layout=layout,
        owners=torch.arange(batch).repeat(count),
        cut=cut,
    )
    scores = tiled(request.selection, count).scores(output)
    scores = scores.float() if scores.dtype.itemsize < 4 else scores
    return scores.reshape(-1, count, batch)


def _patch(request: Request, given: tuple[int, int] | None) -> tuple[int, int]:
    """Return the rows and columns in pixels of a cell: given, the model's own, or 16.

    Raises:
        MethodError: If it does not fit into the image.
    """
    height, width = request.images.shape[-2:]
    own = request.patch()
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
