"""Every case comes once an epoch, in an order that only seed and epoch decide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.order import batches, class_weights

SEED = st.integers(0, 2**32)


@given(st.integers(1, 200), st.integers(1, 50), SEED, st.integers(0, 50))
def test_an_epoch_holds_every_case_once_in_batches_of_nearly_equal_size(
    cases, batch_size, seed, epoch
):
    parts = batches(cases, batch_size, seed=seed, epoch=epoch)
    assert sorted(index for part in parts for index in part) == list(range(cases))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert parts == batches(cases, batch_size, seed=seed, epoch=epoch)


@given(SEED)
def test_epochs_and_seeds_have_their_own_order(seed):
    first = batches(40, 40, seed=seed, epoch=0)
    assert first != batches(40, 40, seed=seed, epoch=1)
    assert first != batches(40, 40, seed=seed + 1, epoch=0)


def test_drawing_by_weight_makes_classes_equally_frequent():
    labels = np.array([0] * 900 + [1] * 100)
    weights = class_weights(labels, 2)[labels]
    drawn = [
        index for part in batches(1000, 32, seed=0, epoch=0, weights=weights) for index in part
    ]
    assert len(drawn) == 1000
    assert abs(labels[drawn].mean() - 0.5) < 0.05


@given(st.lists(st.integers(0, 3), min_size=1))
def test_class_weights_make_the_mean_weight_of_the_cases_one(labels):
    weights = class_weights(labels, 4)
    counts = np.bincount(labels, minlength=4)
    np.testing.assert_allclose(weights[labels].mean(), 1)
    assert np.ptp((weights * counts)[counts > 0]) < 1e-9
    assert (weights[counts == 0] == 0).all()
