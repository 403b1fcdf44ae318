import shutil

import pytest

from vitrail.data.cohort import load_cohort, read_folder, with_several_labels, write_cohort
from vitrail.errors import DataError, RunFolderError


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


def test_a_split_that_is_not_meant_needs_no_training_part(tmp_path, picture):
    for label in ("a", "b"):
        for index in range(2):
            picture(tmp_path / "test" / label / f"{index}.png")
    with pytest.raises(DataError, match="is in test and not in train"):
        read_folder(tmp_path)
    cohort = read_folder(tmp_path, with_split=False)
    assert cohort.classes == ("a", "b")
    assert {case.split for case in cohort} == {""}


def test_hidden_files_other_files_and_link_loops_are_passed_over(folder, picture):
    picture(folder / "benign" / ".hidden.png")
    picture(folder / ".cache" / "x.png")
    (folder / "notes.txt").write_text("x")
    (folder / "benign" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(read_folder(folder)) == 12


def test_masks_mirror_the_classes(folder, caplog):
    shutil.copytree(folder / "tumor", folder / "masks" / "tumor")
    shutil.copy(folder / "tumor" / "6.png", folder / "masks" / "tumor" / "6_mask.png")
    cohort = read_folder(folder)
    assert "1 masks mirror no picture, masks/tumor/6_mask.png for one" in caplog.text
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


def test_one_label_a_case_stands_for_several_where_asked(folder):
    cohort = with_several_labels(read_folder(folder))
    assert cohort.multi_label
    assert {case.label for case in cohort} == {"benign|", "tumor|"}


def test_a_cohort_comes_back_as_it_was_written(folder, tmp_path):
    cohort = read_folder(folder)
    write_cohort(tmp_path / "run" / "cohort.csv", cohort)
    assert load_cohort(tmp_path / "run" / "cohort.csv") == cohort
    (tmp_path / "run" / "cohort.json").unlink()
    with pytest.raises(RunFolderError, match="repeat `vitrail inspect`"):
        load_cohort(tmp_path / "run" / "cohort.csv")
