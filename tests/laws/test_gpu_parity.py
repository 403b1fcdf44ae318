"""On a GPU every method draws the map that it draws on the CPU; skips where there is none."""

import pytest
import timm
import torch

from vitrail.explain import explain, methods

CHEAP = {"steps": 4, "samples": 2, "masks": 8}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("method", methods())
def test_the_map_on_a_gpu_is_the_map_on_the_cpu(method):
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=24, depth=2, num_heads=2, patch_size=8, img_size=32,
        num_classes=5,
    ).eval()  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    parameters = {name: CHEAP[name] for name in methods()[method].parameters if name in CHEAP}
    if "generator" in methods()[method].parameters:  # each device draws its own numbers
        pytest.skip(f"{method} draws random numbers on the device")
    here = explain(model, images, method=method, **parameters).values
    there = explain(model.cuda(), images, method=method, **parameters).values.cpu()
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3 * float(here.abs().max()))
