"""Decoding happens in a process that may use little."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from vitrail.errors import UnreadableFileError
from vitrail.web import decode as decoding
from vitrail.web.decode import decode


def slice_of(path, *, pixels=True):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    one.SeriesInstanceUID, one.Modality = generate_uid(), "CT"
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.SliceThickness = [1, 1], 1
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.Rows, one.Columns, one.SamplesPerPixel = 8, 6, 1
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.PhotometricInterpretation = "MONOCHROME2"
    if pixels:
        one.PixelData = np.full((8, 6), 1064, dtype=np.uint16).tobytes()
    pydicom.dcmwrite(path, one, enforce_file_format=True)
    return path


def test_a_picture_comes_back_as_it_is_stored(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(pixels).save(tmp_path / "picture", format="PNG")
    np.testing.assert_array_equal(decode(tmp_path / "picture"), pixels[None])


def test_a_dicom_slice_comes_back_in_hounsfield_units(tmp_path):
    found = decode(slice_of(tmp_path / "picture"))
    assert found.shape == (1, 8, 6)
    assert (found == 40).all()


def test_a_dicom_without_pixels_is_refused_in_words(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"[Pp]ixel"):
        decode(slice_of(tmp_path / "picture", pixels=False))


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
