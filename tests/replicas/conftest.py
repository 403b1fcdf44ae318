"""The tiny transformer that replicas write out."""

import pytest
import timm
import torch


@pytest.fixture(scope="session")
def random_vit():
    """Return a function that makes one for pictures of 16 x 24 px, in float64, from a seed."""

    def made(seed, **parameters):
        torch.manual_seed(seed)
        network = timm.models.VisionTransformer(
            img_size=(16, 24), patch_size=8, embed_dim=16, **parameters
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        return network.double().eval()

    return made
