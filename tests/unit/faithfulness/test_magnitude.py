"""Saliences against what hiding costs."""

import numpy as np
import pytest

from vitrail.faithfulness.imputers import Hiding
from vitrail.faithfulness.magnitude import saco_scores, sensitivity_n_scores

BLACK = Hiding(imputer="black", black=(0.0, 0.0, 0.0))
TARGETS = np.ones(5, dtype=int)


def test_a_linear_models_own_shares_correlate_fully_and_reversed_ones_negatively(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, 3 * perfect, -perfect, np.ones_like(perfect)])
    found = sensitivity_n_scores(model, images, maps=maps, targets=TARGETS, hiding=BLACK)
    assert found[:2] == pytest.approx(1)
    assert found[2] == pytest.approx(-1)
    assert found[3] == pytest.approx(0)


def test_saco_is_one_for_the_right_order_and_minus_one_for_the_reversed(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, -perfect, np.ones_like(perfect)])
    found = saco_scores(model, images, maps=maps, targets=TARGETS, groups=4, hiding=BLACK)
    assert found[0].min() > 0.5
    assert found[1].max() < 0
    assert found[2] == pytest.approx(0)


def test_saco_sees_no_factor(linear):
    model, images, perfect = linear
    maps = np.stack([perfect, 100 * perfect])
    found = saco_scores(model, images, maps=maps, targets=TARGETS, hiding=BLACK)
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("groups", [3, 5])
def test_saco_does_not_take_the_size_of_a_group_for_its_salience(linear, groups):
    model, images, perfect = linear
    constant = np.full_like(perfect, -0.7)
    maps = np.stack([perfect, perfect - 5, perfect + 5, constant])
    found = saco_scores(model, images, maps=maps, targets=TARGETS, groups=groups, hiding=BLACK)
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])
    assert found[3] == pytest.approx(0)
