"""Gradual unfreezing: the head is trained first, then one layer more after another.

What a trained model knows is then not washed out by the large gradients of a new head.
"""

from timm.models import group_parameters
from torch import nn

from vitrail.errors import InputError


class Unfreezing:
    """Which layers are trained in which epoch.

    Args:
        model: A timm model: it knows the order of its layers.
        share: Of all epochs, after which every layer is trained; 0 trains all from the first.

    Raises:
        InputError: If the model does not know the order of its layers.

    Source:
        howard2018, section 3.3.

    Differs:
        The layers are set free at even distances over a share of the epochs, not one an epoch.
    """

    def __init__(self, model: nn.Module, *, share: float) -> None:
        self.share = share
        self.layers: list[tuple[nn.Parameter, int]] = []
        if not share:
            return
        matcher = getattr(model, "group_matcher", None)
        if matcher is None:
            raise InputError(
                "unfreezing",
                f"a {type(model).__name__}",
                "the order of the layers must be known, as of timm's models",
                "set unfreezing: 0 to train all layers from the first epoch",
            )
        layer_of = group_parameters(model, matcher(coarse=False), reverse=True)
        self.layers = [
            (parameter, layer_of[name])
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]

    def begin(self, epoch: int, *, epochs: int) -> None:
        """Let rest, or set free, what an epoch (from 0) of so many asks for."""
        if not self.layers:
            return
        last = max(layer for _, layer in self.layers)
        first = round(last * (1 - min(1.0, epoch / (self.share * epochs))))
        for parameter, layer in self.layers:
            parameter.requires_grad = layer >= first
