import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from vitrail.data.dicom import list_series, read_series
from vitrail.data.volume import reorient
from vitrail.errors import DataError, UnreadableFileError


@pytest.fixture
def series(tmp_path):
    """Write five slices in shuffled names; slice z holds the value z everywhere."""
    uid = generate_uid()
    for number, z in enumerate([3, 0, 4, 1, 2]):
        write(tmp_path / f"{number}.dcm", z, uid=uid)
    (tmp_path / "notes.txt").write_text("no DICOM")
    return tmp_path


def write(path, z, *, uid, **tags):
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    source.SeriesInstanceUID = uid
    source.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    source.ImagePositionPatient = [-10, -20, 2.5 * z]
    source.PixelSpacing = [0.8, 0.6]
    source.RescaleSlope, source.RescaleIntercept = 2, -1000
    source.PixelData = np.full((128, 128), z, dtype=np.int16).tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(source, name)
        else:
            setattr(source, name, value)
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    source.save_as(path)


def test_slices_are_sorted_by_their_place_and_rescaled(series):
    volume = read_series(series)
    assert volume.values.shape == (5, 128, 128)
    assert volume.values[:, 0, 0].tolist() == [-1000, -998, -996, -994, -992]
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.8, 0.6))
    assert volume.orientation == "SPL"
    np.testing.assert_allclose(volume.to_mm(np.array([[2.0, 10, 5]])), [[-7, -12, 5]])


def test_monochrome1_is_turned_over_before_rescaling(series):
    for path in series.glob("*.dcm"):
        header = pydicom.dcmread(path)
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME1", 0
        header.BitsStored, header.HighBit = 12, 11
        header.save_as(path)
    assert read_series(series).values[:, 0, 0].tolist() == [7190, 7188, 7186, 7184, 7182]


def test_of_several_series_one_must_be_chosen(series):
    other = generate_uid()
    for z in range(2):
        write(series / f"other{z}.dcm", z, uid=other)
    assert sorted(len(paths) for paths in list_series(series).values()) == [2, 5]
    with pytest.raises(DataError, match="one series is read at a time"):
        read_series(series)
    assert len(read_series(series, series=other).values) == 2


def test_a_missing_slice_is_named_by_its_neighbors(series):
    (series / "4.dcm").unlink()
    with pytest.raises(DataError, match=r"3\.dcm to 0\.dcm: 5\.000 mm"):
        read_series(series)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"ImagePositionPatient": [-10, -20, 10]}, "no place is held twice"),
        ({"ImagePositionPatient": [-4, -20, 12.5]}, "gantry tilt"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "orientation"),
        ({"PixelSpacing": [0.9, 0.6]}, "pixel spacing"),
        ({"PixelSpacing": None}, r"5\.dcm: \(0028,0030\) PixelSpacing is missing"),
        ({"ImagePositionPatient": None}, r"\(0020,0032\) ImagePositionPatient is missing"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"PixelData": b"\0\0" * 99}, r"5\.dcm: its pixels cannot be decoded"),
    ],
)
def test_a_slice_that_does_not_fit_is_named(series, tags, message):
    uid = next(iter(list_series(series)))
    place = {"ImagePositionPatient": [-10, -20, 12.5], **tags}
    write(series / "5.dcm", 5, uid=uid, **place)
    with pytest.raises((DataError, UnreadableFileError), match=message):
        read_series(series)


def test_a_folder_without_dicom_files_is_refused(tmp_path):
    with pytest.raises(DataError, match="DICOM series: none"):
        read_series(tmp_path)


@pytest.mark.shared
def test_a_real_series_with_shuffled_names_is_put_in_order(shared):
    volume = read_series(shared / "data" / "lung_ct_dicom")
    assert volume.values.shape == (34, 512, 512)
    np.testing.assert_allclose(volume.spacing_mm, (1.0, 0.759765625, 0.759765625))
    np.testing.assert_allclose(volume.affine[2, 3], -5.5)
    assert volume.orientation == "SPL"
    assert volume.values.min() < -950
    # Neighbors look alike where the order is right.
    coarse = volume.values[:, ::8, ::8]
    near = np.abs(np.diff(coarse, axis=0)).mean()
    far = np.abs(coarse[10:] - coarse[:-10]).mean()
    assert near < 0.5 * far
    assert reorient(volume).orientation == "SAR"
