"""The layout of a model is found, or what was seen is named."""

import pytest
import timm
import torch
from torch import nn

from vitrail.errors import AnatomyError
from vitrail.explain import Anatomy, anatomy
from vitrail.explain.anatomy import image_size, patch_size


def test_without_images_the_models_own_size_is_taken():
    model = timm.models.VisionTransformer(
        img_size=(16, 24), patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=2
    )
    found = anatomy(model.eval())
    assert found == Anatomy(num_prefix_tokens=1, grid_size=(2, 3), readout="cls")
    assert (found.num_patches, found.num_tokens) == (6, 7)
    assert image_size(model) == (16, 24)


def test_a_model_that_names_no_size_asks_for_images():
    with pytest.raises(AnatomyError, match="images: None, and Conv2d names no image size"):
        anatomy(nn.Conv2d(3, 4, 8, 8))


@pytest.mark.parametrize(
    ("module", "size"),
    [(nn.Conv2d(1, 4, (4, 8), (4, 8)), (4, 8)), (nn.Conv2d(1, 4, 3, 1), None), (nn.ReLU(), None)],
)
def test_the_patch_is_the_stride_of_a_convolution_that_tiles(module, size):
    assert patch_size(nn.Sequential(module)) == size


@pytest.mark.parametrize(
    ("readout", "row"),
    [
        ("cls", [1, 0, 0, 0]),
        ("distilled", [0.5, 0.5, 0, 0]),
        ("patch_mean", [0, 0, 0.5, 0.5]),
        ("token_mean", [0.25] * 4),
        ("cls_and_patch_mean", [0.5, 0, 0.25, 0.25]),
    ],
)
def test_the_read_out_row_weighs_the_tokens_that_are_read(readout, row):
    layout = Anatomy(num_prefix_tokens=2, grid_size=(1, 2), readout=readout)
    assert layout.readout_row(torch.zeros(())).tolist() == row


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((0, (2, 2), "cls"), "the read-out 'cls' needs 1 or more prefix tokens"),
        ((1, (2, 2), "distilled"), "the read-out 'distilled' needs 2 or more prefix tokens"),
        ((1, (0, 2), "cls"), r"1 prefix tokens, grid \(0, 2\)"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(fields, words):
    prefix, grid, readout = fields
    with pytest.raises(AnatomyError, match=words):
        Anatomy(num_prefix_tokens=prefix, grid_size=grid, readout=readout)
