"""Decoding happens in a process that may use little."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vitrail.data.montage import make_stack
from vitrail.data.scan import read_scan
from vitrail.errors import UnreadableFileError
from vitrail.records import VolumeView
from vitrail.web import decode as decoding
from vitrail.web.decode import decode


def test_a_picture_comes_back_as_it_is_stored(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(pixels).save(tmp_path / "picture", format="PNG")
    np.testing.assert_array_equal(decode(tmp_path / "picture").pictures, pixels[None, None])


def test_a_dicom_slice_comes_back_in_hounsfield_units_with_what_made_it(tmp_path, dicom_slice):
    found = decode(dicom_slice(tmp_path / "picture"))
    assert found.pictures.shape == (1, 1, 8, 6)
    assert (found.pictures == 40).all()
    assert found.facts == {"modality": "CT"}


def test_a_series_comes_back_as_the_pictures_of_its_windows(tmp_path, dicom_slice):
    for place in range(10):
        dicom_slice(tmp_path / f"{place:05d}", place=place)
    view = VolumeView(window="lung", grid=2, stride=1, tile_px=8, votes=3)
    found = decode(tmp_path, view=view)
    assert found.pictures.shape == (3, 1, 16, 16)
    assert found.facts["modality"] == "CT"
    assert found.facts["slices"] == [4, 5, 6, 7]
    affine = np.array(found.facts["affine_lps_mm"])
    assert affine[2] @ [3, 0, 0, 1] == pytest.approx(6)  # mm of the fourth slice
    expected = make_stack(read_scan(tmp_path), view)
    starts = expected.evaluation_starts()
    np.testing.assert_array_equal(found.pictures, [expected.picture(one) for one in starts])


def test_a_picture_is_refused_where_scans_are_read(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "picture", format="PNG")
    with pytest.raises(UnreadableFileError, match="not DICOM"):
        decode(tmp_path / "picture", view=VolumeView())


def test_a_dicom_without_pixels_is_refused_in_words(tmp_path, dicom_slice):
    with pytest.raises(UnreadableFileError, match=r"[Pp]ixel"):
        decode(dicom_slice(tmp_path / "picture", pixels=False))


def test_a_broken_file_is_refused_in_words_without_its_path(tmp_path):
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UnreadableFileError, match="the picture: ") as caught:
        decode(tmp_path / "picture")
    assert str(tmp_path) not in str(caught.value)


def test_one_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "WAIT_SECONDS", 0.01)
    (tmp_path / "picture").write_bytes(b"x")
    with pytest.raises(UnreadableFileError, match="longer than"):
        decode(tmp_path / "picture")


def test_one_that_needs_too_much_memory_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MEMORY_BYTES", 600 << 20)
    Image.new("RGB", (7000, 7000)).save(tmp_path / "picture", format="PNG", compress_level=1)
    with pytest.raises(UnreadableFileError, match=r"limits|memory|Memory"):
        decode(tmp_path / "picture")


def test_a_decoder_can_write_no_file(tmp_path):
    code = (
        "import sys; from pathlib import Path; from vitrail.web.limits import answer\n"
        f"answer(lambda path: Path({str(tmp_path / 'written')!r}).write_bytes(b'x'), "
        "['x', str(2 << 30)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "written").exists() or not (tmp_path / "written").read_bytes()
