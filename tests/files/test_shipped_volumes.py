"""pydicom's and nibabel's own files, each with what must come out: a volume, or the reason why not.

Where the voxels lie and what they hold is also compared with the shipping library's own reading.
"""

import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest

from vitrail.data.dicom import read_series
from vitrail.data.scan import read_scan
from vitrail.errors import DataError

PYDICOM = Path(pydicom.data.__file__).parent / "test_files"
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
HEADERS = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"

# path · shape · spacing_mm · orientation · first voxel in mm, LPS · first and middle value
VOLUMES = [
    ("dicomdirtests/98892001/CT5N", (5, 16, 16), (2.5, 0.488281, 0.488281), "SPL",
     (-72.199997, -143.0, -1.238), (-33, 44)),
    ("anatomical.nii", (25, 41, 33), (2, 2, 2), "SAL", (-32, 40, -16), (10712, 11881)),
    ("standard.nii.gz", (7, 5, 4), (2, 3, 1), "SAR", (0, 0, 0), (0, 0)),
    ("reoriented_anat_moved.nii", (22, 26, 21), (4, 4, 4), "SAR",
     (35.298, 47.978, -27.599), (0, 8117.22)),
]  # fmt: skip

REFUSED = [
    ("dicomdirtests/77654033/CT2", "17106 to 17136: 202.500 mm where 1.250 mm is usual"),
    ("dicomdirtests/77654033/CR1", r"\(0020,0037\) ImageOrientationPatient is missing"),
    ("dicomdirtests/98892001/CT2N", r"orientation, pixel spacing or size differs from 6924's"),
    ("dicomdirtests/98892003/MR1", "one series is read at a time"),
    ("dicomdirtests/98892003/MR700", "all slices of a volume lie alike"),
    ("dicomdirtests/98892003/MR700/4467", "all slices of a volume lie alike"),
    ("CT_small.dcm", "it is alone; a volume has two slices at least"),
    ("rtdose.dcm", r"\(0020,9113\) PlanePositionSequence is missing for frame 1"),
    ("examples_rgb_color.dcm", r"\(0028,0002\) SamplesPerPixel is 3"),
    ("no_meta.dcm", "38871 bytes that are not DICOM"),
    ("example4d.nii.gz", r"4 axes, the fourth \(time or series\) of 2;"),
    ("functional.nii", r"4 axes, the fourth \(time or series\) of 20;"),
    ("resampled_anat_moved.nii", "153 voxels of NaN or infinity"),
    ("example_nifti2.nii.gz", "a NIfTI-2 file"),
]


def located(name, tmp_path):
    """Return a shipped file or folder; a DICOM file alone, as some stand among broken ones."""
    for root in (PYDICOM, NIBABEL):
        path = root / name
        if path.is_file() and path.suffix == ".dcm":
            return Path(shutil.copy(path, tmp_path))
        if path.exists():
            return path
    return pytest.fail(f"{name} is not shipped any more")


@pytest.mark.parametrize(
    ("name", "shape", "spacing_mm", "orientation", "first_mm", "values"),
    VOLUMES,
    ids=[row[0] for row in VOLUMES],
)
def test_a_volume_comes_out(tmp_path, name, shape, spacing_mm, orientation, first_mm, values):
    volume = read_scan(located(name, tmp_path))
    assert volume.values.shape == shape
    np.testing.assert_allclose(volume.spacing_mm, spacing_mm, rtol=1e-4)
    assert volume.orientation == orientation
    np.testing.assert_allclose(volume.affine[:3, 3], first_mm, atol=1e-3)
    middle = tuple(count // 2 for count in shape)
    got = volume.values[0, 0, 0], volume.values[middle]
    np.testing.assert_allclose(got, values, rtol=1e-5)


@pytest.mark.parametrize(("name", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_no_volume_is_refused_with_its_reason(tmp_path, name, reason):
    with pytest.raises(DataError, match=reason):
        read_scan(located(name, tmp_path))


def test_two_slices_of_a_siemens_series_are_one_volume(tmp_path):
    for name in ("0.dcm", "1.dcm"):
        shutil.copy(NIBABEL / name, tmp_path)
    volume = read_series(tmp_path)
    assert volume.values.shape == (2, 256, 256)
    np.testing.assert_allclose(volume.spacing_mm, (3, 1.796875, 1.796875), rtol=1e-4)
    assert volume.modality == "MR"


def test_a_philips_enhanced_object_is_one_volume(tmp_path):
    packed = (HEADERS / "philips_mprage.dcm.gz").read_bytes()
    (tmp_path / "mprage.dcm").write_bytes(gzip.decompress(packed))
    volume = read_series(tmp_path)
    assert volume.values.shape == (176, 256, 256)
    assert volume.orientation == "RIP"
    np.testing.assert_allclose(volume.spacing_mm, (1, 1, 1), atol=1e-3)


@pytest.mark.parametrize("name", ["anatomical.nii", "reoriented_anat_moved.nii", "standard.nii.gz"])
def test_every_voxel_lies_where_nibabel_says(name):
    volume, foreign = read_scan(NIBABEL / name), nibabel.load(NIBABEL / name)
    corners = np.argwhere(np.ones((2, 2, 2))) * (np.array(volume.values.shape) - 1.0)
    # nibabel counts (column, row, slice) and points to the right and front.
    places = nibabel.affines.apply_affine(foreign.affine, corners[:, ::-1]) * [-1, -1, 1]
    np.testing.assert_allclose(volume.to_mm(corners), places, atol=1e-3)
    np.testing.assert_allclose(volume.values, foreign.get_fdata().T, rtol=1e-5)


def test_a_series_holds_what_pydicom_says_slice_by_slice():
    volume = read_scan(PYDICOM / "dicomdirtests/98892001/CT5N")
    files = [pydicom.dcmread(path) for path in (PYDICOM / "dicomdirtests/98892001/CT5N").iterdir()]
    files.sort(key=lambda file: float(file.ImagePositionPatient[2]))
    for index, file in enumerate(files):
        np.testing.assert_array_equal(
            volume.values[index],
            file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept),
        )
        place = volume.to_mm(np.array([[float(index), 0.0, 0.0]]))[0]
        np.testing.assert_allclose(place, file.ImagePositionPatient, atol=0.02)
