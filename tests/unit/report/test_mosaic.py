import numpy as np
import pytest
from PIL import Image

from vitrail.records import Preprocessing
from vitrail.report.mosaic import patch_mosaic


def input_of(rows, columns, fit="squash"):
    return Preprocessing(
        image_size=(rows, columns), channels=3, fit=fit, mean=(0.0,) * 3, std=(1.0,) * 3, fill=0.5
    )


@pytest.mark.parametrize(("rows", "columns", "patch"), [(32, 48, 16), (36, 40, 8), (64, 64, 32)])
def test_every_whole_patch_is_shown_unchanged_with_a_real_gap_around_it(rows, columns, patch):
    pixels = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    drawn = np.asarray(
        patch_mosaic(
            Image.fromarray(pixels), preprocessing=input_of(rows, columns), patch_px=patch, gap_px=2
        )
    )
    down, across = rows // patch, columns // patch
    assert drawn.shape == (down * (patch + 2) - 2, across * (patch + 2) - 2, 4)
    shown = np.zeros(drawn.shape[:2], dtype=bool)
    for row in range(down):
        for column in range(across):
            place = np.s_[row * (patch + 2) :, column * (patch + 2) :]
            piece = drawn[place][:patch, :patch]
            expected = pixels[row * patch :, column * patch :][:patch, :patch]
            np.testing.assert_array_equal(piece[..., :3], expected)
            shown[place][:patch, :patch] = True
    np.testing.assert_array_equal(drawn[..., 3] == 255, shown)
    assert (drawn[~shown] == 0).all()


def test_a_padded_picture_lies_where_the_model_has_it():
    white = Image.new("L", (40, 20), 255)
    drawn = np.asarray(
        patch_mosaic(white, preprocessing=input_of(32, 32, "pad"), patch_px=8, gap_px=1)
    )
    patches = [drawn[9 * row + 4, 4, 0] for row in range(4)]
    assert patches == [128, 255, 255, 128]
