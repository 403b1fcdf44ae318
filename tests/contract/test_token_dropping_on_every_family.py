"""Removal by token dropping: exact where it is offered, refused where it cannot be."""

import numpy as np
import pytest
import torch

from vitrail.errors import VitrailError
from vitrail.faithfulness.dropping import TokenDropper
from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.removal import removal_curves


def test_leaving_tokens_out_equals_masking_them(transformer, family):
    model, images = family(transformer)
    short, masked = (TokenDropper(model, images, shorten=way) for way in (True, False))
    assert not masked.is_shortened
    generator = torch.Generator().manual_seed(0)
    hidden = torch.rand(6, *short.grid_size, generator=generator) < 0.5
    hidden[:, 0, 0] = False
    cases = torch.tensor([0, 1, 0, 1, 0, 1])
    torch.testing.assert_close(
        short.logits(cases, hidden), masked.logits(cases, hidden), atol=2e-5, rtol=2e-4
    )


def test_plain_models_are_really_shortened(family):
    shortened = {"timm ViT": True, "torchvision ViT": True, "HF ViT": True, "timm EVA-02": False}
    for name, really in shortened.items():
        model, images = family(name)
        assert TokenDropper(model, images).is_shortened is really, name


def test_windowed_models_refuse_token_dropping_only(windowed, family):
    model, images = family(windowed)
    maps = np.random.default_rng(0).random((1, 2, 4, 4))
    targets = np.zeros(2, dtype=int)
    with pytest.raises(VitrailError, match=r"(?s)."):
        removal_curves(model, images, maps=maps, targets=targets)
    blurred = removal_curves(
        model, images, maps=maps, targets=targets, hiding=Hiding(imputer="blur")
    )
    assert np.isfinite(blurred.removal_gain()).all()
