"""A token that is really left out leaves the answer that masking it leaves."""

import pytest
import timm
import torch

from vitrail.explain.request import Request
from vitrail.explain.shortening import shorter_cut, tokens_left_out
from vitrail.explain.target import Selection

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}


def setting(name, **more):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **SMALL, **more).eval()
    request = Request(model=model, images=torch.randn(2, 3, 32, 32), selection=Selection(0))
    return request, request.anatomy()


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("vit_small_patch14_reg4_dinov2", {}),
    ],
)
def test_the_sequence_is_shortened_where_both_ways_agree(name, more):
    request, layout = setting(name, **more)
    cut = shorter_cut(request, layout)
    assert cut is not None
    keep = torch.rand(2, layout.num_tokens).argsort(dim=1).argsort(dim=1) < 9
    keep[:, : layout.num_prefix_tokens] = True
    keep[1] = keep[0]
    for dtype, rounding in ((torch.float32, 4e-6), (torch.float64, 1e-14)):
        run = request.model.to(dtype), request.images.to(dtype)
        masked = tokens_left_out(*run, keep=keep, layout=layout)
        shorter = tokens_left_out(*run, keep=keep, layout=layout, cut=cut)
        assert float((shorter - masked).abs().max() / masked.abs().max()) < rounding


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_rotary_and_relative_positions_are_masked_instead(name):
    assert shorter_cut(*setting(name)) is None
