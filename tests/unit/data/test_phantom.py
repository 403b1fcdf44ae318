import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from vitrail.data import phantom
from vitrail.data.audit import audit
from vitrail.data.cohort import read_folder
from vitrail.data.manifest import read_manifest
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
            around = binary_dilation(mask, iterations=4) & ~binary_dilation(mask)
            assert 40 < mask.sum() < 250
            assert picture[mask].mean() > picture[around].mean() + 40


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


def test_a_nodule_adds_no_grey_that_fluid_does_not_add_without_it():
    differences = []
    for seed in range(20):
        patient = phantom._patient(np.random.default_rng(seed))
        with_nodule, without = (
            phantom._slice(
                patient, image_size=96, nodule=nodule, generator=np.random.default_rng(seed)
            )[0]
            for nodule in (True, False)
        )
        assert np.count_nonzero(np.abs(with_nodule - without.astype(int)) > 40) > 40
        differences.append(with_nodule.mean() - without.mean())
    assert np.abs(differences).max() < 1
    assert abs(np.mean(differences)) < 0.25


def test_nothing_trivial_tells_the_classes(tmp_path):
    chest_slices(tmp_path, cases=400, seed=0, image_size=96, slices_a_patient=1)
    found = audit(read_manifest(tmp_path / "manifest.csv"))
    assert found.duplicates == ()
    assert {row.feature for row in found.shortcuts} >= {"histogram", "intensity", "border"}
    for row in found.shortcuts:
        assert row.finding == ""
        assert row.roc_auc_score < 0.6


def test_too_few_cases_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 8"):
        chest_slices(tmp_path, cases=7)
