"""Attention weighted by its own gradient, read out at one row: ``relevance``, ``gradient_rollout``.

Both push the read-out row down from the last layer, r ← r·M_l, and recompute blocks of attention
rows from queries and keys on the way: no matrix of tokens by tokens is kept, and of the last layer
only the rows that are read are computed.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Recording, Request
from vitrail.explain.trace import AttentionLayer

_BLOCK = {"cpu": 2**18}
"""Numbers a block of tokens by tokens, on the CPU 1 MiB of float32: it stays in fast memory."""


@register(
    "relevance",
    needs="gradient",
    class_specific=True,
    signed=False,
    passes="1 forward, 1 backward",
    source="chefer2021generic",
    row_form=True,
)
def relevance(request: Request, *, start_layer: int = 0) -> Scores:
    """Add up, layer by layer, the attention that raised the target's score.

    With A_l the attention of layer l, G_l = dy/dA_l and r the read-out row (``first_row``)::

        r ← r + r · mean_h (A_l ⊙ G_l)⁺        for l = last, ..., start_layer

    which is the read-out row of the paper's R ← R + Ā_l R, R = I.

    Args:
        request: Model, images and target.
        start_layer: First layer to take part, 0 nearest the input.

    Returns:
        Non-negative scores of the tokens; the read-out's own starting weight (identity) is kept.

    Source: chefer2021generic, section 3.

    Differs: nothing. The authors' notebooks stretch the map to [0, 1] for display; gradient rollout
    takes the mean over heads before the positive part, this the positive part first.
    """
    recording = request.record(gradients=True)
    row = _targets(recording)
    for layer, gradient in _downwards(recording, start_layer):
        row = row + _relevance_step(row, layer, gradient=gradient)
    return Scores(tokens=row)


@register(
    "gradient_rollout",
    needs="gradient",
    class_specific=True,
    signed=False,
    passes="1 forward, 1 backward",
    source="gildenblat2020",
    row_form=True,
)
def gradient_rollout(
    request: Request, *, discard_ratio: float = 0.0, start_layer: int = 0
) -> Scores:
    """Roll out the attention, weighted by the gradient of the target's score.

    With A_l the attention of layer l and G_l = dy/dA_l, after the softmax and of the same layer::

        F_l = (mean_h A_l ⊙ G_l)⁺
        r ← r · rownorm((F_l + I) / 2)         for l = last, ..., start_layer

    Args:
        request: Model, images and target.
        discard_ratio: Share in [0, 1) of each F_l's entries, the smallest, that are set to zero.
        start_layer: First layer to take part, 0 nearest the input.

    Returns:
        A distribution over the tokens (rows sum to one).

    Raises:
        MethodError: If ``discard_ratio`` is not in [0, 1).

    Source: gildenblat2020 (an idea without a paper); abnar2020quantifying for the rollout itself.

    Differs: vit-explain multiplies layer l's attention by layer L+1-l's gradient, takes that
    gradient before the softmax instead of after it, and divides columns by row sums; its default
    discards .9.
    """
    if not 0.0 <= discard_ratio < 1.0:
        raise MethodError(
            "discard_ratio", str(discard_ratio), "it must lie in [0, 1)", "pass for example 0.9"
        )
    recording = request.record(gradients=True)
    row = _targets(recording)
    for layer, gradient in _downwards(recording, start_layer):
        row = _rollout_step(row, layer, gradient=gradient, discard_ratio=discard_ratio)
    return Scores(tokens=row)


def check_start_layer(start_layer: int, depth: int) -> None:
    """Refuse a first layer that the model does not have.

    Raises:
        MethodError: If ``start_layer`` is not in 0 ... ``depth`` - 1.
    """
    if not 0 <= start_layer < depth:
        raise MethodError(
            "start_layer",
            str(start_layer),
            f"the model has attention layers 0 to {depth - 1}",
            "pass one of them; 0 is nearest the input",
        )


def read_rows(row: Float[Tensor, "target batch token"]) -> tuple[int, int]:
    """Return the range of tokens, end exclusive, outside of which ``row`` is zero everywhere."""
    used = row.flatten(0, -2).any(dim=0).nonzero()
    return (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)


def blocks(
    layer: AttentionLayer, row: Float[Tensor, "target batch token"]
) -> list[tuple[int, int]]:
    """Return ranges of the queries that ``row`` reads, small enough to stay in fast memory."""
    batch, heads, _, keys = layer.shape
    start, stop = read_rows(row)
    step = max(1, 2**20 // (len(row) * batch * heads * keys))
    return [(begin, min(begin + step, stop)) for begin in range(start, stop, step)]


def _targets(recording: Recording) -> Float[Tensor, "target batch token"]:
    """Return the read-out row, once a target."""
    return recording.first_row().detach().expand(len(recording.scores), -1, -1)


def _downwards(recording: Recording, start_layer: int) -> list[tuple[AttentionLayer, Tensor]]:
    """Pair each layer with dy/dO of the same layer, the last layer first."""
    check_start_layer(start_layer, len(recording.layers))
    found = recording.output_gradients()[: len(recording.layers)]
    pairs = list(zip(recording.layers, found, strict=True))
    return pairs[start_layer:][::-1]


def _relevance_step(
    row: Float[Tensor, "target batch token"], layer: AttentionLayer, *, gradient: Tensor
) -> Float[Tensor, "target batch token"]:
    """Return r · mean_h (A ⊙ G)⁺.

    r is non-negative, so it goes under the positive part and, as G = (dy/dO) Vᵀ, into the rows of
    dy/dO: what remains of each block of tokens by tokens is A ⊙ G', its positive part and one sum.
    """
    batch, heads, _, keys = layer.shape
    start, stop = read_rows(row)
    slopes = layer.by_head(gradient).to(row.dtype) * (row / heads)[:, :, None, :, None]
    slopes = slopes.permute(1, 2, 0, 3, 4)  # batch head target query dim
    added = torch.zeros_like(row)
    entries = _BLOCK.get(row.device.type, 2**24) // len(row)
    images = max(1, entries // (heads * max(1, stop - start) * keys))
    for first in range(0, batch, images):
        part = layer.images(first, first + images)
        value = part.value.detach().to(slopes.dtype).mT
        for low, high in part.blocks(entries, start=start, stop=stop):
            rows = slopes[first : first + images, :, :, low:high]
            fused = torch.unflatten(rows.flatten(2, 3) @ value, 2, (len(row), high - low))
            fused.mul_(part.attention(low, high).unsqueeze(2)).relu_()
            added[:, first : first + images] += fused.sum(dim=(1, 3)).movedim(1, 0)
    return added


def _rollout_step(
    row: Float[Tensor, "target batch token"],
    layer: AttentionLayer,
    *,
    gradient: Tensor,
    discard_ratio: float,
) -> Float[Tensor, "target batch token"]:
    """Return r · rownorm((F + I) / 2); the halves cancel in the normalization."""
    whole = discard_ratio > 0.0
    ranges = [(0, layer.shape[2])] if whole else blocks(layer, row)
    rolled = torch.zeros_like(row)
    for start, stop in ranges:
        weighted = layer.attention_gradient(gradient, start=start, stop=stop)
        fused = weighted.mul_(layer.attention(start, stop)).mean(dim=2).relu_()
        if whole:
            fused = _without_smallest(fused, discard_ratio)
        share = row[..., start:stop].to(fused.dtype) / (1.0 + fused.sum(dim=-1))
        rolled += (share.unsqueeze(-2) @ fused).squeeze(-2).to(rolled.dtype)
        rolled[..., start:stop] += share.to(rolled.dtype)
    return rolled


def _without_smallest(
    fused: Float[Tensor, "target batch query key"], ratio: float
) -> Float[Tensor, "target batch query key"]:
    """Set the smallest ``ratio`` of each matrix's entries to zero."""
    flat = fused.flatten(-2)
    smallest = flat.topk(int(flat.shape[-1] * ratio), dim=-1, largest=False).indices
    return flat.scatter(-1, smallest, 0.0).view_as(fused)
