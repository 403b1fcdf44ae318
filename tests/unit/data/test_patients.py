from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from vitrail.data.cohort import read_folder
from vitrail.data.manifest import read_manifest
from vitrail.data.patients import (
    with_patients,
    without_placeholders,
    written_in_several_ways,
)
from vitrail.errors import DataError, InputError
from vitrail.records import Case, Cohort


def cohort_of(*paths, patient_id=""):
    cases = (Case(case_id=path, path=path, label="a", patient_id=patient_id) for path in paths)
    return Cohort(Path(), tuple(cases), ("a", "b"))


def test_the_first_group_is_the_patient():
    found, doubts = with_patients(cohort_of("a/P01_1.png", "a/P01_2.png", "b/P7_1.png"), r"(P\d+)_")
    assert [case.patient_id for case in found] == ["P01", "P01", "P7"]
    assert doubts == ()


def test_folders_of_patients_raise_no_doubt():
    paths = [f"{label}/{n // 3}/{n}.png" for n in range(12) for label in "ab"]
    found, doubts = with_patients(cohort_of(*paths), r"/(\d+)/")
    assert {case.patient_id for case in found} == {"0", "1", "2", "3"}
    assert doubts == ()


def test_cases_that_do_not_fit_are_counted():
    found, doubts = with_patients(cohort_of("P1_a.png", "P1_b.png", "P2_a.png", "x.png"), r"(P\d)_")
    assert found.cases[3].patient_id == ""
    assert "1 of 4 cases have no patient" in doubts[0]


def test_page_numbers_are_doubted():
    paths = [
        f"2020.0{paper}.{10 + paper}-p{page}-{n}.png"
        for paper in range(1, 5)
        for page in (6, 23)
        for n in "12"
    ]
    _, doubts = with_patients(cohort_of(*paths), r"-p(\d+)-")
    assert "page or slice number" in doubts[0]


def test_numbers_of_pictures_are_doubted():
    _, doubts = with_patients(cohort_of("img1.png", "img2.png"), r"img(\d+)")
    assert "another patient for every case" in doubts[0]


@pytest.mark.parametrize(
    ("one", "other"), [("P007", "p7"), ("7", "7.0"), ("A-12", "a 12"), ("0081", "81")]
)
def test_one_id_in_two_spellings_is_doubted_and_kept(one, other):
    cases = tuple(
        Case(case_id=patient, path=patient, label="a", patient_id=patient)
        for patient in (one, other, "P70", "P17", "70", "11", "1-1", "10")
    )
    (doubt,) = written_in_several_ways(Cohort(Path(), cases, ("a", "b")))
    assert doubt.startswith("1 patient ids are written in several ways (")
    assert repr(one) in doubt
    assert repr(other) in doubt
    assert written_in_several_ways(Cohort(Path(), cases[1:], ("a", "b"))) == ()


@pytest.mark.shared
def test_the_page_numbers_of_covid_ct_are_doubted(shared):
    read = read_manifest(shared / "data" / "covid_ct" / "manifest.csv")
    paths = [case.path for case in read]
    _, doubts = with_patients(cohort_of(*paths), r"[-_](p\d+)[-_]")
    assert any("page or slice number" in doubt for doubt in doubts)


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("(", InputError, "it is a regular expression"),
        ("P[0-9]", InputError, "its first group"),
        ("(Q)", DataError, "finds 0 patients in paths such as P1_a"),
        ("(P)", DataError, "finds 1 patients"),
    ],
)
def test_a_pattern_that_finds_nothing_is_refused(pattern, error, message):
    with pytest.raises(error, match=message):
        with_patients(cohort_of("P1_a.png", "P2_a.png"), pattern)


def test_two_sources_of_patients_are_refused():
    with pytest.raises(DataError, match="2 cases have a patient already"):
        with_patients(cohort_of("P1.png", "P2.png", patient_id="x"), r"(P\d)")


@pytest.mark.parametrize(
    "word",
    [
        "Anonymous",
        "ANON",
        "anonymized",
        "Anonymous^Patient",
        "unknown",
        "N/A",
        "no name",
        "---",
        "XXXX",
    ],
)
def test_a_word_that_names_nobody_is_no_patient(word):
    cohort = cohort_of("a.png", "b.png", "c.png", patient_id=word)
    named = Case(case_id="d.png", path="d.png", label="b", patient_id="P7")
    found, doubts = without_placeholders(replace(cohort, cases=(*cohort.cases, named)))
    assert [case.patient_id for case in found] == ["", "", "", "P7"]
    assert doubts == (f"patient id {word!r} of 3 cases names nobody: their patients are unknown",)


@pytest.mark.parametrize("patient", ["P23", "0", "000", "Anonymous-017", "Nana", "xx", "ANON12"])
def test_an_id_that_may_be_a_person_stays(patient):
    cohort = cohort_of("a.png", "b.png", patient_id=patient)
    assert without_placeholders(cohort) == (cohort, ())


def scans(root, *, patients, studies):
    """Write a series of two slices for each patient id and study."""
    for number, (patient, study) in enumerate(zip(patients, studies, strict=True)):
        folder = root / "ab"[number % 2] / f"series{number}"
        folder.mkdir(parents=True)
        for position in range(2):
            write_slice(folder / f"{position}.dcm", patient, study=study, position=position)
    return root


def write_slice(path, patient, *, study, position):
    """Write the least that a slice is."""
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.CTImageStorage, f"1.2.{position}"
    file.PatientID, file.StudyInstanceUID = patient, f"1.3.{study}"
    file.SeriesInstanceUID = f"1.4.{path.parent.name[6:]}"
    file.Rows = file.Columns = 4
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 15, 0, 1
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = np.zeros((4, 4), np.uint16).tobytes()
    file.save_as(path, enforce_file_format=True)


def test_one_patient_id_for_scans_of_several_studies_stands_for_many(tmp_path):
    cohort = read_folder(scans(tmp_path, patients=["LUNG"] * 4, studies=[1, 2, 3, 4]))
    assert {case.patient_id for case in cohort} == {"LUNG"}
    found, (doubt,) = without_placeholders(cohort)
    assert {case.patient_id for case in found} == {""}
    assert doubt == (
        "all scans have the same patient id and are of several studies: it stands for many, so "
        "the patients are unknown"
    )


@pytest.mark.parametrize(
    ("patients", "studies"), [(["L"] * 4, [1] * 4), (["L", "L", "L", "M"], [1, 2, 3, 4])]
)
def test_one_study_of_one_patient_and_several_patients_stay(tmp_path, patients, studies):
    cohort = read_folder(scans(tmp_path, patients=patients, studies=studies))
    assert without_placeholders(cohort) == (cohort, ())


def test_one_patient_that_a_manifest_names_stays(tmp_path):
    root = scans(tmp_path, patients=["X1", "X2", "X1", "X2"], studies=[1, 2, 3, 4])
    rows = [
        f"{path.relative_to(root).as_posix()},{path.parent.name},P1" for path in root.glob("*/*")
    ]
    (root / "manifest.csv").write_text("path,label,patient\n" + "\n".join(rows))
    cohort = read_manifest(root / "manifest.csv")
    assert without_placeholders(cohort) == (cohort, ())
