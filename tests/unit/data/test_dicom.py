import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

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


@pytest.mark.parametrize(
    ("modality", "values"),
    [("MR", [7190, 7188, 7186, 7184, 7182]), ("CT", [-1000, -998, -996, -994, -992])],
)
def test_monochrome1_is_turned_over_except_hounsfield_units(series, modality, values):
    for path in series.glob("*.dcm"):
        header = pydicom.dcmread(path)
        header.Modality = modality
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME1", 0
        header.BitsStored, header.HighBit = 12, 11
        header.save_as(path)
    assert read_series(series).values[:, 0, 0].tolist() == values


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
        ({"PixelSpacing": [0.8]}, "PixelSpacing holds 1 numbers instead of 2"),
        (
            {"NumberOfFrames": 3},
            r"5\.dcm: \(0020,9113\) PlanePositionSequence is missing for frame 1",
        ),
        ({"RescaleIntercept": None}, r"5\.dcm: \(0028,1052\) RescaleIntercept is missing"),
        ({"SamplesPerPixel": 3}, r"\(0028,0002\) SamplesPerPixel is 3"),
        ({"RescaleSlope": None}, r"5\.dcm: \(0028,1053\) RescaleSlope is missing"),
        ({"RescaleSlope": 0}, r"5\.dcm: \(0028,1053\) RescaleSlope is 0"),
        (
            {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
            r"\(0020,0037\) ImageOrientationPatient is",
        ),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two directions of length 1 at"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "two directions of length 1 at"),
        ({"PixelSpacing": [0, 0]}, r"\(0028,0030\) PixelSpacing is \[0\.0, 0\.0\]"),
        ({"PixelSpacing": [0.8, -0.6]}, "distances are above 0"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"\(0028,0004\) .* is PALETTE COLOR"),
        ({"PhotometricInterpretation": None}, r"PhotometricInterpretation is missing"),
        ({"BitsStored": 12, "HighBit": 15}, r"\(0028,0102\) HighBit is 15; .* in the lowest bits"),
        ({"ModalityLUTSequence": [Dataset()]}, r"\(0028,3000\) ModalityLUTSequence is a table"),
        ({"PatientID": "another"}, r"\(0010,0020\): one series of 2 patients"),
        ({"Rows": 65535, "Columns": 65535}, "4294836225 pixels; at most"),
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


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("syntax", ["JPEG", "JPEG2000", "RLE"])
def test_compressed_slices_come_back_bit_by_bit(tmp_path, syntax, dtype):
    uid, generator = generate_uid(), np.random.default_rng(0)
    low, high = (-2000, 3000) if dtype is np.int16 else (0, 65535)
    stored = generator.integers(low, high, size=(3, 128, 128), dtype=dtype)
    for z, values in enumerate(stored):
        path = tmp_path / f"{z}.dcm"
        write(path, z, uid=uid, PixelData=values.tobytes(), PixelRepresentation=dtype is np.int16)
        compress(path, values, syntax=syntax)
    volume = read_series(tmp_path)
    np.testing.assert_array_equal(volume.values, stored * 2.0 - 1000)


def compress(path, values, *, syntax):
    """Put the pixels into another transfer syntax; GDCM writes what pydicom cannot."""
    dataset = pydicom.dcmread(path)
    if syntax == "RLE":
        dataset.compress(RLELossless, values, generate_instance_uid=False)
    else:
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(path.with_suffix(".tmp.dcm")))
        writer.SetCompressor(syntax)
        writer.UseCompressionOn()
        writer.Execute(SimpleITK.GetImageFromArray(values[None]))
        coded = pydicom.dcmread(path.with_suffix(".tmp.dcm"))
        path.with_suffix(".tmp.dcm").unlink()
        dataset["PixelData"] = coded["PixelData"]
        dataset.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
    assert dataset.file_meta.TransferSyntaxUID.is_encapsulated
    dataset.save_as(path)


def test_an_enhanced_object_is_sorted_by_its_frames_places(tmp_path):
    enhance(tmp_path / "all.dcm", places=[2, 0, 1], slopes=[1, 2, 3])
    volume = read_series(tmp_path)
    # Frame f holds 10 f everywhere; its own slope and intercept apply.
    assert volume.values[:, 0, 0].tolist() == [20 - 1000, 60 - 1000, 0 - 1000]
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.8, 0.6))
    assert volume.modality == "CT"


def test_an_enhanced_object_with_two_frames_at_one_place_names_the_frame(tmp_path):
    enhance(tmp_path / "all.dcm", places=[0, 1, 1], slopes=[1, 1, 1])
    with pytest.raises(DataError, match=r"all\.dcm frame 3.*no place is held twice"):
        read_series(tmp_path)


def enhance(path, *, places, slopes):
    """Write one enhanced multi-frame CT object."""
    write(path, 0, uid=generate_uid(), SOPClassUID=EnhancedCTImageStorage)
    dataset = pydicom.dcmread(path)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    plane, pixel = Dataset(), Dataset()
    plane.ImageOrientationPatient, pixel.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.8, 0.6]
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [pixel]
    frames = []
    for place, slope in zip(places, slopes, strict=True):
        position, scale, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.5 * place]
        scale.RescaleSlope, scale.RescaleIntercept = slope, -1000
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [scale]
        frames.append(frame)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(places)
    values = np.arange(len(places), dtype=np.int16)[:, None, None] * 10
    dataset.PixelData = np.broadcast_to(values, (len(places), 128, 128)).tobytes()
    dataset.save_as(path)


def test_an_oblique_series_keeps_its_direction(series):
    cos, sin = np.cos(0.3), np.sin(0.3)
    normal = np.array([0, -sin, cos])
    for path in series.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        z = dataset.ImagePositionPatient[2]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, cos, sin]
        dataset.ImagePositionPatient = (z * normal).tolist()
        dataset.save_as(path)
    volume = read_series(series)
    np.testing.assert_allclose(volume.spacing_mm, (2.5, 0.8, 0.6), rtol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 0], 2.5 * normal, atol=1e-6)
    assert volume.orientation == "SPL"


def test_files_without_an_ending_are_found_and_other_objects_passed_over(series):
    for path in sorted(series.glob("*.dcm")):
        path.rename(path.with_name(f"IM{path.stem} ü"))
    report = pydicom.dcmread(get_testdata_file("reportsi.dcm", download=False))
    report.save_as(series / "report.dcm")
    assert len(read_series(series).values) == 5


@pytest.mark.parametrize("content", [b"", b"PNG of another world"])
def test_a_file_that_claims_to_be_dicom_is_not_passed_over(series, content):
    (series / "9.dcm").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"9\.dcm: {len(content)} bytes that are not"):
        read_series(series)


def test_a_truncated_file_is_named(series):
    content = (series / "2.dcm").read_bytes()
    (series / "2.dcm").write_bytes(content[:-5000])
    with pytest.raises(UnreadableFileError, match=r"2\.dcm: its pixels cannot be decoded"):
        read_series(series)


@pytest.mark.parametrize("kept", [150, 700])
def test_a_file_cut_within_its_header_is_not_passed_over(series, kept):
    content = (series / "2.dcm").read_bytes()
    (series / "2.dcm").write_bytes(content[:kept])
    with pytest.raises(
        UnreadableFileError, match=r"2\.dcm: (its header|\(0028,0010\) Rows is mis)"
    ):
        read_series(series)


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
