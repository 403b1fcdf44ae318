import numpy as np
import pytest
from PIL import Image

from vitrail.data.audit import audit
from vitrail.data.cohort import read_folder, read_manifest
from vitrail.data.phantom import chest_slices
from vitrail.errors import InputError


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    chest_slices(folder, cases=96, seed=0, image_size=96)
    return folder


def test_both_entrances_give_the_same_cohort(slices):
    manifest, folder = read_manifest(slices / "manifest.csv"), read_folder(slices)
    assert [case.path for case in manifest] == [case.path for case in folder]
    assert [case.mask for case in manifest] == [case.mask for case in folder]
    assert manifest.classes == ("clear", "nodule")


def test_a_nodule_has_a_mask_that_is_brighter_than_the_lung_around_it(slices):
    for case in read_manifest(slices / "manifest.csv"):
        assert bool(case.mask) == (case.label == "nodule")
        if case.mask:
            picture = np.asarray(Image.open(slices / case.path), dtype=float)
            mask = np.asarray(Image.open(slices / case.mask)) > 0
            assert 8 < mask.sum() < 400
            assert picture[mask].mean() > picture.mean() + 25


def test_a_patient_has_one_class(slices):
    cohort = read_manifest(slices / "manifest.csv")
    labels = {(case.patient_id, case.label) for case in cohort}
    assert len(labels) == len({case.patient_id for case in cohort}) == 24


def test_the_seed_decides_every_pixel(slices, tmp_path):
    chest_slices(tmp_path / "same", cases=8, seed=0, image_size=96)
    chest_slices(tmp_path / "other", cases=8, seed=1, image_size=96)
    name = "nodule/patient0001-slice2.png"
    assert (tmp_path / "same" / name).read_bytes() == (slices / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (slices / name).read_bytes()


def test_nothing_trivial_tells_the_classes_well(slices):
    found = audit(read_manifest(slices / "manifest.csv"))
    assert not found.duplicates
    # 24 patients leave wide intervals; with 250 the histogram, the best of them, reaches .63.
    assert all(row.low < 0.65 for row in found.shortcuts)


def test_too_few_cases_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 8"):
        chest_slices(tmp_path, cases=7)
