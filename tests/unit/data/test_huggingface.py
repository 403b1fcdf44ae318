import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vitrail.data import extras
from vitrail.data.huggingface import is_dataset, read_dataset
from vitrail.data.manifest import read_manifest
from vitrail.data.unpack import unpack
from vitrail.errors import DataError, MissingExtraError, UnreadableFileError

CLASSES = {"names": ["healthy", "rust"], "_type": "ClassLabel"}


def encoded(seed, kind="JPEG"):
    values = np.random.default_rng(seed).integers(0, 255, size=(8, 9, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format=kind)
    return stream.getvalue()


def table(count, *, label="labels", feature=CLASSES, values=None, kind="JPEG", **columns):
    pictures = [{"bytes": encoded(n, kind), "path": f"leaf_{n}.x"} for n in range(count)]
    values = values or [n % 2 for n in range(count)]
    stored = pa.table({"image": pictures, label: values, **columns})
    features = {"image": {"_type": "Image"}, label: feature}
    about = {"info": {"features": features if feature else {}}}
    return stored.replace_schema_metadata({"huggingface": json.dumps(about)} if feature else {})


def save_to_disk(folder, stored):
    folder.mkdir(parents=True)
    file = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, stored.schema) as stream:
        stream.write_table(stored, max_chunksize=3)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))


def unpacked(path, folder):
    unpack(read_dataset(path), folder, origin={})
    return read_manifest(folder / "manifest.csv")


def test_a_saved_data_set_keeps_bytes_names_and_split(tmp_path):
    for part, count in (("train", 8), ("validation", 4), ("test", 4)):
        save_to_disk(tmp_path / "beans" / part, table(count))
    assert is_dataset(tmp_path / "beans")
    cohort = unpacked(tmp_path / "beans", tmp_path / "out")
    assert cohort.classes == ("healthy", "rust")
    assert {case.split for case in cohort} == {"train", "validation", "test"}
    case = next(case for case in cohort if case.split == "train" and "leaf_5" in case.path)
    assert case.path.endswith(".jpg")
    assert (tmp_path / "out" / case.path).read_bytes() == encoded(5)


def test_parquet_files_tell_the_split_by_their_names(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    for part in ("train", "test"):
        stored = table(6, patient_id=[f"P{n // 2}" for n in range(6)], kind="PNG")
        pq.write_table(stored, tmp_path / "set" / "data" / f"{part}-00000-of-00001.parquet")
    cohort = unpacked(tmp_path / "set", tmp_path / "out")
    assert {case.split for case in cohort} == {"train", "test"}
    assert {case.patient_id for case in cohort} == {"P0", "P1", "P2"}
    assert cohort.cases[0].path.endswith(".png")


def test_a_sequence_of_labels_is_several_labels_a_case(tmp_path):
    feature = {"feature": CLASSES, "_type": "Sequence"}
    pq.write_table(table(4, feature=feature, values=[[0, 1], [], [1], [0]]), tmp_path / "x.parquet")
    cohort = unpacked(tmp_path / "x.parquet", tmp_path / "out")
    assert [case.label for case in cohort] == ["healthy|rust", "|", "rust|", "healthy|"]


def test_without_features_names_and_types_decide(tmp_path):
    stored = table(4, label="label", feature=None, values=["a", "b", "a", "b"])
    pq.write_table(stored, tmp_path / "x.parquet")
    assert unpacked(tmp_path / "x.parquet", tmp_path / "out").classes == ("a", "b")


def test_a_table_without_pictures_or_with_two_label_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns that may hold pictures: none"):
        unpacked(tmp_path / "a.parquet", tmp_path / "out")
    both = table(4, label="label", feature=None, labels=[0, 1, 0, 1])
    pq.write_table(both, tmp_path / "b.parquet")
    with pytest.raises(DataError, match="columns that may hold labels: label, labels"):
        unpacked(tmp_path / "b.parquet", tmp_path / "out")


def test_pictures_that_lie_elsewhere_are_refused(tmp_path):
    rows = pa.table({"image": [{"bytes": None, "path": "/etc/x.png"}], "label": [0]})
    rows = rows.set_column(
        0,
        "image",
        pa.array(rows["image"].to_pylist(), pa.struct({"bytes": pa.binary(), "path": pa.string()})),
    )
    pq.write_table(rows, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no bytes for /etc/x"):
        unpacked(tmp_path / "x.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_a_truncated_file_is_named_and_nothing_stays(tmp_path, kind):
    if kind == "arrow":
        save_to_disk(tmp_path / "set", table(9))
        source, file = tmp_path / "set", tmp_path / "set" / "data-00000-of-00001.arrow"
    else:
        source = file = tmp_path / "x.parquet"
        pq.write_table(table(9), file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UnreadableFileError, match=file.name):
        unpacked(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    pq.write_table(table(4), tmp_path / "x.parquet")

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'vitrail\[hf\]'"):
        read_dataset(tmp_path / "x.parquet")
