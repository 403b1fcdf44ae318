"""What stands where a patch was."""

import numpy as np
import pytest
import torch

from vitrail.faithfulness.imputers import (
    Hiding,
    blurred,
    composite,
    linear_fill,
    phase_noise,
    replacement,
)


@pytest.fixture
def images():
    return torch.randn(3, 2, 12, 16, generator=torch.Generator().manual_seed(0)).double()


def test_only_hidden_patches_change(images):
    hidden = torch.zeros(3, 3, 4, dtype=torch.bool)
    hidden[:, 1, 2] = True
    changed = composite(images, torch.zeros_like(images), hidden=hidden) != images
    assert changed[..., 4:8, 8:12].all()
    assert changed.sum() == 3 * 2 * 16


def test_noise_keeps_mean_variance_and_spectrum_but_no_place(images):
    noise = phase_noise(images[0], seed=0)
    torch.testing.assert_close(noise.mean(dim=(1, 2)), images[0].mean(dim=(1, 2)))
    torch.testing.assert_close(noise.std(dim=(1, 2)), images[0].std(dim=(1, 2)))
    spectra = [torch.fft.fft2(one).abs() for one in (noise, images[0])]
    torch.testing.assert_close(*spectra)
    assert abs(np.corrcoef(noise.flatten(), images[0].flatten())[0, 1]) < 0.2


def test_noise_depends_on_the_seed_alone(images):
    torch.testing.assert_close(phase_noise(images[0], seed=1), phase_noise(images[0], seed=1))
    assert not torch.equal(phase_noise(images[0], seed=1), phase_noise(images[0], seed=2))


def test_blur_keeps_a_constant_picture_and_smooths_another(images):
    flat = torch.full((1, 2, 12, 16), 0.3).double()
    torch.testing.assert_close(blurred(flat, sigma=(4.0, 4.0)), flat)
    assert blurred(images, sigma=(4.0, 4.0)).std() < images.std() / 3


def test_mean_is_the_color_of_all_pictures_and_black_the_given_value(images):
    mean = replacement(images, grid_size=(3, 4), hiding=Hiding(imputer="mean"))
    torch.testing.assert_close(mean[0, :, 0, 0], images.mean(dim=(0, 2, 3)))
    black = replacement(
        images, grid_size=(3, 4), hiding=Hiding(imputer="black", black=(-1.0, -2.0))
    )
    assert black[1, :, 5, 5].tolist() == [-1, -2]


def test_the_linear_fill_continues_a_ramp():
    ramp = torch.arange(20.0).double().view(1, 1, 1, 20).expand(1, 1, 20, 20).contiguous()
    hidden = torch.zeros(1, 5, 5, dtype=torch.bool)
    hidden[0, 2, 2] = True
    inner = linear_fill(ramp, hidden)[0, 0, 8:12, 8:12]
    torch.testing.assert_close(inner, ramp[0, 0, 8:12, 8:12], atol=1e-2, rtol=0)


def test_the_linear_fill_of_everything_is_the_mean(images):
    filled = linear_fill(images, torch.ones(3, 3, 4, dtype=torch.bool))
    means = images.mean(dim=(2, 3), keepdim=True).expand_as(filled)
    torch.testing.assert_close(filled, means, atol=1e-6, rtol=0)
