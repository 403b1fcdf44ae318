"""The logit lens: what the model would answer if it stopped after each layer."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import MethodError
from vitrail.explain.anatomy import Anatomy
from vitrail.explain.engine import question
from vitrail.explain.intercept import entered
from vitrail.explain.target import logits_of
from vitrail.explain.tokens import Call, TokenWatch

_TOLERANCE = 1e-3


class Lens(NamedTuple):
    """What the layers already know.

    Attributes:
        logits: Last norm and head applied to the tokens after each layer; the last row is the
            model's own answer (checked).
        features: What the head reads at the end; the same for pictures that the model cannot tell
            apart.
    """

    logits: Float[Tensor, "layer batch class"]
    features: Float[Tensor, "batch dim"]


def logit_lens(model: nn.Module, images: Tensor, *, anatomy: Anatomy | None = None) -> Lens:
    """Read the model's answer off the tokens after every layer.

    ``logits_l = head(pool(norm(tokens_l)))``, with the model's own last norm, read-out and head.
    Early layers were never trained to be read so: their rows tell what the head can make of them.

    Args:
        model: A pre-norm Vision Transformer in eval mode.
        images: As for :func:`~vitrail.explain.engine.explain`.
        anatomy: The model's layout, where it cannot be found.

    Raises:
        MethodError: If norm, pooling and head cannot be told, or do not repeat the model's answer.

    Source: nostalgebraist2020logitlens.
    """
    request = question(model, images, anatomy=anatomy)
    layout, watch = request.anatomy(), TokenWatch()
    with torch.no_grad(), entered(model, watch):
        answer = logits_of(model(request.images))
        norms = watch.blocks(layout, len(images))
        norm, heads = watch.last_norm(), watch.heads(norms[0].input.shape[-1])
        before_pooling = norm is not None and norm.output is watch.last
        ends = [*(call.input for call in norms[1:]), watch.last_tokens()]
        read = []
        for tokens in ends:
            normed = norm.again(tokens) if norm is not None and before_pooling else tokens
            pooled = _pooled(normed, layout)
            if norm is not None and not before_pooling:
                pooled = [norm.again(one) for one in pooled]
            read.append(pooled)
        logits = torch.stack([_answer(pooled, heads) for pooled in read])
    error = float((logits[-1] - answer).abs().max())
    if error > _TOLERANCE * max(1.0, float(answer.abs().max())):
        raise MethodError(
            "model",
            f"its norm, read-out and head give logits {error:.3g} away from its answer",
            "they must repeat the answer after the last layer",
            "the logit lens does not serve this model",
        )
    return Lens(logits=logits, features=torch.cat(read[-1], dim=-1))


def _pooled(
    tokens: Float[Tensor, "batch token dim"], layout: Anatomy
) -> list[Float[Tensor, "batch width"]]:
    """Return what each head reads of the tokens: one vector, or one a head."""
    if layout.readout == "map":
        raise MethodError(
            "model",
            "it pools by attention",
            "the lens reads a class token or a mean",
            "use another view of the layers, such as their attention",
        )
    if layout.readout == "distilled":
        return [tokens[:, 0], tokens[:, 1]]
    patches = tokens[:, layout.num_prefix_tokens :].mean(dim=1)
    if layout.readout == "cls_and_patch_mean":
        return [torch.cat([tokens[:, 0], patches], dim=-1)]
    whole = {"cls": tokens[:, 0], "patch_mean": patches, "token_mean": tokens.mean(dim=1)}
    return [whole[layout.readout]]


def _answer(pooled: list[Tensor], heads: list[Call]) -> Float[Tensor, "batch class"]:
    """Apply the heads, each to its own vector, and average what they say."""
    vectors = pooled if len(pooled) == len(heads) else pooled * len(heads)
    said = [head.again(vector) for head, vector in zip(heads, vectors, strict=True)]
    return torch.stack(said).mean(dim=0)
