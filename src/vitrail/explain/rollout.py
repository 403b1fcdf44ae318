"""Attention as it is, and attention rolled out through the layers: maps that know no class."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import MethodError
from vitrail.explain.anatomy import Anatomy, fit_trace
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Recording, Request
from vitrail.explain.trace import AttentionLayer, capture

HEAD_FUSIONS = ("mean", "max", "min")


@register(
    "raw_attention",
    needs="attention",
    class_specific=False,
    signed=False,
    passes="1 forward",
    source="dosovitskiy2021image",
    row_form=True,
)
def raw_attention(request: Request, *, layer: int = -1, head: int | None = None) -> Scores:
    """Return the attention of the read-out row in one layer.

    ``a = w · A_l^h``, where ``w`` is the read-out row: one-hot for a class token, even over the
    patches under average pooling. Under attention pooling, layer -1 is the pool itself.

    Args:
        request: Model, images and target; the target changes nothing.
        layer: Which layer, nearest the input first; negative counts from the last.
        head: Which head; None is the mean over heads.

    Raises:
        MethodError: If the layer or head does not exist.

    Source: dosovitskiy2021image, appendix D.7 (their figure is a rollout; this is one layer).
    """
    rows = _read_out_rows(request.record())
    _check_index("layer", layer, length=len(rows))
    chosen = rows[layer]
    if head is None:
        return Scores(tokens=chosen.mean(dim=1).unsqueeze(0))
    _check_index("head", head, length=chosen.shape[1])
    return Scores(tokens=chosen[:, head].unsqueeze(0))


def attention_of(recording: Recording) -> Float[Tensor, "layer batch head row column"]:
    """Return the read-out row's attention to the patches, of every layer and head.

    The pool of an attention-pooled model is the last layer if it has as many heads as the others.
    """
    prefix = recording.anatomy.num_prefix_tokens
    rows = _read_out_rows(recording)
    rows = [row for row in rows if row.shape[1] == rows[0].shape[1]]
    stacked = torch.stack([row[..., prefix:] for row in rows])
    return stacked.reshape(*stacked.shape[:3], *recording.anatomy.grid_size)


def _read_out_rows(recording: Recording) -> list[Float[Tensor, "batch head token"]]:
    """Return w · A of every layer; the pool's own attention last."""
    weights = recording.first_row()
    rows = [_weighted_rows(layer, weights) for layer in recording.layers]
    if recording.pool is not None:
        pooled = recording.pool.attention().mean(dim=2)
        missing = recording.anatomy.num_tokens - pooled.shape[-1]
        rows.append(nn.functional.pad(pooled, (missing, 0)))
    return rows


def _weighted_rows(
    layer: AttentionLayer, weights: Float[Tensor, "batch query"]
) -> Float[Tensor, "batch head key"]:
    """Return weights · A for each head."""
    start, stop = _span(weights)
    total = weights.new_zeros(*layer.shape[:2], layer.shape[3])
    for low, high in layer.blocks(start=start, stop=stop):
        rows = layer.attention(low, high)
        total += torch.einsum("bq,bhqk->bhk", weights[:, low:high], rows)
    return total


@register(
    "rollout",
    needs="attention",
    class_specific=False,
    signed=False,
    passes="1 forward",
    source="abnar2020quantifying",
    row_form=True,
)
def rollout(
    request: Request,
    *,
    head_fusion: str = "mean",
    discard_ratio: float = 0.0,
    residual: float = 0.5,
    start_layer: int = 0,
) -> Scores:
    r"""Follow attention from the read-out row down to the input.

    With ``F_l`` the fusion of the heads of ``A_l`` and ``Ā_l = rownorm(residual · I + (1 -
    residual) · F_l)``, the map is the read-out row of ``Ā_L ⋯ Ā_1``. Only that row is computed,
    ``r ← r Ā_l`` from the last layer down, with the rows of ``A_l`` recomputed in blocks: O(L N² d)
    time and O(L N d) memory instead of O(L N³) and O(L H N²).

    Args:
        request: Model, images and target; the target changes nothing.
        head_fusion: ``mean`` (the paper), ``max`` or ``min`` over heads.
        discard_ratio: Share of the smallest entries of ``F_l`` that is set to zero, over the whole
            matrix of one image; the class token's attention to itself is kept. In [0, 1).
        residual: Share of the identity (the skip connection), in [0, 1]; the paper has 0.5.
        start_layer: First layer that is multiplied.

    Raises:
        MethodError: If a parameter is out of range.

    Source: abnar2020quantifying, section 3, attention rollout.

    Differs: jacobgil/vit-explain divides columns by row sums (no ``keepdim``) and thins only the
        first image of a batch; its defaults are ``max`` and 0.9. Chefer's
        Transformer-Explainability leaves the row normalization out in four of six copies. Tests
        restate vit-explain's.
    """
    _check_rollout(head_fusion, discard_ratio, residual=residual)
    recording = request.record()
    _check_index("start_layer", start_layer, length=len(recording.layers))
    keep_first = recording.anatomy.num_prefix_tokens > 0
    row = recording.first_row()
    for layer in reversed(recording.layers[start_layer:]):
        if head_fusion == "mean" and discard_ratio == 0.0:
            row = residual * row + (1.0 - residual) * mean_product(layer, row)
        else:
            fused = _fused_blocks(
                layer, head_fusion, discard_ratio=discard_ratio, keep_first=keep_first
            )
            row = _normalized_product(row, fused, residual=residual)
    return Scores(tokens=row.unsqueeze(0))


