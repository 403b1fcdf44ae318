"""A map lies on the pixels that it is about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitrail.color import colorize
from vitrail.records import Preprocessing
from vitrail.report.pictures import fractions_of, outline, paint, register, wall

GRID = 8


def preprocessing(fit):
    return Preprocessing(image_size=(64, 64), channels=1, fit=fit, mean=(0.5,), std=(0.25,))


def planted(corner):
    """A map that is hot in one corner cell of the *picture*'s part of the grid."""
    values = np.zeros((GRID, GRID))
    values[corner] = 1.0
    return values


@pytest.mark.parametrize("resampling", ["bilinear", "patches"])
@pytest.mark.parametrize(
    ("fit", "size", "cell", "corner"),
    [
        ("squash", (60, 180), (0, 0), (0, 0)),
        ("squash", (60, 180), (7, 7), (-1, -1)),
        ("squash", (180, 60), (0, 7), (0, -1)),
        # A picture twice as wide as high is padded above and below: its first row of pixels lies
        # in the grid's row 2, not in row 0.
        ("pad", (64, 128), (2, 0), (0, 0)),
        ("pad", (64, 128), (5, 7), (-1, -1)),
        ("pad", (128, 64), (0, 2), (0, 0)),
        ("pad", (128, 64), (7, 5), (-1, -1)),
    ],
)
def test_a_hot_corner_cell_lies_on_the_pictures_own_corner(fit, size, cell, corner, resampling):
    lying = register(
        planted(cell),
        preprocessing=preprocessing(fit),
        source_size=size,
        shown_size=size,
        resampling=resampling,
    )
    assert lying.shape == size
    assert lying[corner] == (1.0 if resampling == "patches" else pytest.approx(1.0, abs=0.47))
    toward = lying[:: -1 if corner[0] else 1, :: -1 if corner[1] else 1]
    rows, columns = np.nonzero(toward)
    assert rows.max() < size[0] * 0.4
    assert columns.max() < size[1] * 0.4
    assert toward.max() > 0.9


def test_what_falls_on_the_padding_is_cut_off():
    values = np.zeros((GRID, GRID))
    values[:2] = values[6:] = 1.0
    lying = register(
        values,
        preprocessing=preprocessing("pad"),
        source_size=(64, 128),
        shown_size=(64, 128),
        resampling="patches",
    )
    assert not lying.any()


def test_patches_keep_their_exact_edges_on_a_squashed_picture():
    values = np.arange(GRID * GRID, dtype=float).reshape(GRID, GRID)
    lying = register(
        values,
        preprocessing=preprocessing("squash"),
        source_size=(16, 32),
        shown_size=(16, 32),
        resampling="patches",
    )
    np.testing.assert_array_equal(lying, values.repeat(2, axis=0).repeat(4, axis=1))


@given(
    values=st.lists(st.floats(0, 1), min_size=12, max_size=12),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    fit=st.sampled_from(["squash", "pad"]),
    resampling=st.sampled_from(["bilinear", "patches"]),
)
def test_registration_invents_no_value_beyond_the_maps_own(values, height, width, fit, resampling):
    grid = np.array(values).reshape(3, 4)
    lying = register(
        grid,
        preprocessing=preprocessing(fit),
        source_size=(height, width),
        shown_size=(height, width),
        resampling=resampling,
    )
    assert grid.min() - 1e-12 <= lying.min() <= lying.max() <= grid.max() + 1e-12


def test_bilinear_passes_through_the_centers_of_the_patches():
    values = np.random.default_rng(0).random((GRID, GRID))
    lying = register(
        values,
        preprocessing=preprocessing("squash"),
        source_size=(24, 24),
        shown_size=(24, 24),
    )
    np.testing.assert_allclose(lying[1::3, 1::3], values, atol=1e-12)


def test_a_signed_map_has_its_zero_in_the_middle_of_the_scale():
    places = fractions_of(np.array([[-2.0, 0.0, 2.0]]), largest=2.0, signed=True)
    np.testing.assert_array_equal(places, [[0.0, 0.5, 1.0]])


def test_an_empty_map_stays_at_the_bottom_of_the_scale():
    assert not fractions_of(np.zeros((2, 2)), largest=0.0, signed=False).any()


def test_painting_uses_the_one_color_scale():
    steps = np.linspace(0, 1, 256)[None, :]
    np.testing.assert_array_equal(
        np.asarray(paint(steps, "diverging").convert("RGB")), colorize(steps, "diverging")
    )


def test_the_outline_surrounds_the_mask_and_leaves_it_clear(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[8:12, 10:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    drawn = np.asarray(outline(tmp_path / "mask.png"))[..., 3]
    assert not drawn[8:12, 10:20].any()
    assert drawn[7, 10:20].all()
    assert drawn[8:12, 9].all()
    assert not drawn[:5].any()


def test_the_wall_puts_layers_downward_and_heads_rightward():
    attention = np.zeros((2, 3, 2, 2))
    attention[1, 2, 0, 0] = 1.0
    drawn = np.asarray(wall(attention, largest=1.0, cell_px=2))
    hot = (drawn[..., :3] == colorize(np.ones((1, 1)))[0, 0]).all(axis=-1)
    rows, columns = np.nonzero(hot)
    assert rows.min() > drawn.shape[0] / 2
    assert columns.min() > drawn.shape[1] * 0.6
    assert hot.sum() == 4
