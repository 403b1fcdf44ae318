import json
import shutil
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from PIL import Image

from vitrail.data.audit import audit, from_json
from vitrail.data.cohort import read_folder
from vitrail.data.duplicates import (
    difference_hash,
    find_duplicates,
    look,
    near_pairs,
    placements,
)
from vitrail.data.manifest import read_manifest
from vitrail.data.shortcuts import FAMILIES, audit_shortcuts
from vitrail.errors import DataError, LeakageError
from vitrail.records import join_labels


def test_an_audit_fits_its_schema_and_comes_back(folder):
    found = audit(read_folder(folder))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    schema = json.loads(files("vitrail").joinpath("schemas/audit.json").read_text())
    jsonschema.validate(content, schema)
    assert from_json(content) == found
    assert found.cases == 12
    assert found.fingerprint["modes"] == {"L": 12}
    assert found.fingerprint["height"] == {"min": 40, "median": 40, "max": 40}


def test_an_unreadable_picture_is_named_and_left_out(folder):
    (folder / "benign" / "0.png").write_bytes(b"broken")
    cohort = read_folder(folder)
    found = audit(cohort)
    assert [row.case_id for row in found.unreadable] == ["benign/0"]
    assert "not a PNG" in found.unreadable[0].reason
    assert len(found.readable(cohort)) == 11


def test_a_mask_that_cannot_lie_over_its_picture_leaves_the_case_out(folder):
    shutil.copytree(folder / "tumor", folder / "masks" / "tumor")
    Image.new("L", (47, 40)).save(folder / "masks" / "tumor" / "6.png")
    (folder / "masks" / "tumor" / "7.png").write_text("no picture")
    reasons = {row.case_id: row.reason for row in audit(read_folder(folder)).unreadable}
    assert reasons == {
        "tumor/6": "mask masks/tumor/6.png: 40 x 47 px over a picture of 40 x 48 px",
        "tumor/7": "mask masks/tumor/7.png: not a PNG, JPEG, TIFF or BMP picture",
    }


def test_a_class_that_loses_its_pictures_stops(folder):
    for path in sorted((folder / "benign").iterdir())[:5]:
        path.write_bytes(b"")
    cohort = read_folder(folder)
    with pytest.raises(DataError, match="'benign' has one case"):
        audit(cohort).readable(cohort)


def test_copies_and_recompressed_copies_are_found_across_classes(folder):
    source = folder / "benign" / "3.png"
    (folder / "tumor" / "copy.png").write_bytes(source.read_bytes())
    smaller = Image.open(source).resize((96, 80)).point(lambda value: value * 0.9)
    smaller.save(folder / "tumor" / "smaller.jpg", quality=85)
    found = audit(read_folder(folder))
    kinds = {(pair.first, pair.second): pair.kind for pair in found.duplicates}
    assert kinds["benign/3", "tumor/copy"] == "exact"
    assert kinds["benign/3", "tumor/smaller"] == "near"
    assert len(kinds) == 3


