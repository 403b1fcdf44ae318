"""Volumes through every verb: DICOM series with masks in, a report and maps over the scans out."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from vitrail.data.cohort import load_cohort
from vitrail.data.scan import read_scan
from vitrail.data.thorax import chest_volumes
from vitrail.data.volume import read_image, require_same_grid
from vitrail.runfolder import RunFolder, read_csv, read_json

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def original(tmp_path_factory, succeed):
    """Return a finished run on tiny generated chests, one of them without one of its slices."""
    scans = tmp_path_factory.mktemp("chests")
    manifest = chest_volumes(
        scans, cases=21, seed=3, shape=(12, 40, 40), spacing_mm=(5.0, 5.0, 5.0)
    )
    series = sorted((scans / "series" / "CHEST0000").iterdir())
    heights = {path: read_height(path) for path in series}
    sorted(series, key=heights.get)[5].unlink()
    folder = RunFolder(scans / "run")
    succeed("inspect", scans, "--manifest", manifest, "--out", folder.root)
    succeed("plan", folder.root, "--budget", "60m")
    plan = yaml.safe_load(folder.plan.read_text())
    plan["epochs"]["value"] = plan["baseline_epochs"]["value"] = 1
    plan["baseline"]["value"] = "resnet10t"
    plan["baseline_parameters"]["value"] = {"channels": [8, 8, 8, 8], "stem_width": 8}
    plan["image_size"]["value"] = [48, 48]
    plan["volume"]["value"]["tile_px"] = 16
    plan["model_parameters"]["value"] |= {"embed_dim": 32, "depth": 2, "num_heads": 2}
    folder.plan.write_text(yaml.safe_dump(plan))
    succeed("run", scans, "--manifest", manifest, "--out", folder.root)
    return folder


def read_height(path):
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]


def test_the_incomplete_series_is_named_counted_and_left_out(run):
    audit = read_json(run.audit)
    assert audit["cases"] == 21
    (left_out,) = audit["unreadable"]
    assert left_out["case_id"] == "series/CHEST0000"
    assert "where 5.000 mm is usual" in left_out["reason"]


def test_the_audit_says_what_the_volumes_are(run):
    seen = read_json(run.audit)["fingerprint"]["volumes"]
    assert seen["modalities"] == {"CT": 20}
    assert seen["slices"] == {"min": 12.0, "median": 12.0, "max": 12.0}
    assert seen["spacing_mm"]["slice"]["median"] == pytest.approx(5.0)


def test_every_map_lies_over_its_scan(run):
    cohort = load_cohort(run.cohort)
    maps = sorted(run.explanations.glob("*.nii.gz"))
    assert len(maps) == len(list(run.explanations.glob("*.npz"))) > 0
    for path in maps:
        about = read_json(path.with_name(path.name.replace(".nii.gz", ".json")))["extra"]
        (case,) = [case for case in cohort if case.case_id == about["case_id"]]
        scan, heat = read_scan(cohort.root / case.path), read_image(path)
        require_same_grid(scan, heat)
        assert nibabel.load(path).shape == scan.values.shape[::-1]
        # Only the slices that the picture showed have evidence (orientation SPL: z upwards).
        heights = np.flatnonzero(heat.values.any(axis=(1, 2))) + 1
        assert set(heights) <= set(about["volume"]["slices"])


def test_the_report_and_the_pictures_are_there(run):
    assert run.report.read_text().lstrip().startswith("<!")
    assert list(run.pictures.glob("*.mask.png"))


def test_a_new_scan_is_labelled_and_its_map_written(run, tmp_path, succeed, refused):
    scans = load_cohort(run.cohort).root
    shutil.copytree(scans / "series" / "CHEST0001", tmp_path / "CHEST0001")
    shutil.copy(scans / "masks" / "CHEST0001.nii.gz", tmp_path / "CHEST0001.mask.nii.gz")
    said = succeed("predict", run.root, tmp_path / "CHEST0001", "--out", tmp_path / "new")
    (row,) = said["predictions"]
    assert sum(row["probabilities"].values()) == pytest.approx(1)
    assert len(list((tmp_path / "new").glob("*.map.nii.gz"))) == 1
    assert "no mask" in refused("predict", run.root, scans / "series" / "CHEST0002")


def test_one_scan_without_labels_is_described(run, tmp_path, succeed):
    scans = load_cohort(run.cohort).root
    said = succeed("inspect", scans / "series" / "CHEST0001", "--out", tmp_path / "look")
    (row,) = said["scans"]
    assert row["shape"] == [12, 40, 40]
    assert row["modality"] == "CT"
    assert len(list((tmp_path / "look" / "pictures").iterdir())) == 1


def test_folders_of_series_a_class_are_an_external_set(run, tmp_path, succeed):
    listed = chest_volumes(
        tmp_path / "drawn", cases=6, seed=8, shape=(12, 40, 40), spacing_mm=(5.0, 5.0, 5.0)
    )
    other = tmp_path / "other"
    for row in read_csv(listed):
        for key, folder in (("path", other), ("mask", other / "masks")):
            place = folder / row["label"] / Path(row[key]).name
            place.parent.mkdir(parents=True, exist_ok=True)
            (listed.parent / row[key]).rename(place)
    succeed("evaluate", run.root, "--external", other)
    found = read_json(run.evaluation)["sets"]["external"]
    assert {one["accuracy"]["n"] for one in found.values()} == {6}


@pytest.mark.shared
def test_a_real_series_with_shuffled_names_is_described(shared, tmp_path, succeed):
    said = succeed("inspect", shared / "data" / "lung_ct_dicom", "--out", tmp_path / "look")
    (row,) = said["scans"]
    assert (row["shape"], row["modality"], row["orientation"]) == ([34, 512, 512], "CT", "SPL")
    assert row["spacing_mm"] == pytest.approx([1.0, 0.759765625, 0.759765625])
    assert row["first_voxel_mm"][2] == pytest.approx(-5.5)
    assert (row["window"], row["range"]) == ("lung", [-1024.0, 3071.0])
