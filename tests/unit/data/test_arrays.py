import zipfile

import numpy as np
import pytest

from vitrail.data.arrays import is_arrays, read_arrays
from vitrail.data.manifest import read_manifest
from vitrail.data.raster import read_stored
from vitrail.data.unpack import unpack
from vitrail.errors import DataError, UnreadableFileError


def pictures(count, *shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 255, size=(count, *shape)).astype(dtype)


def medmnist(path, *, labels=None, shape=(28, 28, 3)):
    labels = labels or (lambda count: (np.arange(count) % 3)[:, None].astype(np.uint8))
    arrays = {}
    for seed, (part, count) in enumerate({"train": 9, "val": 6, "test": 6}.items()):
        arrays[f"{part}_images"] = pictures(count, *shape, seed=seed)
        arrays[f"{part}_labels"] = labels(count)
    np.savez_compressed(path, **arrays)
    return arrays


def unpacked(path, folder, **options):
    unpack(read_arrays(path, **options), folder, origin={})
    return read_manifest(folder / "manifest.csv")


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_a_medmnist_file_becomes_pictures_with_its_split_without_loss(tmp_path, shape):
    arrays = medmnist(tmp_path / "x.npz", shape=shape)
    cohort = unpacked(tmp_path / "x.npz", tmp_path / "out", names=["adipose", "debris", "mucus"])
    assert cohort.classes == ("adipose", "debris", "mucus")
    assert [case.split for case in cohort].count("validation") == 6
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        cases = [case for case in cohort if case.split == part]
        for case, expected in zip(cases, arrays[f"{name}_images"], strict=True):
            stored = read_stored(tmp_path / "out" / case.path)
            assert np.array_equal(np.moveaxis(stored, 0, -1).reshape(expected.shape), expected)


def test_rows_of_several_labels_are_named_and_none_is_a_bar(tmp_path):
    rows = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=np.uint8)
    medmnist(tmp_path / "x.npz", labels=lambda count: np.resize(rows, (count, 3)))
    cohort = unpacked(tmp_path / "x.npz", tmp_path / "out", names=["a", "b", "c|d"])
    assert cohort.multi_label
    assert {case.label for case in cohort} == {"a|c/d", "|", "b|"}


def test_one_hot_rows_are_one_class_each(tmp_path):
    medmnist(tmp_path / "x.npz", labels=lambda count: np.eye(2)[np.arange(count) % 2])
    assert unpacked(tmp_path / "x.npz", tmp_path / "out").classes == ("0", "1")


def test_arrays_of_a_folder_belong_together_by_their_names(tmp_path):
    source = tmp_path / "arrays"
    source.mkdir()
    for part, count in (("train", 8), ("test", 4)):
        np.save(source / f"x_{part}.npy", pictures(count, 1, 12, 10, seed=count))
        np.save(source / f"y_{part}.npy", np.array(["benign", "tumor"] * (count // 2)))
    assert is_arrays(source)
    cohort = unpacked(source, tmp_path / "out")
    assert {case.split for case in cohort} == {"train", "test"}
    assert read_stored(tmp_path / "out" / cohort.cases[0].path).shape == (1, 12, 10)
    assert len(unpacked(source / "x_train.npy", tmp_path / "one")) == 8


@pytest.mark.parametrize(
    ("dtype", "suffix"), [(np.uint16, ".png"), (np.float32, ".tif"), (np.float64, ".tif")]
)
def test_deep_values_are_kept(tmp_path, dtype, suffix):
    values = (pictures(4, 9, 7) * 200).astype(dtype) / (1 if dtype == np.uint16 else 7)
    np.save(tmp_path / "images.npy", values.astype(dtype))
    np.save(tmp_path / "labels.npy", np.array([0, 1, 0, 1]))
    cohort = unpacked(tmp_path / "images.npy", tmp_path / "out")
    assert cohort.cases[0].path.endswith(suffix)
    stored = read_stored(tmp_path / "out" / cohort.cases[2].path)
    assert np.allclose(stored[0], values[2], rtol=1e-6)


def test_class_names_may_stand_in_the_file(tmp_path):
    np.savez(
        tmp_path / "x.npz",
        x=pictures(4, 8, 8),
        y=np.array([1.0, 0.0, 1.0, 0.0]),
        classes=np.array(["clear", "nodule"]),
    )
    assert unpacked(tmp_path / "x.npz", tmp_path / "out").classes == ("clear", "nodule")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": pictures(4, 8, 8)}, "no array 'labels'"),
        ({"data": pictures(4, 8, 8)}, "pictures are an array named images"),
        ({"x": pictures(4, 8, 8), "y": np.zeros(3)}, "3 labels for 4 pictures"),
        ({"x": pictures(4, 28, 28, 28), "y": np.zeros(4)}, "volumes are read as DICOM"),
        ({"x": pictures(4, 8, 8, dtype=np.int64), "y": np.zeros(4)}, "astype"),
        ({"x": pictures(4, 8, 8, 3, dtype=np.float32), "y": np.zeros(4)}, "colors of 8 bits"),
        ({"x": pictures(4, 8, 8), "y": np.full((4, 2), 7)}, "not all 0 or 1"),
    ],
)
def test_arrays_that_cannot_be_read_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_arrays(tmp_path / "x.npz")


def test_pickled_objects_are_refused_unread(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}] * 4, dtype=object), allow_pickle=True)
    np.save(tmp_path / "y.npy", np.zeros(4))
    with pytest.raises(UnreadableFileError, match=r"x\.npy: pickled objects"):
        read_arrays(tmp_path / "x.npy")


@pytest.mark.parametrize("kept", [10, 0.5])
def test_a_truncated_file_is_named_and_nothing_stays(tmp_path, kept):
    medmnist(tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: kept if kept > 1 else int(len(whole) * kept)])
    with pytest.raises(UnreadableFileError, match=r"x\.npz"):
        unpacked(tmp_path / "x.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_array_and_damaged_pixels_leave_nothing(tmp_path):
    np.save(tmp_path / "y.npy", np.array([0, 1, 0, 1]))
    np.save(tmp_path / "x.npy", pictures(4, 8, 8))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-10])
    with pytest.raises(UnreadableFileError, match="it ends at item 3 of 4"):
        unpacked(tmp_path / "x.npy", tmp_path / "out")
    values = pictures(4, 8, 8).astype(np.float32)
    values[2, 3, 3] = np.nan
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(UnreadableFileError, match="NaN or infinite pixels in item 2"):
        unpacked(tmp_path / "x.npy", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "y.npy"]


def test_a_bomb_is_refused_before_anything_is_unpacked(tmp_path):
    header = np.lib.format
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (4, 10_000, 10_000_000)}
            header.write_array_header_1_0(stream, shape)
        with archive.open("labels.npy", "w") as stream:
            header.write_array(stream, np.zeros(4))
    with pytest.raises(DataError, match="pixels a picture"):
        read_arrays(tmp_path / "x.npz")


def test_a_disk_without_room_is_told_before_unpacking(tmp_path, monkeypatch):
    medmnist(tmp_path / "x.npz")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="1000 bytes are free"):
        unpacked(tmp_path / "x.npz", tmp_path / "out")
