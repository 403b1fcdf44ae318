"""Nothing is written half, and every case has one file name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import RunFolderError
from vitrail.runfolder import (
    RunFolder,
    file_name,
    read_csv,
    read_json,
    write_bytes,
    write_csv,
    write_json,
)


@given(st.lists(st.text(min_size=1, max_size=400), unique=True, max_size=6))
def test_different_cases_have_different_file_names_that_any_system_accepts(case_ids):
    names = [file_name(case_id) for case_id in case_ids]
    assert len(set(names)) == len(case_ids)
    assert all(len(name.encode()) <= 160 and "/" not in name for name in names)


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kept": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"lost": float("nan")})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bytes(tmp_path / "folder", b"a file cannot replace a folder")
    assert read_json(path) == {"kept": 1}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "folder"]


def test_a_table_comes_back_as_it_was_written(tmp_path):
    rows = [{"path": "a,b.png", "label": 'say "x"'}, {"path": "ü.png", "label": ""}]
    write_csv(tmp_path / "t.csv", rows, header=["path", "label"])
    assert read_csv(tmp_path / "t.csv") == rows


def test_a_missing_file_names_the_verb_that_writes_it(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(RunFolderError, match=r"it holds no plan.yaml.*run `vitrail plan`"):
        run.require(run.plan, "plan")


def test_broken_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")
