"""A manifest says everything of a case, and its faults are named by their lines."""

import pytest

from vitrail.data.cohort import load_cohort, write_cohort
from vitrail.data.manifest import read_manifest
from vitrail.errors import DataError, ManifestError


def manifest(folder, text, name="manifest.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(folder, suffix=""):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return "".join(f"{name},{name.split('/')[0]}{suffix}\n" for name in files)


def test_a_manifest_tells_everything_of_a_case(folder):
    text = "path;Label;patient;site;split;note\n"
    for index in range(12):
        label = "benign" if index < 6 else "tumor"
        part = ("train", "valid", "test")[index % 3]
        text += f"{label}/{index}.png;{label};P{index // 2};here;{part};x\n"
    cohort = read_manifest(manifest(folder, text))
    case = next(case for case in cohort if case.case_id == "tumor/7")
    assert (case.patient_id, case.site, case.split) == ("P3", "here", "validation")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "no column 'path'"),
        ("path,lable\nbenign/0.png,x\n", "rename 'lable' to 'label'"),
        ("path,label\n", "no rows"),
        ("path,label\nbenign/99.png,x\n", "csv:2: no file 'benign/99.png'"),
        ("path,label\nbenign/0.png,\n", "an empty label"),
        (
            "path,label\nbenign/0.png,\nbenign/1.png,x\nbenign/2.png,\n",
            r"csv:2: an empty label; the same in 2 of 3 rows \(lines 2, 4\)",
        ),
        (
            "path,label\nbenign/0.png,x\nbenign/98.png,x\nbenign/99.png,y\n",
            r"csv:3: no file .* the same in 2 of 3 rows \(lines 3, 4\)",
        ),
        ("path,label\n../x.png,x\n", "paths lie inside"),
        ("path,label\n\n\nbenign/99.png,x\n", "csv:4: no file"),
        ("path,label\nbenign\\\\0.png,x\n", "write / between folders"),
        (
            "path,label,patient\nbenign/0.png,left, upper,P1\n",
            "csv:2: 4 cells; the header names 3 columns; put quotes around",
        ),
        ("path,label,patient,patient_id\nbenign/0.png,x,P1,\n", "'patient_id' twice"),
        ("path,label,label\nbenign/0.png,x,y\n", "column 'label' twice"),
        (f'path,label\nbenign/0.png,"x\n{"y" * 140_000}', "a quote that is not closed"),
        ("path,label,split\nbenign/0.png,x,holdout\n", "choose the part that is meant"),
        ("path,label\n/etc/hosts,x\n", "paths lie inside"),
        ("path,label\nbenign/0.png,x\nbenign/0.png,y\n", "csv:3: .* again .first in line 2"),
        ("path,label,split\nbenign/0.png,x,tset\n", "write 'test'"),
        ("path,label,mask\nbenign/0.png,a,no.png\n", "no file 'no.png'"),
    ],
)
def test_a_faulty_manifest_is_refused_by_line(folder, text, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(manifest(folder, text))


def labelled(folder, labels):
    text = "path,label\n"
    for index, label in enumerate(labels):
        text += f"{'benign' if index < 6 else 'tumor'}/{index}.png,{label}\n"
    return manifest(folder, text)


def test_rows_of_empty_cells_are_no_cases(folder):
    text = "path,label,patient\n" + rows(folder, ",P1") + ",,\n , ,\n"
    assert len(read_manifest(manifest(folder, text))) == 12


def test_several_labels_a_case_are_written_in_one_way(folder):
    cohort = read_manifest(labelled(folder, ["b|a", "a", "", "|", " a | a ", "b"] * 2))
    assert cohort.multi_label
    assert cohort.classes == ("a", "b")
    written = [next(c.label for c in cohort if c.path == f"benign/{n}.png") for n in range(6)]
    assert written == ["a|b", "a|", "|", "|", "a|", "b|"]
    assert cohort.cases[0].labels == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a|b", "a|", "a|b"] * 4, "every case has the label 'a'"),
        (["a|", "", "a"] * 4, "one class only"),
        (["a|b", "a|", "|"] + ["a|"] * 9, "class 'b' has one case"),
        ([f"{0.5 + index}" for index in range(12)], "12 different numbers .* regression targets"),
        ([f"{index}" for index in range(12)], "12 different numbers"),
        (
            ["Nodule", "clear", "nodule", "clear "] * 3,
            "classes 'Nodule' and 'nodule'; classes diff",
        ),
        (["1", "1.0", "0"] * 4, "classes '1' and '1.0'; .* write each class in one way"),
        (["a|Mass", "mass|", "|"] * 4, "classes 'Mass' and 'mass'"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(folder, labels, message):
    with pytest.raises(DataError, match=message):
        read_manifest(labelled(folder, labels))


def test_grades_written_as_numbers_are_classes(folder):
    assert read_manifest(labelled(folder, ["0", "1.5", "2"] * 4)).classes == ("0", "1.5", "2")


def test_a_label_of_the_test_part_alone_is_refused(folder):
    text = "path,label,split\n" + rows(folder, ",train").replace("tumor,train", "tumor,test")
    with pytest.raises(DataError, match="'tumor' is in test and not in train"):
        read_manifest(manifest(folder, text))


def test_a_split_for_some_cases_only_is_refused(folder):
    text = "path,label,split\n" + rows(folder, ",train").replace("tumor,train", "tumor,", 1)
    with pytest.raises(DataError, match="1 of 12 cases have no split"):
        read_manifest(manifest(folder, text))


def test_a_manifest_that_is_not_text_is_refused(folder):
    (folder / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(folder / "bad.csv")


def test_further_columns_that_tell_groups_apart_become_attributes(folder, tmp_path, caplog):
    caplog.set_level("INFO", logger="vitrail")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [
        f"{name},{name.split('/')[0]},{'fm'[place % 2]},{20 + place},{'x' * place},one\n"
        for place, name in enumerate(files)
    ]
    text = "path,label,Sex,age,note,vendor\n" + "".join(lines)
    cohort = read_manifest(manifest(folder, text + ""))
    assert cohort.cases[3].attributes["sex"] in "fm"
    assert {case.attributes["age"] for case in cohort} == {str(20 + k) for k in range(12)}
    assert set(cohort.cases[0].attributes) <= {"sex", "age", "note"}
    assert "columns left out: vendor" in caplog.text
    write_cohort(tmp_path / "cohort.csv", cohort)
    assert load_cohort(tmp_path / "cohort.csv") == cohort
