import shutil

import numpy as np
import pytest

from vitrail.data.audit import audit
from vitrail.data.cohort import read_folder
from vitrail.data.manifest import read_manifest
from vitrail.data.scan import find_scans, is_scan, read_scan, scan_name
from vitrail.data.thorax import chest_volumes
from vitrail.data.volume import Volume, write_nifti
from vitrail.errors import DataError, ManifestError


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """Return a generated cohort of eight tiny chests, never to be changed."""
    folder = tmp_path_factory.mktemp("chests")
    chest_volumes(folder, cases=8, seed=1, shape=(10, 32, 32), spacing_mm=(6.0, 6.0, 6.0))
    return folder


@pytest.fixture
def folders(chests, tmp_path):
    """Return two class folders of two DICOM series each, and a NIfTI file."""
    root = tmp_path / "root"
    for number in range(4):
        name = f"CHEST000{number}"
        shutil.copytree(chests / "series" / name, root / "ab"[number % 2] / f"scan 1.{number} ü")
    write_nifti(root / "a" / "x.nii.gz", Volume(np.ones((9, 8, 8), dtype=np.float32), np.eye(4)))
    return root


def test_a_manifest_names_series_by_their_folders_and_masks_by_their_files(chests):
    cohort = read_manifest(chests / "manifest.csv")
    assert len(cohort) == 8
    case = cohort.cases[0]
    assert (case.case_id, case.patient_id) == ("series/CHEST0000", "CHEST0000")
    assert case.mask == "masks/CHEST0000.nii.gz"


def test_class_folders_hold_series_and_volume_files(folders):
    cohort = read_folder(folders)
    assert [case.case_id for case in cohort] == [
        "a/scan 1.0 ü",
        "a/scan 1.2 ü",
        "a/x",
        "b/scan 1.1 ü",
        "b/scan 1.3 ü",
    ]
    patients = {case.case_id: case.patient_id for case in cohort}
    assert patients["b/scan 1.3 ü"] == "CHEST0003"
    assert patients["a/x"] == ""


def test_masks_mirror_series_and_volume_files(folders, chests):
    (folders / "masks" / "a").mkdir(parents=True)
    for name, source in (("scan 1.0 ü", "CHEST0000"), ("x", "CHEST0001")):
        shutil.copy(chests / "masks" / f"{source}.nii.gz", folders / "masks/a" / f"{name}.nii.gz")
    masks = {case.case_id: case.mask for case in read_folder(folders)}
    assert masks["a/scan 1.0 ü"] == "masks/a/scan 1.0 ü.nii.gz"
    assert masks["a/x"] == "masks/a/x.nii.gz"
    assert masks["a/scan 1.2 ü"] == ""


def test_of_a_folder_with_two_series_each_is_a_case(folders):
    for path in sorted((folders / "a" / "scan 1.2 ü").iterdir()):
        path.rename(folders / "a" / "scan 1.0 ü" / f"other {path.name}")
    (folders / "a" / "scan 1.2 ü").rmdir()
    cases = [case for case in read_folder(folders) if "scan" in case.path and case.label == "a"]
    assert sorted(case.patient_id for case in cases) == ["CHEST0000", "CHEST0002"]
    shapes = [read_scan(folders / case.path).values.shape for case in cases]
    assert shapes == [(10, 32, 32)] * 2


def test_dicom_files_beside_class_folders_are_refused(folders):
    shutil.copy(next((folders / "b" / "scan 1.1 ü").iterdir()), folders / "loose")
    with pytest.raises(DataError, match="DICOM files in no class folder"):
        read_folder(folders)


def test_a_manifests_path_to_nothing_is_refused(chests, tmp_path):
    text = (chests / "manifest.csv").read_text().replace("series/CHEST0003,", "series/none,")
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ManifestError, match="no file 'series/none'"):
        read_manifest(tmp_path / "bad.csv", root=chests)


def test_the_audit_names_what_no_volume_can_be_made_of(folders, chests):
    masks = folders / "masks" / "b"
    masks.mkdir(parents=True)
    volume = read_scan(folders / "b" / "scan 1.1 ü")
    empty = Volume(volume.values * 0, volume.affine)
    write_nifti(masks / "scan 1.1 ü.nii.gz", empty)
    write_nifti(masks / "scan 1.3 ü.nii.gz", Volume(empty.values[1:], empty.affine))
    found = audit(read_folder(folders))
    reasons = {one.case_id: one.reason for one in found.unreadable}
    assert "an empty mask" in reasons["b/scan 1.1 ü"]
    assert "9 x 32 x 32 voxels" in reasons["b/scan 1.3 ü"]
    assert found.fingerprint["volumes"]["cases"] == 3
    assert found.fingerprint["volumes"]["modalities"] == {"CT": 2, "unknown": 1}


def test_one_broken_file_costs_its_own_folder_and_not_the_cohort(folders, chests, tmp_path):
    (folders / "a" / "scan 1.0 ü" / "9.dcm").write_bytes(b"")
    for path in (folders / "b" / "scan 1.1 ü").iterdir():
        path.write_bytes(path.read_bytes()[:140] + b"\xff" * 99)
    cohort = read_folder(folders)
    reasons = {one.case_id: one.reason for one in audit(cohort).unreadable}
    assert sorted(reasons) == ["a/scan 1.0 ü", "b/scan 1.1 ü"]
    assert "9.dcm: 0 bytes that are not DICOM" in reasons["a/scan 1.0 ü"]
    rows = "".join(f"root/{case.path},{case.label}\n" for case in cohort)
    (tmp_path / "manifest.csv").write_text("path,label\n" + rows)
    assert len(read_manifest(tmp_path / "manifest.csv")) == len(cohort)


def test_pictures_beside_dicom_files_are_left_out_and_counted(folders, caplog):
    shutil.copy(folders / "a" / "x.nii.gz", folders / "b" / "scan 1.1 ü")
    assert len(read_folder(folders)) == 5
    assert "1 pictures or volumes beside DICOM files were left out" in caplog.text


def test_two_chests_are_not_near_duplicates_but_a_copy_under_other_names_is_one(folders):
    copy = folders / "a" / "copy"
    shutil.copytree(folders / "a" / "scan 1.0 ü", copy)
    for number, path in enumerate(sorted(copy.iterdir())):
        path.rename(copy / f"{number}.dcm")
    pairs = [
        (pair.kind, pair.first, pair.second) for pair in audit(read_folder(folders)).duplicates
    ]
    assert pairs == [("exact", "a/copy", "a/scan 1.0 ü")]


def test_scans_are_found_below_a_folder(folders):
    found = [path.relative_to(folders).as_posix() for path in find_scans(folders)]
    assert found == ["a/x.nii.gz", "a/scan 1.0 ü", "a/scan 1.2 ü", "b/scan 1.1 ü", "b/scan 1.3 ü"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.nii.gz", "a/b"), ("a/B.NRRD", "a/B"), ("a/1.2.3", "a/1.2.3"), ("a/x.dcm", "a/x")],
)
def test_a_scans_name_loses_the_ending_of_its_format_alone(path, name):
    assert scan_name(path) == name


def test_pictures_and_texts_are_no_scans(tmp_path):
    (tmp_path / "notes").write_text("text")
    assert not is_scan(tmp_path / "notes")
    assert not is_scan(tmp_path / "a.png")
    with pytest.raises(DataError, match="nothing there"):
        read_scan(tmp_path / "absent")
