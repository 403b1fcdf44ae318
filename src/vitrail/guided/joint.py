"""Both stages as one model, trained together: the map is differentiable."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vitrail.explain.anatomy import anatomy
from vitrail.explain.rollout import differentiable_rollout
from vitrail.models.zoo import ModelSpec, build


class EndToEnd(nn.Module):
    """A transformer whose rollout is the map channel of the network behind it.

    The loss of the network reaches the transformer's queries and keys through the rollout alone;
    its head learns nothing. The map is scaled by a batch normalization: by the batch in training,
    then by the statistics of the training cases.

    Args:
        vit: Stage one.
        cnn: Stage two, with as many channels as the picture; the map's is added.
        seed: Of both models' weights.
    """

    def __init__(self, vit: ModelSpec, cnn: ModelSpec, *, seed: int) -> None:
        super().__init__()
        self.vit = build(vit, seed=seed).eval()
        self.cnn = build(replace(cnn, in_chans=cnn.in_chans + 1), seed=seed)
        self.scale = nn.BatchNorm2d(1, affine=False)
        self.layout = anatomy(self.vit, torch.zeros(1, vit.in_chans, *vit.img_size))

    def train(self, mode: bool = True) -> "EndToEnd":  # noqa: FBT001, FBT002 (torch's own)
        """Set the mode; the transformer stays without dropout, so that its attention is exact."""
        super().train(mode)
        self.vit.eval()
        return self

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch class"]:
        """Return the network's logits of picture and map."""
        rolled = differentiable_rollout(self.vit, images, layout=self.layout)[:, None]
        size = [images.shape[2], images.shape[3]]
        # A rollout's values are shares of one: brought near one before they are normalized.
        guide = self.scale(rolled * rolled[0].numel())
        guide = interpolate(guide, size=size, mode="bilinear", align_corners=False)
        logits: Float[Tensor, "batch class"] = self.cnn(torch.cat([images, guide], dim=1))
        return logits
