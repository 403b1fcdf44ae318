"""Models whose evidence is known: a linear one, and the tiny ViT untrained."""

import numpy as np
import pytest
import torch
from torch import nn

from vitrail.faithfulness.planted import plant, tiny_vit


class LinearPatches(nn.Module):
    """Logits are weighted sums of the patches' mean values: each patch has its own share."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.Parameter(torch.randn(3, 4, 4, generator=generator, dtype=torch.float64))

    def forward(self, images):
        patches = nn.functional.avg_pool2d(images.mean(dim=1), 4)
        return torch.einsum("brc,krc->bk", patches, self.weights)


@pytest.fixture(scope="session")
def linear():
    """Return the linear model, pictures, and its perfect map for class 1."""
    model = LinearPatches().eval()
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    patches = nn.functional.avg_pool2d(images.mean(dim=1), 4)
    perfect = (patches * model.weights[1]).detach().numpy()
    return model, images, perfect


@pytest.fixture(scope="session")
def tiny():
    """Return the untrained tiny ViT in float64, pictures and random maps of three methods."""
    model = tiny_vit(seed=3).double()
    images = plant(4, seed=5).images.double()
    maps = np.random.default_rng(0).random((3, 4, 8, 8))
    return model, images, maps
