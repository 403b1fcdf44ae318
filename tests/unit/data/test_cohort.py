import shutil

import pytest

from vitrail.data.cohort import load_cohort, read_folder, with_several_labels, write_cohort
from vitrail.data.manifest import read_manifest
from vitrail.errors import DataError, ManifestError, RunFolderError


def manifest(folder, text, name="manifest.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(folder, suffix=""):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return "".join(f"{name},{name.split('/')[0]}{suffix}\n" for name in files)


def test_one_folder_a_class_becomes_a_cohort(folder):
    cohort = read_folder(folder)
    assert cohort.classes == ("benign", "tumor")
    assert len(cohort) == 12
    assert cohort.cases[0].case_id == "benign/0"
    assert cohort.cases[0].path == "benign/0.png"


def test_folders_of_a_split_above_the_classes_are_read(tmp_path, picture):
    for part in ("train", "val", "test"):
        for label in ("a", "b"):
            for index in range(2):
                picture(tmp_path / part / label / f"{index}.png")
    cohort = read_folder(tmp_path)
    assert {case.split for case in cohort} == {"train", "validation", "test"}
    assert cohort.classes == ("a", "b")


def test_hidden_files_other_files_and_link_loops_are_passed_over(folder, picture):
    picture(folder / "benign" / ".hidden.png")
    picture(folder / ".cache" / "x.png")
    (folder / "notes.txt").write_text("x")
    (folder / "benign" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(read_folder(folder)) == 12


def test_masks_mirror_the_classes(folder):
    shutil.copytree(folder / "tumor", folder / "masks" / "tumor")
    cohort = read_folder(folder)
    assert cohort.classes == ("benign", "tumor")
    assert cohort.cases[-1].mask == f"masks/{cohort.cases[-1].path}"
    assert cohort.cases[0].mask == ""


def test_two_endings_of_one_name_keep_them_in_the_id(folder, picture):
    picture(folder / "benign" / "0.bmp")
    ids = {case.case_id for case in read_folder(folder)}
    assert {"benign/0.png", "benign/0.bmp", "benign/1"} <= ids


def test_names_of_any_script_are_kept(folder, picture):
    picture(folder / "benign" / "Größe 100%, 图.png")
    assert "benign/Größe 100%, 图" in {case.case_id for case in read_folder(folder)}


def test_an_empty_folder_and_a_missing_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no pictures"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


def test_one_class_a_single_case_and_loose_pictures_are_refused(folder, picture):
    picture(folder / "rare" / "x.png")
    with pytest.raises(DataError, match="'rare' has one case"):
        read_folder(folder)
    shutil.rmtree(folder / "rare")
    picture(folder / "loose.png")
    with pytest.raises(DataError, match="in no class folder"):
        read_folder(folder)
    (folder / "loose.png").unlink()
    shutil.rmtree(folder / "tumor")
    with pytest.raises(DataError, match="one class only"):
        read_folder(folder)


def test_a_split_folder_beside_other_folders_is_refused(folder, picture):
    picture(folder / "train" / "a" / "x.png")
    with pytest.raises(DataError, match="train beside benign, tumor"):
        read_folder(folder)


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


def test_several_labels_a_case_are_written_in_one_way(folder):
    cohort = read_manifest(labelled(folder, ["b|a", "a", "", "|", " a | a ", "b"] * 2))
    assert cohort.multi_label
    assert cohort.classes == ("a", "b")
    written = [next(c.label for c in cohort if c.path == f"benign/{n}.png") for n in range(6)]
    assert written == ["a|b", "a|", "|", "|", "a|", "b|"]
    assert cohort.cases[0].labels == ("a", "b")


def test_one_label_a_case_stands_for_several_where_asked(folder):
    cohort = with_several_labels(read_folder(folder))
    assert cohort.multi_label
    assert {case.label for case in cohort} == {"benign|", "tumor|"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a|b", "a|", "a|b"] * 4, "every case has the label 'a'"),
        (["a|", "", "a"] * 4, "one class only"),
        (["a|b", "a|", "|"] + ["a|"] * 9, "class 'b' has one case"),
        ([f"{0.5 + index}" for index in range(12)], "12 different numbers .* regression targets"),
        ([f"{index}" for index in range(12)], "12 different numbers"),
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


def test_a_cohort_comes_back_as_it_was_written(folder, tmp_path):
    cohort = read_folder(folder)
    write_cohort(tmp_path / "run" / "cohort.csv", cohort)
    assert load_cohort(tmp_path / "run" / "cohort.csv") == cohort
    (tmp_path / "run" / "cohort.json").unlink()
    with pytest.raises(RunFolderError, match="repeat `vitrail inspect`"):
        load_cohort(tmp_path / "run" / "cohort.csv")


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
