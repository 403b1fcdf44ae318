from pathlib import Path

import pytest

from vitrail.data.cohort import read_manifest
from vitrail.data.patients import with_patients
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
