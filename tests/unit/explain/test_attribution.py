"""An attribution keeps raw values, and says how they become colors."""

import numpy as np
import pytest
import torch

from vitrail.errors import DataError, InputError
from vitrail.explain import Attribution


def one(*, signed=False, count=1):
    return Attribution(
        values=torch.arange(count * 6.0).reshape(count, 2, 3),
        prefix=torch.ones(count, 1),
        classes=torch.zeros(count, dtype=torch.long),
        method="relevance",
        target="predicted",
        parameters={"start_layer": 0},
        image_size=(16, 24),
        signed=signed,
        class_specific=True,
    )


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_saved_is_loaded(tmp_path, count):
    first = one(count=count)
    first.save(tmp_path / "case.npz")
    second = Attribution.load(tmp_path / "case.npz")
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.prefix, second.prefix)
    assert torch.equal(first.classes, second.classes)
    assert (second.method, second.parameters) == ("relevance", {"start_layer": 0})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.json", "case.npz"]


def test_a_single_map_is_stored_by_row_and_column(tmp_path):
    one().save(tmp_path / "case.npz")
    with np.load(tmp_path / "case.npz") as arrays:
        assert arrays["values"].shape == (2, 3)
        assert arrays["image_size"].tolist() == [16, 24]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npz: it cannot be read"):
        Attribution.load(tmp_path / "nowhere.npz")


def test_stretching_to_pixels_keeps_raw_values():
    pixels = one().to_pixels(mode="nearest")
    assert pixels.shape == (1, 16, 24)
    assert float(pixels[0, -1, -1]) == 5.0


def test_the_share_of_prefix_tokens_counts_absolute_scores():
    assert one().prefix_share.tolist() == pytest.approx([1 / 16])


def test_an_overlay_says_how_values_became_colors():
    image = np.zeros((16, 24, 3), dtype=np.uint8)
    assert one().overlay(image).normalization == (
        "colors span 0 to 5 (the map's own largest value)"
    )
    shared = one(signed=True).overlay(image, scale=10.0)
    assert shared.normalization == "colors span -10 to 10, zero in the middle (a given scale)"
    assert shared.picture.shape == (16, 24, 3)


def test_an_overlay_of_several_maps_is_refused():
    with pytest.raises(InputError, match=r"take attribution\[i\]"):
        one(count=2).overlay(np.zeros((4, 4, 3), dtype=np.uint8))
    assert len(one(count=2)[1]) == 1


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_a_file_that_is_cut_or_something_else_is_named(tmp_path, content):
    path = str(tmp_path / "case.npz")
    one().save(path)
    (tmp_path / "case.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"case\.npz: it cannot be read"):
        Attribution.load(path)
