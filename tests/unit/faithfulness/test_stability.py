"""Maps carried back."""

import numpy as np
import pytest
import torch

from vitrail.faithfulness.stability import stability

TARGETS = np.zeros(3, dtype=int)


@pytest.fixture
def images():
    return torch.randn(3, 1, 24, 32, generator=torch.Generator().manual_seed(0))


def means(model, images, *, targets):
    return torch.nn.functional.avg_pool2d(images[:, 0], 8).double().numpy()


def places(model, images, *, targets):
    return np.broadcast_to(np.arange(12.0).reshape(3, 4), (len(images), 3, 4)).copy()


def test_a_map_that_moves_with_the_picture_is_stable(images):
    found = stability(torch.nn.Identity(), images, method=means, targets=TARGETS)
    assert found.stability_score == pytest.approx(1, abs=0.02)
    assert found.max_sensitivity_error.max() < 0.2


def test_a_map_that_stays_while_the_picture_moves_is_not(images):
    found = stability(torch.nn.Identity(), images, method=places, targets=TARGETS)
    assert found.stability_score.max() < 0.96
    assert found.max_sensitivity_error.min() > 0.2


def test_noise_depends_on_the_pictures_place_alone(images):
    whole = stability(torch.nn.Identity(), images, method=means, targets=TARGETS)
    one = stability(torch.nn.Identity(), images[:1], method=means, targets=TARGETS[:1])
    assert one.max_sensitivity_error[0] == pytest.approx(whole.max_sensitivity_error[0])
