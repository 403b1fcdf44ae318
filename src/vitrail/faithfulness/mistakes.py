"""What known wrong public codes would show, so that an explainer that *is* one is told by name."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.explain import capture
from vitrail.faithfulness.contrast import rank_correlation

Maps = Float[np.ndarray, "class case row column"]

_SAME_MAP = 0.999


def known_mistakes(model: nn.Module, images: Tensor) -> dict[str, Maps]:
    """Compute what known wrong codes of gradient rollout would show.

    Args:
        model: The tiny ViT (class token first, read out at it).
        images: The pictures.

    Returns:
        Maps by the name of the mistake. All of them multiply each layer's attention by a gradient;
        the mistakes are the last layer's gradient paired with the first layer (backward hooks
        append in reverse), the gradient of the scores before the softmax, and columns divided by
        row sums. (Its discarding of the lowest 90 % of the entries changes next to nothing here.)

    Source: gildenblat2020, re-stated from its formulas.
    """
    with torch.enable_grad(), capture(model) as trace:
        logits = model(images.detach().clone().requires_grad_())
    outputs = [layer.output for layer in trace.layers if layer.output is not None]
    maps: dict[str, list[np.ndarray]] = defaultdict(list)
    for motif in range(logits.shape[1]):
        gradients = torch.autograd.grad(logits[:, motif].sum(), outputs, retain_graph=True)
        attention = [layer.attention() for layer in trace.layers]
        after = [
            layer.attention_gradient(gradient)
            for layer, gradient in zip(trace.layers, gradients, strict=True)
        ]
        before = [
            rows * (gradient - (rows * gradient).sum(dim=-1, keepdim=True))
            for rows, gradient in zip(attention, after, strict=True)
        ]
        maps["gradient rollout, gradients in reverse order of the layers"].append(
            _rolled(attention, after[::-1], by_rows=True)
        )
        maps["gradient rollout as vit-explain ships it"].append(
            _rolled(attention, before[::-1], by_rows=False)
        )
    return {name: np.stack(found) for name, found in maps.items()}


def _rolled(
    attention: list[Tensor], gradients: list[Tensor], *, by_rows: bool
) -> Float[np.ndarray, "case row column"]:
    """Roll out relu(mean over heads of attention ⊙ gradient), and read the class token's row."""
    tokens = attention[0].shape[-1]
    identity = torch.eye(tokens)
    rolled = identity
    for rows, gradient in zip(attention, gradients, strict=True):
        fused = (rows * gradient).mean(dim=1).relu() + identity
        sums = fused.sum(dim=-1)
        fused = fused / (sums.unsqueeze(-1) if by_rows else sums.unsqueeze(-2))
        rolled = fused @ rolled
    side = int((tokens - 1) ** 0.5)
    found: np.ndarray = rolled[:, 0, 1:].reshape(-1, side, side).detach().numpy()
    return found


def recognize(maps: Maps, mistakes: Mapping[str, Maps]) -> str:
    """Name the known wrong code that ranks the patches just as these maps do, empty if none."""
    for name, wrong in mistakes.items():
        same = rank_correlation(maps[0], wrong[0])
        known = same[np.isfinite(same)]
        if len(known) and float(np.median(known)) > _SAME_MAP:
            return name
    return ""