def test_blank_tiles_are_the_same_one_by_their_bytes_alone(folder):
    for number in range(9):
        Image.new("L", (40, 48), 250 + number // 3).save(folder / "tumor" / f"blank{number}.png")
    pairs = [(pair.kind, pair.first, pair.second) for pair in audit(read_folder(folder)).duplicates]
    assert pairs == [
        ("exact", f"tumor/blank{first}", f"tumor/blank{first + further}")
        for first in (0, 3, 6)
        for further in (1, 2)
    ]


def test_patients_and_duplicates_on_both_sides_are_refused_unless_accepted(folder):
    (folder / "tumor" / "11.png").write_bytes((folder / "benign" / "0.png").read_bytes())
    text = "path,label,patient,split\n"
    for index in range(12):
        label = "benign" if index < 6 else "tumor"
        part = "test" if index in (1, 2, 7, 11) else "train"
        text += f"{label}/{index}.png,{label},P{min(index, 10) // 2},{part}\n"
    (folder / "manifest.csv").write_text(text)
    found = audit(read_manifest(folder / "manifest.csv"))
    assert {leak.kind for leak in found.leaks} == {"patient", "exact"}
    with pytest.raises(LeakageError, match="is in test and train"):
        found.accept_leakage()
    assert found.accept_leakage("a known flaw").accepted_leakage == "a known flaw"


@pytest.mark.parametrize("feature", ["intensity", "size", "jpeg_quality", "border", "file_kind"])
def test_a_planted_shortcut_is_named(tmp_path, feature):
    generator = np.random.default_rng(0)
    for index in range(60):
        second = index % 2
        height = 40 + int(generator.integers(8)) + (12 * second if feature == "size" else 0)
        values = generator.integers(40, 160, size=(height, 48)).astype(np.uint8)
        if feature == "intensity":
            values += np.uint8(30 * second)
        if feature == "border" and second:
            values[:3] = 250
        ending = "png" if feature == "file_kind" and second else "jpg"
        path = tmp_path / "ab"[second] / f"{index}.{ending}"
        path.parent.mkdir(exist_ok=True)
        options = (
            {}
            if ending == "png"
            else {"quality": 60 if feature == "jpeg_quality" and second else 90}
        )
        Image.fromarray(values).save(path, **options)
    rows = {row.feature: row for row in audit(read_folder(tmp_path)).shortcuts}
    assert rows[feature].roc_auc_score > 0.9
    assert "alone tells the classes apart" in rows[feature].finding


def test_a_clean_set_is_quiet(tmp_path):
    generator = np.random.default_rng(1)
    for index in range(120):
        values = generator.integers(0, 256, size=(24, 24), dtype=np.uint8)
        path = tmp_path / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(values).save(path)
    found = audit(read_folder(tmp_path))
    assert [row.finding for row in found.shortcuts if row.finding] == []
    assert found.duplicates == ()


def test_the_search_finds_exactly_the_pairs_that_every_pair_compared_finds():
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2, size=(40, 256), dtype=np.uint8)
    copies = bits.copy()
    for row, copy in enumerate(copies):
        copy[generator.choice(256, size=row % 20, replace=False)] ^= 1
    hashes = np.packbits(np.concatenate([bits, copies]), axis=1).view(np.uint64)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    expected = {(int(i), int(j)) for i, j in zip(*np.nonzero(apart <= 10), strict=True) if i < j}
    assert {(i, j) for i, j, _ in near_pairs(hashes, hashes)} == expected


def test_the_hash_of_a_picture_without_content_is_empty():
    blank = np.full((1, 32, 32), 7, dtype=np.uint8)
    assert difference_hash(blank).tolist() == [[0, 0, 0, 0]]


def test_turned_and_mirrored_copies_are_found_and_different_pictures_are_not():
    generator = np.random.default_rng(2)
    coarse = generator.uniform(size=(6, 8, 8)).astype(np.float32)
    pictures = [
        np.asarray(Image.fromarray(values).resize((96, 96), Image.Resampling.BILINEAR))
        for values in coarse
    ]
    copies = [
        placements(np.rint(picture * 255).astype(np.uint8))[way] / np.float32(255)
        for way, picture in enumerate(pictures, start=2)
    ]
    names = [f"{index:02d}" for index in range(12)]
    looks = [
        look(picture, content=name)
        for name, picture in zip(names, [*pictures, *copies], strict=True)
    ]
    found = find_duplicates(names, looks)
    assert [(pair.first, pair.second) for pair in found] == [
        (f"{index:02d}", f"{index + 6:02d}") for index in range(6)
    ]
    assert {pair.kind for pair in found} == {"near"}


def test_the_eight_placements_are_all_different_and_closed():
    picture = np.arange(9, dtype=np.uint8).reshape(3, 3)
    ways = {way.tobytes() for way in placements(picture)}
    assert len(ways) == 8
    assert {way.tobytes() for first in placements(picture) for way in placements(first)} == ways


def test_a_shortcut_to_one_of_several_labels_is_named_with_its_label():
    generator = np.random.default_rng(0)
    has = generator.random((120, 2)) < 0.5
    labels = [join_labels([name for name, of in zip("ab", row, strict=True) if of]) for row in has]
    quiet = {family: [1.0] for family in FAMILIES}
    measured = [
        quiet | {"intensity": [float(row[1]) + 0.3 * generator.standard_normal()]} for row in has
    ]
    ids = [str(number) for number in range(120)]
    (found,) = audit_shortcuts(measured, labels, clusters=ids)
    assert "tells 'b' from its absence" in found.finding
    assert "'a'" not in found.finding
    assert 0.6 < found.roc_auc_score < 0.8


def test_an_audit_counts_every_label(folder):
    lines = [f"benign/{n}.png,{'x|y' if n % 2 else 'x'}\n" for n in range(6)]
    lines += [f"tumor/{n}.png,\n" for n in range(6, 12)]
    (folder / "manifest.csv").write_text("path,label\n" + "".join(lines))
    assert audit(read_manifest(folder / "manifest.csv")).classes == {"x": 6, "y": 3}
