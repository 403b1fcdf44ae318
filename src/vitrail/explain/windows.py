"""Several views of one case, such as the windows of slices of a volume, explained for one class."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.explain.attribution import Attribution
from vitrail.explain.engine import explain
from vitrail.explain.target import Target


def explain_windows(
    model: nn.Module,
    windows: Sequence[Float[Tensor, "batch channel height width"]],
    *,
    method: str,
    target: Target = "predicted",
) -> tuple[Attribution, Float[np.ndarray, "batch window row column"]]:
    """Explain some cases through each of their windows of slices, all for one class a case.

    Args:
        model: In eval mode.
        windows: The cases' images, one batch a window, the one that settles the class first.
        method: A method of the engine.
        target: What is explained: a class, or the one predicted of the first window.

    Returns:
        The first window's maps with all that is known of them, and the raw maps of every window.
    """
    first = explain(model, windows[0], method=method, target=target)
    asked: Target = "predicted" if first.classes is None else first.classes.tolist()
    rest = [explain(model, images, method=method, target=asked).values for images in windows[1:]]
    values = torch.stack([first.values, *rest], dim=1)
    return first, values.float().cpu().numpy()
