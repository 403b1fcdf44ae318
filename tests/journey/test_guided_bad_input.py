"""Clinical input as it comes: what cannot be used is named and counted, never silently dropped."""

import csv

import numpy as np
import pytest

from vitrail.data.phantom import chest_slices
from vitrail.data.thorax import chest_volumes
from vitrail.data.volume import Volume, read_image, write_nifti
from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


@pytest.fixture
def cohort(tmp_path):
    """Return a folder of eight tiny chests."""
    chest_volumes(tmp_path / "in", cases=8, seed=5, shape=(12, 32, 32), spacing_mm=(6.0, 6.0, 6.0))
    return tmp_path / "in"


def asked(cohort):
    """Return the words that inspect a cohort."""
    return "inspect", cohort, "--manifest", cohort / "manifest.csv", "--out", cohort.parent / "run"


@pytest.fixture
def audited(cohort, succeed):
    """Return a function that inspects the cohort; what was said and the audit."""

    def found():
        said = succeed(*asked(cohort))
        return said, read_json(RunFolder(cohort.parent / "run").audit)

    return found


@pytest.fixture
def left_out(audited):
    """Return a function that gives the one case that the audit leaves out and the summary names."""

    def named():
        said, audit = audited()
        assert (said["cases"], audit["cases"]) == (7, 8)
        (case,) = audit["unreadable"]
        assert any(case["path"] in sentence for sentence in said["summary"])
        return case

    return named


def rewrite(cohort, change):
    """Let a function change the manifest's rows."""
    path = cohort / "manifest.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    change(rows)
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_an_empty_mask_is_named_counted_and_its_case_left_out(cohort, left_out):
    path = cohort / "masks" / "CHEST0003.nii.gz"
    mask = read_image(path)
    write_nifti(path, Volume(np.zeros_like(mask.values), mask.affine, mask.source))
    case = left_out()
    assert case["case_id"] == "series/CHEST0003"
    assert "an empty mask" in case["reason"]


def test_a_mask_of_another_geometry_is_named_counted_and_its_case_left_out(cohort, left_out):
    path = cohort / "masks" / "CHEST0002.nii.gz"
    mask = read_image(path)
    shifted = mask.affine.copy()
    shifted[:3, 3] += 4.0
    write_nifti(path, Volume(mask.values, shifted, mask.source))
    case = left_out()
    assert case["case_id"] == "series/CHEST0002"
    assert "mask" in case["reason"]


def test_a_missing_series_is_refused_by_its_line_and_all_are_counted(cohort, refused):
    def lose(rows):
        rows[1]["path"], rows[4]["path"] = "series/LOST1", "series/LOST2"

    rewrite(cohort, lose)
    said = refused(*asked(cohort))
    assert "no file 'series/LOST1'" in said
    assert "in 2 of 8 rows (lines 3, 6)" in said


def test_missing_labels_are_refused_by_their_lines_and_counted(cohort, refused):
    def forget(rows):
        rows[0]["label"] = rows[5]["label"] = ""

    rewrite(cohort, forget)
    said = refused(*asked(cohort))
    assert "an empty label; the same in 2 of 8 rows (lines 2, 7)" in said


def test_too_few_slices_repeat_the_last_one_and_that_is_recorded(cohort, audited):
    for file in sorted((cohort / "series" / "CHEST0001").iterdir()):
        file.unlink()
    chest_volumes(
        cohort.parent / "short", cases=2, seed=9, shape=(6, 32, 32), spacing_mm=(6.0, 6.0, 6.0)
    )
    (cohort.parent / "short" / "series" / "CHEST0001").rename(cohort / "series" / "CHEST0001b")
    (cohort.parent / "short" / "masks" / "CHEST0001.nii.gz").rename(
        cohort / "masks" / "CHEST0001.nii.gz"
    )

    def shorten(rows):
        rows[1]["path"] = "series/CHEST0001b"

    rewrite(cohort, shorten)
    found, audit = audited()
    assert audit["fingerprint"]["volumes"]["short"] == ["series/CHEST0001b"]
    (said,) = [one for one in found["summary"] if "too few slices" in one]
    assert said.startswith("1 volume has")
    assert "series/CHEST0001b" in said


def test_model_guided_needs_volumes(tmp_path, succeed, refused):
    chest_slices(tmp_path / "in", cases=24, seed=1, image_size=32)
    given = [tmp_path / "in", "--manifest", tmp_path / "in" / "manifest.csv"]
    succeed("inspect", *given, "--out", tmp_path / "run")
    said = refused("plan", tmp_path / "run", "--model", "guided")
    assert "for volumes with one label each" in said
