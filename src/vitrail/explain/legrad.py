"""LeGrad: how strongly each layer's attention would change what that layer's tokens already say."""

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.anatomy import fit_trace
from vitrail.explain.intercept import entered
from vitrail.explain.registry import Scores, register
from vitrail.explain.relevance import check_start_layer
from vitrail.explain.request import Request, gradients
from vitrail.explain.tokens import TokenWatch
from vitrail.explain.trace import AttentionLayer, capture

_POOLINGS = ("mean", "cls")


@register(
    "legrad",
    needs="gradient",
    class_specific=True,
    signed=False,
    passes="1 forward, 1 backward a block",
    source="bousselham2025legrad",
    row_form=True,
)
def legrad(request: Request, *, readout: str = "mean", start_layer: int = 0) -> Scores:
    """Average the positive gradient of each layer's own score with respect to its attention.

    The tokens after block l, pooled, go through the model's last norm and head (twice, side by
    side, where the head reads class token and mean so): the score s_l::

        mean over l ≥ start_layer of  mean_(h, query) (ds_l / dA_l)⁺

    Args:
        request: Model, images and target.
        readout: How the tokens are pooled for s_l: ``mean`` of all tokens, or ``cls``, token 0.
        start_layer: First layer to take part, 0 nearest the input.

    Returns:
        Non-negative scores of the tokens (as keys).

    Raises:
        MethodError: If the read-out or layer does not exist, or last norm and head cannot be told.

    Source: bousselham2025legrad, section 3.

    Differs: the authors' code sums over layers where torch-cam and this average them, and stretches
    the map to [0, 1]; it serves OpenCLIP models only.
    """
    if readout not in _POOLINGS:
        raise MethodError(
            "readout", repr(readout), "it must be 'mean' or 'cls'", "pass one of these"
        )
    layout = request.anatomy()
    if readout == "cls" and layout.num_prefix_tokens == 0:
        raise MethodError("readout", "'cls'", "the model has no class token", "pass readout='mean'")
    layers, scores = _layer_scores(request, readout, start_layer=start_layer)
    total: Tensor | None = None
    for layer, score in zip(layers, scores, strict=True):
        assert layer.output is not None  # noqa: S101 (recorded with outputs)
        (slope,) = gradients(score, [layer.output])
        found = _mean_positive(layer, slope)
        total = found if total is None else total + found
    assert total is not None  # noqa: S101 (start_layer is checked to leave a layer)
    return Scores(tokens=total / len(layers))


def _layer_scores(
    request: Request, readout: str, *, start_layer: int
) -> tuple[tuple[AttentionLayer, ...], list[Float[Tensor, "target batch"]]]:
    """Run the images once; return the layers from ``start_layer`` on, and the score after each."""
    layout = request.anatomy()
    several = isinstance(request.selection.target, str) and request.selection.target == "all"
    images = request.images.detach().clone().requires_grad_()
    watch = TokenWatch()
    with (
        torch.enable_grad(),
        entered(request.model, watch),
        capture(request.model, fold_targets=several) as trace,
    ):
        output = request.model(images)
    request.selection.scores(output)
    encoder = fit_trace(trace, layout, batch=len(images))
    check_start_layer(start_layer, len(encoder.layers))
    norms = watch.blocks(layout, len(images))
    if len(norms) != len(encoder.layers):
        raise MethodError(
            "model",
            f"{len(norms)} norms of the tokens before {len(encoder.layers)} attention calls",
            "each block must begin with its own norm and attention",
            "use another method, such as 'relevance'",
        )
    norm, heads = watch.last_norm(), watch.heads(norms[0].input.shape[-1])
    ends = [*(call.input for call in norms[1:]), watch.last_tokens()]
    scores = []
    with torch.enable_grad():
        for tokens in ends[start_layer:]:
            pooled = tokens.mean(dim=1) if readout == "mean" else tokens[:, 0]
            normed = pooled if norm is None else norm.again(pooled)
            wide = normed.repeat(1, heads[0].input.shape[-1] // normed.shape[-1])
            logits = torch.stack([head.again(wide) for head in heads]).mean(dim=0)
            scores.append(request.selection.scores(logits))
    return encoder.layers[start_layer:], scores


def _mean_positive(layer: AttentionLayer, slope: Tensor) -> Float[Tensor, "target batch token"]:
    """Return mean over heads and queries of (ds/dA)⁺, block by block."""
    _, heads, queries, _ = layer.shape
    total: Tensor | None = None
    for start, stop in layer.blocks(2**20):
        part = layer.attention_gradient(slope, start=start, stop=stop).relu_().sum(dim=(2, 3))
        total = part if total is None else total + part
    assert total is not None  # noqa: S101 (a layer has queries)
    return total / (heads * queries)
