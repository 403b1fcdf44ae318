"""Grad-CAM: the familiar baseline, on a Transformer's tokens or a CNN's last feature map."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.intercept import Intercept, entered
from vitrail.explain.registry import Scores, register
from vitrail.explain.request import Request, gradients
from vitrail.explain.tokens import TokenWatch
from vitrail.explain.trace import accumulation_dtype


@register(
    "grad_cam",
    needs="gradient",
    class_specific=True,
    signed=True,
    passes="1 forward, 1 backward",
    source="selvaraju2017",
)
def grad_cam(request: Request, *, layer: int = -1) -> Scores:
    """Weight the channels of a feature map by their mean gradient, and add them up, with sign.

    With Z_pd channel d at place p::

        Σ_d  mean_p (dy / dZ_pd) · Z_pd

    Of a Transformer, Z is the normalized input of a block's attention (prefix tokens are left out
    of the mean); of a CNN, the last feature map before the pooling.

    Args:
        request: Model, images and target.
        layer: Which block's norm; negative counts from the last. A CNN has only its last map (-1).

    Returns:
        Signed scores: of all tokens, or of the cells of the feature map.

    Raises:
        MethodError: If the layer does not exist or no feature map is seen.

    Source: selvaraju2017, section 3.

    Differs: the paper's positive part is left to the display, so that evidence against is kept;
    pytorch-grad-cam takes it, then stretches the map to [0, 1] image by image.
    """
    watch, maps = TokenWatch(), _MapWatch()
    images = request.images.detach().clone().requires_grad_()
    with torch.enable_grad(), entered(request.model, watch, maps):
        scores = request.scores(images)
    if watch.is_plain:
        return Scores(tokens=_of_tokens(request, watch, scores=scores, layer=layer))
    if layer != -1:
        raise MethodError(
            "layer", str(layer), "of a convolutional model only the last map is taken", "omit it"
        )
    return Scores(grid=_of_map(scores, maps))


def _of_tokens(
    request: Request, watch: TokenWatch, *, scores: Tensor, layer: int
) -> Float[Tensor, "target batch token"]:
    """Weight the normalized tokens before attention."""
    layout = request.anatomy()
    norms = watch.blocks(layout, len(request.images))
    if not -len(norms) <= layer < len(norms):
        raise MethodError(
            "layer", str(layer), f"the model has blocks 0 to {len(norms) - 1}", "pass one of them"
        )
    tokens = norms[layer].output
    (slope,) = gradients(scores, [tokens])
    dtype = accumulation_dtype(tokens)
    weights = slope.to(dtype)[:, :, layout.num_prefix_tokens :].mean(dim=2, keepdim=True)
    return (weights * tokens.detach().to(dtype)).sum(dim=-1)


def _of_map(scores: Tensor, maps: "_MapWatch") -> Float[Tensor, "target batch row column"]:
    """Weight the last feature map."""
    if maps.last is None or maps.width is None or len(maps.last) != scores.shape[1]:
        raise MethodError(
            "model",
            "no feature map [batch, channel, row, column] before a linear head was seen",
            "Grad-CAM weights the channels of a map",
            "use a method on pixels, such as 'integrated_gradients'",
        )
    found = maps.last
    (slope,) = gradients(scores, [found])
    dtype = accumulation_dtype(found)
    features, slope = found.detach().to(dtype), slope.to(dtype)
    if found.shape[1] != maps.width:
        features, slope = features.movedim(-1, 1), slope.movedim(-1, 2)
    weights = slope.mean(dim=(-2, -1), keepdim=True)
    return (weights * features).sum(dim=2)


class _MapWatch(Intercept):
    """Notes the last map, channels first or last, whose channels a linear head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None
        self.width: int | None = None
        self._maps: dict[int, Tensor] = {}

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call and note a map, or settle which one was the last."""
        result = func(*args, **kwargs)
        if name == "linear" and result.ndim == 2:
            if self._maps:  # a linear layer behind another one reads no map
                self.width = args[0].shape[-1]
                self.last = self._maps.get(self.width)
                self._maps.clear()
        elif isinstance(result, Tensor) and result.ndim == 3 and result.requires_grad:
            self._maps.pop(result.shape[2], None)  # tokens follow the map: no feature map is pooled
        elif isinstance(result, Tensor) and result.ndim == 4 and result.requires_grad:
            if result.shape[2] > 1 or result.shape[3] > 1:
                self._maps[result.shape[1]] = result
            if result.shape[1] > 1 or result.shape[2] > 1:
                self._maps[result.shape[3]] = result
        return result
