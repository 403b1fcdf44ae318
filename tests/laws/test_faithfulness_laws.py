"""Laws of removal, on models whose evidence is known in full: a mean of the tokens' own numbers."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.removal import removal_curves

GRID, PATCH = (3, 4), 4
STEPS = tuple(np.arange(12) / 12)
ZERO = Hiding(imputer="black", black=(0.0,))
LINEAR = settings(max_examples=20, deadline=None)


class Summed(nn.Module):
    """The logit is the sum of the patches' mean values; hiding a patch by 0 takes its share."""

    def forward(self, images):
        shares = nn.functional.avg_pool2d(images[:, 0], PATCH)
        return torch.stack([shares.sum(dim=(1, 2)), torch.zeros(len(images))], dim=1)


def averaged():
    """Build a Vision Transformer whose logit is the mean of its tokens' own brightness."""
    model = timm.models.VisionTransformer(
        img_size=(12, 16), patch_size=PATCH, in_chans=1, embed_dim=8, depth=1, num_heads=2,
        num_classes=2, class_token=False, global_pool="avg", norm_layer=nn.LayerNorm,
    ).double().eval()  # fmt: skip
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    model.fc_norm = nn.Identity()
    nn.init.constant_(model.patch_embed.proj.weight[0], 1 / PATCH**2)
    nn.init.ones_(model.head.weight[0, :1])
    return model


def pictures(shares):
    """Paint each patch with its share of the evidence."""
    values = torch.tensor(shares, dtype=torch.float64).reshape(1, 1, *GRID)
    return values.repeat_interleave(PATCH, dim=2).repeat_interleave(PATCH, dim=3)


def curves(model, shares, maps, *, hiding):
    maps = np.asarray(maps, dtype=np.float64).reshape(-1, 1, *GRID)
    return removal_curves(
        model.double(), pictures(shares), maps=maps, targets=np.zeros(1, dtype=int),
        hiding=hiding, fractions=STEPS,
    )  # fmt: skip


@st.composite
def evidence(draw):
    """Draw the shares of twelve patches, equal ones among them."""
    return [draw(st.integers(-3, 3)) / 2 for _ in range(12)]


@LINEAR
@given(shares=evidence())
def test_a_perfect_map_of_a_sum_reaches_the_analytic_optimum(shares):
    found = curves(Summed(), shares, [shares], hiding=ZERO).removal_gain("logit")[0, 0]
    kept = np.concatenate([[0.0], np.sort(shares).cumsum()])
    lost = kept[-1] - kept
    steps = np.arange(12)
    optimum = np.trapezoid(lost[steps] - kept[::-1][steps], STEPS) / STEPS[-1]
    assert found == pytest.approx(optimum, abs=1e-9)


@pytest.mark.parametrize("hiding", [ZERO, Hiding(imputer="token_drop")], ids=["black", "dropped"])
@settings(max_examples=10, deadline=None)
@given(shares=evidence(), map_=evidence())
def test_no_map_gains_more_than_the_evidence_itself_and_a_reversed_one_its_negative(
    hiding, shares, map_
):
    model = Summed() if hiding.imputer == "black" else averaged()
    other, reverse = np.array(map_), -np.array(map_)
    gains = curves(model, shares, [shares, other, reverse], hiding=hiding).removal_gain("logit")
    assert gains[0, 0] >= gains[1:].max() - 1e-9
    assert gains[2, 0] == pytest.approx(-gains[1, 0], abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(shares=evidence())
def test_dropped_tokens_leave_the_mean_of_the_others(shares):
    most = curves(averaged(), shares, [shares], hiding=Hiding()).most["logit"][0, 0]
    ranked = np.sort(shares)
    means = [ranked[: 12 - count].mean() for count in range(12)]
    np.testing.assert_allclose(most, means, atol=1e-9)


@LINEAR
@given(shares=evidence(), level=st.integers(-2, 2))
def test_a_constant_map_gains_nothing_whatever_the_evidence(shares, level):
    found = curves(Summed(), shares, [[float(level)] * 12], hiding=ZERO)
    assert found.removal_gain("logit") == pytest.approx(0, abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(shares=evidence(), map_=evidence(), batch_size=st.integers(1, 30), seed=st.integers(0, 9))
def test_batches_change_nothing_and_a_seed_says_everything(shares, map_, batch_size, seed):
    first, second = (
        curves(averaged(), shares, [map_], hiding=Hiding(seed=seed, batch_size=size))
        for size in (64, batch_size)
    )
    np.testing.assert_allclose(first.most["logit"], second.most["logit"], atol=1e-12)
    np.testing.assert_allclose(first.least["logit"], second.least["logit"], atol=1e-12)
