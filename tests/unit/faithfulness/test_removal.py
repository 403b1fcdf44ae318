"""Removal curves: the optimum, ties, batches, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrail.errors import InputError, MethodError
from vitrail.faithfulness.imputers import IMPUTERS, Hiding
from vitrail.faithfulness.removal import (
    FRACTIONS,
    _check,
    chefer_areas,
    quantities,
    removal_curves,
    rise_areas,
    tie_orders,
)

BLACK = Hiding(imputer="black", black=(0.0, 0.0, 0.0))
TARGETS = np.ones(5, dtype=int)


def gains(model, images, maps, **kwargs):
    curves = removal_curves(model, images, maps=maps, targets=TARGETS, hiding=BLACK, **kwargs)
    return curves.removal_gain("logit")


def test_a_perfect_map_of_a_linear_model_reaches_the_analytic_optimum(linear):
    model, images, perfect = linear
    steps = tuple(np.arange(17) / 16)
    shares = np.sort(perfect.reshape(5, 16), axis=1)
    kept = np.concatenate([np.zeros((5, 1)), shares.cumsum(axis=1)], axis=1)
    most, least = kept[:, ::-1], (kept[:, -1:] - kept)
    optimum = np.trapezoid(least - most, steps, axis=1)
    np.testing.assert_allclose(gains(model, images, perfect[None], fractions=steps)[0], optimum)


def test_no_other_order_gains_more_than_the_perfect_one(linear):
    model, images, perfect = linear
    others = np.random.default_rng(0).random((20, *perfect.shape))
    found = gains(model, images, np.concatenate([perfect[None], others]))
    assert (found[0] > found[1:]).all()


def test_a_reversed_map_gains_the_exact_negative(linear):
    model, images, perfect = linear
    right, wrong = gains(model, images, np.stack([perfect, -perfect]))
    np.testing.assert_allclose(wrong, -right)
    assert (right > 0).all()


def test_a_constant_map_gains_nothing(linear):
    model, images, perfect = linear
    np.testing.assert_allclose(gains(model, images, np.ones_like(perfect)[None]), 0, atol=1e-12)


def test_a_constant_map_falls_as_the_mean_over_random_orders(linear):
    model, images, perfect = linear
    constant = np.ones((1, *perfect.shape))
    constant = removal_curves(model, images, maps=constant, targets=TARGETS, hiding=BLACK)
    many = np.random.default_rng(0).random((400, *perfect.shape))
    curves = removal_curves(model, images, maps=many, targets=TARGETS, hiding=BLACK)
    chance, spread = curves.most["logit"].mean(axis=0), curves.most["logit"].std(axis=0)
    assert (np.abs(constant.most["logit"][0] - chance) < 3 * spread + 1e-9).all()
    line = chance[:, :1] * (1 - np.rint(np.array(FRACTIONS) * 16) / 16)
    np.testing.assert_allclose(chance, line, atol=4 * float(spread.max()) / 20)


def test_ties_are_broken_in_opposite_ways():
    first, second = tie_orders(np.zeros((2, 3)), seed=(0, 0))
    assert first.tolist() == second[::-1].tolist()


def test_an_order_without_ties_is_the_maps_own():
    orders = tie_orders(np.array([[1.0, 3.0], [2.0, 0.0]]), seed=(0, 0))
    assert orders.tolist() == [[1, 2, 0, 3]] * 2


@pytest.mark.parametrize("imputer", IMPUTERS)
def test_the_size_of_a_batch_changes_nothing(imputer, tiny):
    model, images, maps = tiny
    hiding = Hiding(imputer=imputer, batch_size=64)
    targets = np.array([0, 1, 2, 3])
    whole, small = (
        removal_curves(model, images, maps=maps, targets=targets, hiding=one).most["logit"]
        for one in (hiding, replace(hiding, batch_size=3))
    )
    np.testing.assert_allclose(whole, small, atol=1e-9)


@pytest.mark.parametrize("imputer", IMPUTERS)
def test_a_picture_alone_and_a_method_alone_come_out_the_same(imputer, tiny):
    if imputer == "mean":
        pytest.skip("its color is the mean of all given pictures")
    model, images, maps = tiny
    black = (float(images.min()),)
    hiding = Hiding(imputer=imputer, black=black)
    targets = np.array([0, 1, 2, 3])
    whole = removal_curves(model, images, maps=maps, targets=targets, hiding=hiding)
    alone = removal_curves(
        model, images[:1], maps=maps[1:2, :1], targets=targets[:1], hiding=hiding
    )
    for key, curve in whole.most.items():
        np.testing.assert_allclose(alone.most[key][0, 0], curve[1, 0], atol=1e-9)


def test_a_label_among_several_has_its_own_probability_and_decision():
    logits = np.array([[3.0, 1.0], [3.0, -1.0]])
    one, several = quantities(logits, 1), quantities(logits, 1, several=True)
    assert one["accuracy"].tolist() == [0, 0]
    assert several["accuracy"].tolist() == [1, 0]
    np.testing.assert_allclose(several["probability"], 1 / (1 + np.exp([-1.0, 1.0])))
    assert several["logit"].tolist() == one["logit"].tolist() == [1, -1]


def test_equal_variants_are_asked_once(tiny):
    model, images, maps = tiny
    twice = np.concatenate([maps[:1], maps[:1]])
    once, both = (
        removal_curves(model, images, maps=some, targets=np.zeros(4, int)).forwards
        for some in (maps[:1], twice)
    )
    assert once == both == 4 * (1 + 2 * (len(FRACTIONS) - 1))


def test_pictures_share_the_passes_of_shortened_sequences(tiny):
    model, images, maps = tiny
    passes = []
    counts = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    try:
        for cases in (2, 4):
            passes.clear()
            some = {"maps": maps[:1, :cases], "targets": np.zeros(cases, int)}
            removal_curves(model, images[:cases], **some)
            counts.append(len(passes))
    finally:
        handle.remove()
    assert counts[0] == counts[1]


def test_rise_and_chefer_areas_follow_the_perfect_map(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, -perfect])
    rise = rise_areas(model, images, maps=maps, targets=TARGETS, hiding=BLACK)
    assert (rise.deletion_error[0] < rise.deletion_error[1]).all()
    assert rise.insertion_score[0].mean() > rise.insertion_score[1].mean()
    chefer = chefer_areas(model, images, maps=maps, targets=TARGETS, hiding=BLACK)
    assert (chefer.positive[0] <= chefer.negative[0]).all()
    assert chefer.negative.max() <= 90


def test_maps_that_do_not_fit_are_refused(linear):
    model, images, perfect = linear
    with pytest.raises(InputError, match="4 maps and 5 targets for 5 images"):
        _check(images, perfect[None, :4], targets=TARGETS, fractions=(0.0, 1.0))
    broken = np.full_like(perfect, np.nan)[None]
    with pytest.raises(InputError, match="a map must be finite"):
        removal_curves(model, images, maps=broken, targets=TARGETS, hiding=BLACK)
    with pytest.raises(InputError, match="they must rise"):
        gains(model, images, perfect[None], fractions=(0.5, 0.1))


def test_maps_of_another_grid_cannot_drop_tokens(tiny):
    model, images, _ = tiny
    maps = np.zeros((1, 4, 4, 4))
    with pytest.raises(InputError, match=r"the model's own grid \(8, 8\)"):
        removal_curves(model, images, maps=maps, targets=np.zeros(4, int))
    blurred = removal_curves(
        model, images, maps=maps, targets=np.zeros(4, int), hiding=Hiding(imputer="blur")
    )
    assert np.isfinite(blurred.most["logit"]).all()


def test_the_last_token_cannot_be_dropped(tiny):
    model, images, maps = tiny
    with pytest.raises(MethodError, match="one token at least must stay"):
        removal_curves(model, images, maps=maps, targets=np.zeros(4, int), fractions=(0.0, 1.0))


def test_an_unknown_imputer_is_refused(tiny):
    model, images, maps = tiny
    hiding = Hiding()
    object.__setattr__(hiding, "imputer", "magic")
    with pytest.raises(MethodError, match="'magic'; it must be one of token_drop"):
        removal_curves(model, images, maps=maps, targets=np.zeros(4, int), hiding=hiding)


def test_curves_begin_at_the_untouched_answer(tiny):
    model, images, maps = tiny
    with torch.no_grad():
        logits = model(images).numpy()
    for imputer in IMPUTERS:
        curves = removal_curves(
            model, images, maps=maps, targets=np.full(4, 2), hiding=Hiding(imputer=imputer)
        )
        np.testing.assert_allclose(curves.most["logit"][0, :, 0], logits[:, 2], atol=1e-9)


class Crowded(torch.nn.Module):
    """A model that runs out of memory above two pictures at once."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(images)


def test_where_memory_ends_fewer_variants_are_asked_at_once(linear, caplog):
    model, images, perfect = linear
    crowded = Crowded(model).eval()
    found = gains(crowded, images, perfect[None])
    np.testing.assert_allclose(found, gains(model, images, perfect[None]))
    assert "out of memory: going on with 2 images at a time" in caplog.text
