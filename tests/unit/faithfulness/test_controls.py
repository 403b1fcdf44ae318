"""Maps that know nothing of the model."""

import numpy as np
import pytest
import torch

from vitrail.faithfulness.controls import CONTROLS, control_maps


def test_all_four_are_drawn_on_any_grid():
    images = torch.rand(2, 3, 20, 35)
    maps = control_maps(images, (4, 5))
    assert tuple(maps) == CONTROLS
    assert {one.shape for one in maps.values()} == {(2, 4, 5)}


def test_the_center_is_highest_and_symmetric():
    center = control_maps(torch.rand(1, 1, 20, 20), (5, 5))["center"][0]
    assert center.argmax() == 12
    np.testing.assert_allclose(center, center[::-1, ::-1])


def test_edges_lie_where_the_picture_changes():
    images = torch.zeros(1, 1, 16, 16)
    images[..., 8:] = 1.0
    edges = control_maps(images, (4, 4))["edges"][0]
    assert edges[:, 1:3].min() > 0
    assert edges[:, [0, 3]].max() == pytest.approx(0)


def test_a_pictures_random_map_depends_on_seed_and_place_alone():
    images = torch.rand(3, 1, 8, 8)
    whole, one = (control_maps(part, (2, 2), seed=4)["random"] for part in (images, images[:1]))
    np.testing.assert_array_equal(whole[0], one[0])
    assert not np.array_equal(whole[0], whole[1])


def test_the_blurred_map_is_smoother():
    maps = control_maps(torch.rand(2, 1, 64, 64), (16, 16))
    rough, smooth = (np.diff(maps[name], axis=1).std() for name in ("random", "blurred_random"))
    assert smooth < rough / 2
