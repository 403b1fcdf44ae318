"""What people really hand in: each fault once through the command line, as a table.

A fault of one file leaves it out and names it; a fault of the whole stops the verb. Either way
there is one message, and what is in the run folder is whole.
"""

import json
import os
import shutil
import struct
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from vitrail.data.thorax import chest_volumes

pytestmark = pytest.mark.journey


@pytest.fixture
def tell(invoke):
    """Return a function that runs a command; what came of it, and what it said in one line."""

    def both(*words):
        done = invoke(*words, "--json")
        return done, " ".join(done.stderr.split())

    return both


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of two classes of five pictures each."""
    generator = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 24), dtype=np.uint8)).save(path)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return generated chests: DICOM series, NIfTI masks and their manifest."""
    root = tmp_path_factory.mktemp("chests")
    return chest_volumes(root, cases=8, seed=1, shape=(8, 24, 24), spacing_mm=(5.0, 5.0, 5.0))


@pytest.fixture
def chests(drawn, tmp_path):
    """Return a copy of the chests to spoil."""
    return shutil.copytree(drawn.parent, tmp_path / "chests") / drawn.name


def bomb(path):
    """Write a PNG whose header claims ten thousand million pixels."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def hold_nan(path):
    values = np.zeros((24, 24), dtype=np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(path.with_suffix(".tif"))
    path.unlink()


def circle(path):
    path.unlink()
    path.symlink_to(path)


def dangle(path):
    path.unlink()
    path.symlink_to(path.with_name("gone"))


PICTURES = {
    "truncated": (truncate, "truncated"),
    "wrong magic": (lambda path: path.write_text("GIF89a, or so"), "not a PNG, JPEG, TIFF or BMP"),
    "decompression bomb": (bomb, "a decompression bomb"),
    "0 bytes": (lambda path: path.write_bytes(b""), "the file is empty (0 bytes)"),
    "not a number": (hold_nan, "NaN or infinite pixels"),
    "link to itself": (circle, "Too many levels of symbolic links"),
    "dead link": (dangle, "No such file or directory"),
}


@pytest.mark.parametrize(("spoil", "reason"), PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_that_cannot_be_used_is_named_and_left_out(pictures, spoil, reason, tell):
    spoil(pictures / "a" / "4.png")
    run = pictures.parent / "run"
    done, told = tell("inspect", pictures, "--out", run)
    assert done.exit_code == 0, told
    (left_out,) = json.loads(done.stdout)["unreadable"]
    assert left_out["path"].startswith("a/4.")
    assert reason in left_out["reason"]
    assert "1 pictures cannot be read and are left out" in told
    assert len((run / "cohort.csv").read_text().splitlines()) == 1 + 9
    assert not list(run.rglob(".*"))


def truncate_slice(manifest):
    path = sorted((manifest.parent / "series" / "CHEST0003").iterdir())[2]
    path.write_bytes(path.read_bytes()[:-300])
    return path.name, "its pixels cannot be decoded"


def forget_a_slice(manifest):
    folder = manifest.parent / "series" / "CHEST0003"
    height = {path: pydicom_height(path) for path in folder.iterdir()}
    sorted(height, key=height.get)[4].unlink()
    return "(0020,0032)", "where 5.000 mm is usual"


def pydicom_height(path):
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]


def move_the_mask(manifest):
    (path,) = (manifest.parent / "masks").glob("CHEST0003*")
    mask = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(mask.get_fdata()[:-2], mask.affine), path)
    return path.name, "8 x 24 x 22 voxels"


def fill_with_infinity(manifest):
    (path,) = (manifest.parent / "masks").glob("CHEST0003*")
    mask = nibabel.load(path)
    values = mask.get_fdata().astype(np.float32)
    values[0, 0, 0] = np.inf
    nibabel.save(nibabel.Nifti1Image(values, mask.affine), path)
    return path.name, "1 voxels of NaN or infinity"


@pytest.mark.parametrize(
    "spoil", [truncate_slice, forget_a_slice, move_the_mask, fill_with_infinity]
)
def test_a_scan_that_cannot_be_used_is_named_and_left_out(chests, spoil, tell):
    file, reason = spoil(chests)
    run = chests.parent / "run"
    done, told = tell("inspect", chests.parent, "--manifest", chests, "--out", run)
    assert done.exit_code == 0, told
    (left_out,) = json.loads(done.stdout)["unreadable"]
    assert left_out["path"] == "series/CHEST0003"
    assert file in left_out["reason"]
    assert reason in left_out["reason"]
    assert not list(run.rglob(".*"))


def outside(folder):
    (folder.parent / "secret.png").write_bytes((folder / "a" / "0.png").read_bytes())
    (folder / "m.csv").write_text("path,label\na/0.png,a\n../secret.png,b\n")
    return ["--manifest", folder / "m.csv"], "m.csv:3: path '../secret.png'; paths lie inside"


def absent(folder):
    (folder / "m.csv").write_text("path,label\na/0.png,a\nb/ghost.png,b\n")
    return ["--manifest", folder / "m.csv"], "m.csv:3: no file 'b/ghost.png'"


def latin_1(folder):
    os.rename(folder / "a" / "0.png", os.fsencode(folder / "a") + b"/Sch\xe4del.png")  # noqa: PTH104
    return [], "a name that is not UTF-8"


def nothing_left(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    return [], "none of its 10 cases can be read (a/0.png: the file is empty (0 bytes); …)"


def loose(folder):
    shutil.copy(folder / "a" / "0.png", folder / "loose.png")
    return [], "1 pictures in no class folder (loose.png, …)"


@pytest.mark.parametrize("verb", ["inspect", "run"])
@pytest.mark.parametrize("spoil", [outside, absent, latin_1, nothing_left, loose])
def test_a_fault_of_the_whole_stops_before_anything_is_written(pictures, spoil, verb, tell):
    options, message = spoil(pictures)
    run = pictures.parent / "run"
    done, told = tell(verb, pictures, *options, "--out", run)
    assert done.exit_code == 2, told
    assert done.stdout == ""
    assert message in told
    assert told.count("Error") <= 1
    left = {path.name for path in run.rglob("*")} if run.exists() else set()
    assert left <= {"log.txt", "environment.json"}, left


def test_a_loop_of_links_is_entered_once_and_named(pictures, tell):
    (pictures / "a" / "loop").symlink_to(pictures, target_is_directory=True)
    done, told = tell("inspect", pictures, "--out", pictures.parent / "run")
    assert done.exit_code == 0, told
    assert json.loads(done.stdout)["cases"] == 10
    assert "a/loop: a link to a folder that is read already" in told


def test_names_of_any_script_go_through(pictures, tell):
    names = ["Größe.png", "肺.png", "нос 1.png", "🫁.png", "a'b\"c,d.png"]
    for name, path in zip(names, sorted((pictures / "b").iterdir()), strict=True):
        path.rename(path.with_name(name))
    run = pictures.parent / "run"
    done, told = tell("inspect", pictures, "--out", run)
    assert done.exit_code == 0, told
    assert json.loads(done.stdout)["cases"] == 10
    again, told = tell("plan", run, "--budget", "1m")
    assert again.exit_code == 0, told
    assert "肺" in (run / "split.csv").read_text(encoding="utf-8")