def differentiable_rollout(
    model: nn.Module,
    images: Float[Tensor, "batch channel height width"],
    *,
    layout: Anatomy,
    residual: float = 0.5,
) -> Float[Tensor, "batch row column"]:
    """Roll attention out with its graph, so that a loss of the map trains the model.

    Args:
        model: A Vision Transformer in eval mode, or without dropout.
        images: As for the model; gradients reach them, too.
        layout: Of the model.
        residual: As for :func:`rollout`.

    Returns:
        The map of :func:`rollout` with ``head_fusion="mean"`` on the patch grid; a change of the
        weights changes it through every layer's queries and keys.

    Raises:
        CaptureError: If the model's attention cannot be recorded.

    Source: abnar2020quantifying, section 3, attention rollout.
    """
    with capture(model, keep_output=False, keep_graph=True) as trace:
        output = model(images)
    encoder = fit_trace(trace, layout, batch=len(images))
    recording = Recording(
        anatomy=layout,
        layers=encoder.layers,
        pool=encoder.pool,
        scores=output.sum(dim=1)[None],
        images=images,
    )
    row = recording.first_row()
    for layer in reversed(recording.layers):
        row = residual * row + (1.0 - residual) * mean_product(layer, row)
    patches = row[:, layout.num_prefix_tokens :]
    return patches.reshape(len(images), *layout.grid_size)


def mean_product(
    layer: AttentionLayer, row: Float[Tensor, "batch query"]
) -> Float[Tensor, "batch key"]:
    """Return ``row · mean_h A_h`` without holding more than a block of attention rows.

    Only queries that the row weighs are computed: in the last layer, the read-out alone.
    """
    return _weighted_rows(layer, row).mean(dim=1)


def _span(row: Float[Tensor, "batch query"]) -> tuple[int, int]:
    """Return the range of queries that carry weight in any image."""
    used = row.ne(0).any(dim=0).nonzero()
    return int(used[0]), int(used[-1]) + 1


def _fused_blocks(
    layer: AttentionLayer, fusion: str, *, discard_ratio: float, keep_first: bool
) -> list[tuple[int, Float[Tensor, "batch query key"]]]:
    """Return a layer's fused attention in blocks of queries, thinned over the whole matrix."""
    blocks = [
        (start, _fused(layer.attention(start, stop), fusion)) for start, stop in layer.blocks()
    ]
    if discard_ratio == 0.0:
        return blocks
    whole = torch.cat([block for _, block in blocks], dim=1)
    flat = whole.flatten(1)
    count = int(discard_ratio * flat.shape[1])
    if count:
        threshold = flat.kthvalue(count, dim=1, keepdim=True).values
        first = flat[:, 0].clone()
        flat.masked_fill_(flat <= threshold, 0.0)
        if keep_first:
            flat[:, 0] = first
    return [(0, whole)]


def _fused(
    rows: Float[Tensor, "batch head query key"], fusion: str
) -> Float[Tensor, "batch query key"]:
    """Fuse the heads."""
    if fusion == "max":
        return rows.amax(dim=1)
    return rows.amin(dim=1) if fusion == "min" else rows.mean(dim=1)


def _normalized_product(
    row: Float[Tensor, "batch query"],
    blocks: list[tuple[int, Float[Tensor, "batch query key"]]],
    *,
    residual: float,
) -> Float[Tensor, "batch key"]:
    """Return ``row · rownorm(residual · I + (1 - residual) · F)``."""
    result = torch.zeros_like(row)
    for start, fused in blocks:
        stop = start + fused.shape[1]
        sums = residual + (1.0 - residual) * fused.sum(dim=2)
        weights = row[:, start:stop] / sums.clamp_min(torch.finfo(sums.dtype).tiny)
        result += (1.0 - residual) * torch.einsum("bq,bqk->bk", weights, fused)
        result[:, start:stop] += residual * weights
    return result


def _check_rollout(head_fusion: str, discard_ratio: float, *, residual: float) -> None:
    """Refuse parameters out of range."""
    if head_fusion not in HEAD_FUSIONS:
        rule = f"it must be one of {', '.join(HEAD_FUSIONS)}"
        raise MethodError("head_fusion", repr(head_fusion), rule, "pass head_fusion='mean'")
    if not 0.0 <= discard_ratio < 1.0:
        raise MethodError(
            "discard_ratio", str(discard_ratio), "it must lie in [0, 1)", "pass 0 to keep all"
        )
    if not 0.0 <= residual <= 1.0:
        raise MethodError(
            "residual", str(residual), "it must lie in [0, 1]", "pass 0.5, the paper's share"
        )


def _check_index(argument: str, index: int, *, length: int) -> None:
    """Refuse an index outside ``length`` things."""
    if not -length <= index < length:
        raise MethodError(
            argument, str(index), f"there are {length}", f"pass {-length} to {length - 1}"
        )
