"""Heads one by one: whole attention matrices, and how much the answer hangs on each head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import InputError
from vitrail.explain.anatomy import Anatomy
from vitrail.explain.engine import question
from vitrail.explain.target import Target


def attention_matrices(
    model: nn.Module, image: Tensor, *, anatomy: Anatomy | None = None
) -> Float[Tensor, "layer head query key"]:
    """Return the whole attention of one image, every layer and head; rows sum to one.

    Args:
        model: A Vision Transformer in eval mode.
        image: A batch of one: L·H·N² numbers are much already.
        anatomy: The model's layout, where it cannot be found.

    Raises:
        InputError: If there are several images.
        CaptureError: If the model's attention cannot be recorded.
    """
    if len(image) != 1:
        raise InputError(
            "image", f"{len(image)} images", "one is taken at a time", "pass images[:1]"
        )
    recording = question(model, image, anatomy=anatomy).record()
    return torch.stack([layer.attention()[0] for layer in recording.layers])


def head_importance(
    model: nn.Module,
    images: Tensor,
    *,
    target: Target = "predicted",
    anatomy: Anatomy | None = None,
) -> Float[Tensor, "layer batch head"]:
    """Return how much the explained score would feel each head being scaled.

    ``I_h = |Σ A_h ⊙ ∂y/∂A_h|``. As ``O_h = A_h V_h``, that is ``|Σ O_h ⊙ ∂y/∂O_h|``, which needs no
    matrix; and it is the absolute derivative of the score by a gate on the head's output.

    Args:
        model: A Vision Transformer in eval mode.
        images: As for :func:`~vitrail.explain.engine.explain`.
        target: As for :func:`~vitrail.explain.engine.explain`, but one class an image.
        anatomy: The model's layout, where it cannot be found.

    Raises:
        InputError: If all classes are asked for.

    Source: michel2019sixteen, the gate's gradient (of a score instead of a loss, of one image).
    """
    if isinstance(target, str) and target == "all":
        raise InputError("target", "'all'", "one class an image is explained", "pass a class")
    recording = question(model, images, target=target, anatomy=anatomy).record(gradients=True)
    slopes = recording.output_gradients()
    found = []
    for layer, slope in zip(recording.layers, slopes, strict=False):
        product = layer.by_head(layer.kept_output.detach()) * layer.by_head(slope)[0]
        found.append(product.sum(dim=(-2, -1)).abs())
    return torch.stack(found)
