"""Clinical input as it comes: what cannot be used is named and counted, never silently dropped."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.data.phantom import chest_slices
from vitrail.data.thorax import chest_volumes
from vitrail.data.volume import Volume, read_image, write_nifti
from vitrail.runfolder import RunFolder, read_json

pytestmark = pytest.mark.journey


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--json"])


@pytest.fixture
def cohort(tmp_path):
    """Return a folder of eight tiny chests."""
    chest_volumes(tmp_path / "in", cases=8, seed=5, shape=(12, 32, 32), spacing_mm=(6.0, 6.0, 6.0))
    return tmp_path / "in"


def inspect(cohort):
    """Inspect a cohort; return what came of it and its run folder."""
    run = RunFolder(cohort.parent / "run")
    done = invoke("inspect", cohort, "--manifest", cohort / "manifest.csv", "--out", run.root)
    return done, run


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


def left_out(cohort):
    """Return the one case that the audit leaves out, which the summary names as well."""
    done, run = inspect(cohort)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["cases"] == 7
    audit = read_json(run.audit)
    assert audit["cases"] == 8
    (case,) = audit["unreadable"]
    assert any(case["path"] in sentence for sentence in json.loads(done.stdout)["summary"])
    return case


def test_an_empty_mask_is_named_counted_and_its_case_left_out(cohort):
    path = cohort / "masks" / "CHEST0003.nii.gz"
    mask = read_image(path)
    write_nifti(path, Volume(np.zeros_like(mask.values), mask.affine, mask.source))
    case = left_out(cohort)
    assert case["case_id"] == "series/CHEST0003"
    assert "an empty mask" in case["reason"]


def test_a_mask_of_another_geometry_is_named_counted_and_its_case_left_out(cohort):
    path = cohort / "masks" / "CHEST0002.nii.gz"
    mask = read_image(path)
    shifted = mask.affine.copy()
    shifted[:3, 3] += 4.0
    write_nifti(path, Volume(mask.values, shifted, mask.source))
    case = left_out(cohort)
    assert case["case_id"] == "series/CHEST0002"
    assert "mask" in case["reason"]


def test_a_missing_series_is_refused_by_its_line_and_all_are_counted(cohort):
    def lose(rows):
        rows[1]["path"], rows[4]["path"] = "series/LOST1", "series/LOST2"

    rewrite(cohort, lose)
    done, _ = inspect(cohort)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "no file 'series/LOST1'" in said
    assert "in 2 of 8 rows (lines 3, 6)" in said


def test_missing_labels_are_refused_by_their_lines_and_counted(cohort):
    def forget(rows):
        rows[0]["label"] = rows[5]["label"] = ""

    rewrite(cohort, forget)
    done, _ = inspect(cohort)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "an empty label; the same in 2 of 8 rows (lines 2, 7)" in said


def test_too_few_slices_repeat_the_last_one_and_that_is_recorded(cohort):
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
    done, run = inspect(cohort)
    assert done.exit_code == 0, done.stderr
    assert read_json(run.audit)["fingerprint"]["volumes"]["short"] == ["series/CHEST0001b"]
    (said,) = [one for one in json.loads(done.stdout)["summary"] if "too few slices" in one]
    assert said.startswith("1 volume has")
    assert "series/CHEST0001b" in said


def test_model_guided_needs_volumes(tmp_path):
    chest_slices(tmp_path / "in", cases=24, seed=1, image_size=32)
    given = [tmp_path / "in", "--manifest", tmp_path / "in" / "manifest.csv"]
    assert invoke("inspect", *given, "--out", tmp_path / "run").exit_code == 0
    refused = invoke("plan", tmp_path / "run", "--model", "guided")
    assert refused.exit_code == 2
    assert "for volumes with one label each" in " ".join(refused.stderr.split())
