import json

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from vitrail.data.audit import audit, find_leaks
from vitrail.data.cohort import read_folder
from vitrail.data.features import HEADER_FAMILIES, encode_headers
from vitrail.data.folds import make_folds
from vitrail.data.header import header_features
from vitrail.data.manifest import read_manifest
from vitrail.data.shortcuts import audit_shortcuts
from vitrail.data.split import clusters
from vitrail.data.traps import KINDS, identity_patients, planted_shortcut
from vitrail.errors import InputError
from vitrail.metrics.interval import bootstrap, bootstrap_interval

IN_PICTURES = [kind for kind in KINDS if kind not in (*HEADER_FAMILIES, "none")]


@pytest.mark.parametrize("kind", IN_PICTURES)
def test_each_planted_shortcut_is_named_in_plain_words(tmp_path, kind):
    planted_shortcut(tmp_path, kind=kind, cases=60)
    rows = {row.feature: row for row in audit(read_folder(tmp_path)).shortcuts}
    assert rows[kind].roc_auc_score > 0.9
    assert "alone tells the classes apart" in rows[kind].finding


@pytest.mark.parametrize("kind", [*HEADER_FAMILIES, "none"])
def test_each_shortcut_planted_in_dicom_headers_is_named_and_the_other_fields_are_quiet(
    tmp_path, kind
):
    planted = HEADER_FAMILIES[0] if kind == "none" else kind
    planted_shortcut(tmp_path, kind=planted, cases=60)
    paths = sorted(tmp_path.rglob("*.dcm"))
    headers = [header_features(path) for path in paths]
    labels = [path.parent.name for path in paths]
    if kind == "none":
        labels = [labels[0] if index % 4 < 2 else labels[-1] for index in range(len(labels))]
    names = [str(path) for path in paths]
    rows = audit_shortcuts(encode_headers(headers), labels, clusters=names)
    assert [row.feature for row in rows if row.finding] == ([] if kind == "none" else [kind])


def test_a_set_without_a_planted_shortcut_is_quiet(tmp_path):
    planted_shortcut(tmp_path, kind="none", cases=160)
    found = audit(read_folder(tmp_path))
    assert {row.feature for row in found.shortcuts} >= {"intensity", "color", "size", "border"}
    assert [row.finding for row in found.shortcuts if row.finding] == []
    assert found.duplicates == ()


def test_the_truth_is_kept_beside_the_cases_and_the_same_seed_repeats_them(tmp_path):
    for name in "ab":
        planted_shortcut(tmp_path / name, kind="kvp", cases=6, seed=3)
        identity_patients(tmp_path / name / "patients", patients=2, pictures_a_patient=2, seed=3)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 6 + 1 + 4 + 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())
    assert truth["parameters"] == {"kind": "kvp", "cases": 6, "seed": 3}
    assert truth["drawn"]["second/0001.dcm"]["kvp"] in (2, 3)


def test_an_unknown_shortcut_is_refused(tmp_path):
    with pytest.raises(InputError, match="'watermark'; it is one of none, intensity"):
        planted_shortcut(tmp_path, kind="watermark")


def test_headers_of_files_that_are_not_dicom_are_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("no scan")
    assert header_features(tmp_path / "notes.txt") == {}
    assert header_features(tmp_path) == {}
    encoded = encode_headers([{}, {"manufacturer": "Alpha"}, {"kvp": "120"}, {"date": 9.0}])
    assert encoded[0] == {"manufacturer": [1, 0, 0], "kvp": [1, 0, 0], "kernel": [1, 0]} | {
        "date": [1, 9]
    }
    assert encoded[1]["manufacturer"] == [0, 0, 1]
    assert encoded[2]["kvp"] == [0, 0, 1]
    assert encoded[3]["date"] == [0, 9]


def out_of_fold_accuracy(cohort, groups):
    """Return the accuracy of a 1-nearest-neighbor on small pictures, with its 95 % interval."""
    pixels = np.stack(
        [
            np.asarray(Image.open(cohort.root / case.path).resize((16, 16), Image.Resampling.BOX))
            for case in cohort
        ]
    ).reshape(len(cohort), -1)
    pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)
    labels = np.array([case.label for case in cohort])
    right = np.zeros(len(cohort))
    for fold in make_folds(cohort, groups=groups, folds=5):
        test = np.array([fold[case.case_id] == "test" for case in cohort])
        model = KNeighborsClassifier(n_neighbors=1).fit(pixels[~test], labels[~test])
        right[test] = model.predict(pixels[test]) == labels[test]
    patients = np.unique([case.patient_id for case in cohort], return_inverse=True)[1]
    draws = bootstrap(
        lambda weights: {"accuracy": (weights * right).sum(axis=1) / weights.sum(axis=1)}, patients
    )["accuracy"]
    return draws.value, *bootstrap_interval(draws)[:2]


def test_random_labels_score_high_by_picture_and_by_chance_by_patient_and_inspect_warns(tmp_path):
    identity_patients(tmp_path, patients=30, pictures_a_patient=10, seed=0)
    cohort = read_manifest(tmp_path / "manifest.csv")
    each_alone = {case.case_id: case.case_id for case in cohort}
    by_picture, low, _ = out_of_fold_accuracy(cohort, each_alone)
    assert by_picture > 0.85
    assert low > 0.7
    by_patient, low, high = out_of_fold_accuracy(cohort, clusters(list(cohort)))
    assert low < 0.5 < high
    assert by_patient < 0.7

    # Before anything is trained: a split by picture is refused, and patients unknown, the pictures
    # of a patient are found to belong together.
    fold = make_folds(cohort, groups=each_alone, folds=5)[0]
    lines = [f"{case.path},{case.label},{case.patient_id},{fold[case.case_id]}" for case in cohort]
    (tmp_path / "split.csv").write_text("\n".join(["path,label,patient,split", *lines]) + "\n")
    leaks = find_leaks(list(read_manifest(tmp_path / "split.csv")), [])
    assert sum(leak.kind == "patient" for leak in leaks) >= 28
    unknown = audit(read_folder(tmp_path))
    known = {case.case_id: case.patient_id for case in cohort}
    together = [known[pair.first] == known[pair.second] for pair in unknown.duplicates]
    assert len(together) > 150
    assert all(together)
