"""Bad input: exit code 2 and one message with argument, what came, the rule, the remedy."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from PIL import Image


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size=(40, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    for seed in range(12):
        picture(tmp_path / "data" / "ab"[seed % 2] / f"{seed:02}.png", seed)
    return tmp_path / "data"


@pytest.fixture
def refused(refused):
    """Return a function that inspects a folder, which must be refused; what is said."""
    return lambda folder, *words: refused("inspect", folder, "--out", folder.parent / "run", *words)


def test_a_folder_that_does_not_exist_is_refused(tmp_path, refused):
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path, refused):
    (tmp_path / "data").mkdir()
    assert "no pictures" in refused(tmp_path / "data")


def test_one_class_only_is_refused(tmp_path, refused):
    for seed in range(3):
        picture(tmp_path / "data" / "a" / f"{seed}.png", seed)
    assert "one class only ('a')" in refused(tmp_path / "data")


def test_a_class_with_one_case_is_refused(folder, refused):
    picture(folder / "rare" / "1.png", 99)
    assert "class 'rare' has one case" in refused(folder)


def test_unreadable_and_truncated_pictures_are_named_counted_and_left_out(folder, invoke):
    whole = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "text.png").write_text("no picture")
    done = invoke("inspect", folder, "--out", folder.parent / "run", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["cases"] == 12
    assert {item["path"] for item in found["unreadable"]} == {"a/truncated.png", "b/text.png"}
    assert all(item["reason"] for item in found["unreadable"])


def manifest(folder, *lines):
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_manifest_with_a_missing_file_is_refused(folder, refused):
    path = manifest(folder, "path,label", "a/00.png,a", "a/99.png,b")
    message = refused(folder, "--manifest", path)
    assert "manifest.csv:3" in message
    assert "no file 'a/99.png'" in message


def test_a_manifest_without_a_needed_column_is_refused(folder, refused):
    path = manifest(folder, "path,lable", "a/00.png,a")
    assert "no column 'label'" in refused(folder, "--manifest", path)


def test_a_manifest_with_a_case_twice_is_refused(folder, refused):
    path = manifest(folder, "path,label", "a/00.png,a", "a/00.png,a")
    assert "'a/00.png' again (first in line 2)" in refused(folder, "--manifest", path)


def test_a_label_in_test_and_not_in_train_is_refused(folder, refused):
    rows = [f"a/{n:02}.png,a,train" for n in (0, 2, 4)] + [f"b/{n:02}.png,b,test" for n in (1, 3)]
    path = manifest(folder, "path,label,split", *rows)
    assert "label 'b' is in test and not in train" in refused(folder, "--manifest", path)


def test_an_output_folder_with_somebody_elses_files_is_refused(folder, refused):
    (folder.parent / "run").mkdir()
    (folder.parent / "run" / "thesis.tex").write_text("mine")
    assert "it is not empty and not a run folder" in refused(folder)
    assert (folder.parent / "run" / "thesis.tex").read_text() == "mine"


def test_an_output_folder_of_other_data_is_refused_and_loses_nothing(folder, invoke, refused):
    run = folder.parent / "run"
    assert invoke("inspect", folder, "--out", run).exit_code == 0
    before = (run / "cohort.csv").read_bytes()
    picture(folder / "a" / "new.png", 77)
    assert "it belongs to other data" in refused(folder)
    assert (run / "cohort.csv").read_bytes() == before


def test_inspecting_again_skips_what_is_finished(folder, invoke):
    run = folder.parent / "run"
    first = json.loads(invoke("inspect", folder, "--out", run, "--json").stdout)
    second = json.loads(invoke("inspect", folder, "--out", run, "--json").stdout)
    assert (first["skipped"], second["skipped"]) == (False, True)
    assert second["cases"] == first["cases"]


def test_a_leaking_split_is_refused_unless_a_reason_is_given(folder, invoke):
    parts = ("train", "train", "validation", "validation", "test", "test")
    rows = [
        f"{'ab'[n % 2]}/{n:02}.png,{'ab'[n % 2]},{parts[n // 2]},{'same' if n in (0, 8) else n}"
        for n in range(12)
    ]
    path = manifest(folder, "path,label,split,patient", *rows)
    run = folder.parent / "run"
    assert invoke("inspect", folder, "--out", run, "--manifest", path).exit_code == 0
    done = invoke("plan", run)
    assert done.exit_code == 2
    assert "patient 'same' is in test and train" in " ".join(done.stderr.split())
    assert "--accept-leakage" in done.stderr
    assert not (run / "split.csv").exists()


def test_a_known_public_set_is_named_with_its_faults(tmp_path, invoke):
    for seed, label in enumerate(("lung_aca", "lung_n", "lung_scc") * 3):
        picture(tmp_path / "data" / label / f"{seed}.png", seed)
    done = invoke("inspect", tmp_path / "data", "--out", tmp_path / "run")
    assert "this looks like LC25000" in done.stdout
    assert "made from 250 originals" in done.stdout
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert audit["known_set"]["name"] == "lc25000"
    jsonschema.validate(
        audit, json.loads((files("vitrail") / "schemas" / "audit.json").read_text())
    )


def test_patients_out_of_paths_are_kept_by_a_second_call(folder, invoke):
    options = ("--out", folder.parent / "run", "--patient-from", r"/(\d)\d\.png$")
    assert invoke("inspect", folder, *options).exit_code == 0
    table = (folder.parent / "run" / "cohort.csv").read_text()
    assert "a/00,a/00.png,a,0," in table
    assert invoke("inspect", folder, *options[:2]).exit_code == 0
    assert (folder.parent / "run" / "cohort.csv").read_text() == table


def test_patients_who_are_all_anonymous_are_unknown_and_that_is_said(folder, invoke):
    rows = [f"{path.relative_to(folder)},{path.parent.name},ANON" for path in folder.rglob("*.png")]
    manifest = folder / "manifest.csv"
    manifest.write_text("path,label,patient\n" + "\n".join(rows))
    run = folder.parent / "run"
    done = invoke("inspect", folder, "--manifest", manifest, "--out", run, "--json")
    assert done.exit_code == 0, done.stderr
    doubt = "patient id 'ANON' of 12 cases names nobody: their patients are unknown"
    assert doubt in json.loads(done.stdout)["summary"]
    audit = json.loads((run / "audit.json").read_text())
    assert audit["doubts"] == [doubt]
    assert audit["fingerprint"]["without_patient"] == 12
    assert "ANON" not in (run / "cohort.csv").read_text()
