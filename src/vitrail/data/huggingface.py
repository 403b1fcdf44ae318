"""Data set folders of Hugging Face on disk: what ``save_to_disk`` wrote (Arrow), or Parquet files.

Nothing is downloaded and no code of a data set runs; the files are read with pyarrow (extra
``hf``). Pictures are the column of the feature ``Image``, else the one that holds ``bytes``. Labels
are the column of the feature ``ClassLabel``, or of a sequence of it where a case can have several,
else the column ``label`` or ``labels``. Encoded pictures are taken byte for byte. Columns named
``patient``, ``group`` and ``site`` are kept.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.data.cohort import NO_SPLIT, SPLIT_NAMES
from vitrail.data.extras import load
from vitrail.data.unpack import Packed, PackedCase
from vitrail.errors import DataError, UnreadableFileError
from vitrail.records import SplitName, join_labels

_BATCH = 64
_LABELS = ("label", "labels")
_KEPT = {"patient": "patient", "patient_id": "patient", "group": "group", "site": "site"}


def is_dataset(path: Path) -> bool:
    """Tell whether a path is a Parquet file or a data set folder of Hugging Face."""
    if path.is_file():
        return path.suffix.lower() == ".parquet"
    return path.is_dir() and bool(_arrow_folders(path) or _parquet_files(path))


def read_dataset(path: Path) -> Packed:
    """Open a data set folder, or one Parquet file.

    Args:
        path: The folder or file.

    Returns:
        The cases, with the split that folders or file names tell.

    Raises:
        DataError: If no column holds pictures or labels, or more than one might.
        MissingExtraError: If pyarrow is not installed.
        UnreadableFileError: If a file is broken.
    """
    tables = [_Table(file, split) for file, split in _files(path)]
    count = sum(table.count() for table in tables)
    return Packed(
        cases=(case for table in tables for case in table.cases()),
        count=count,
        files=tuple(table.file for table in tables),
        file_bytes=sum(table.file.stat().st_size for table in tables),
    )


def _arrow_folders(path: Path) -> list[Path]:
    """List the folders that ``save_to_disk`` wrote: this one, or one a part of the split."""
    folders = [path, *(folder for folder in sorted(path.iterdir()) if folder.is_dir())]
    return [folder for folder in folders if (folder / "state.json").is_file()]


def _parquet_files(path: Path) -> list[Path]:
    """List the Parquet files of a folder and of the folders in it."""
    return sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])


def _files(path: Path) -> Iterator[tuple[Path, SplitName]]:
    """Yield the files of a data set with the part of the split that each belongs to."""
    if path.is_file():
        yield path, _split_of(path.stem)
        return
    folders = _arrow_folders(path)
    for folder in folders:
        for name in _state_files(folder / "state.json"):
            yield folder / name, NO_SPLIT if folder == path else _split_of(folder.name)
    for file in _parquet_files(path) if not folders else ():
        yield file, _split_of(file.relative_to(path).with_suffix("").as_posix())


def _state_files(path: Path) -> list[str]:
    """Read which files a part of a data set is made of; they lie beside its ``state.json``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [Path(one["filename"]).name for one in content["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFileError(
            str(path), str(error), "save_to_disk lists its files there", "copy the folder again"
        ) from error


def _split_of(name: str) -> SplitName:
    """Read the part of a split off the words of a file's or folder's name."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), NO_SPLIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Which columns hold what.

    Attributes:
        picture: The pictures.
        label: The labels.
        names: Class names in the order of their numbers; empty where labels are words already.
        kept: Column of the manifest for each column that is kept.
    """

    picture: str
    label: str
    names: tuple[str, ...]
    kept: Mapping[str, str]


class _Table:
    """One Arrow or Parquet file."""

    def __init__(self, file: Path, split: SplitName) -> None:
        self.file, self.split = file, split
        self.pyarrow = load("pyarrow", extra="hf", wanted_for="reading Arrow and Parquet files")
        self.parquet = load("pyarrow.parquet", extra="hf", wanted_for="reading Parquet files")

    def count(self) -> int:
        """Count the cases."""
        if self.file.suffix.lower() == ".parquet":
            return int(self._opened(self.parquet.ParquetFile, str(self.file)).metadata.num_rows)
        return sum(len(batch) for batch in self._batches())

    def cases(self) -> Iterator[PackedCase]:
        """Read one case after the other."""
        columns: _Columns | None = None
        for batch in self._batches():
            columns = columns or _columns(self.file, batch.schema)
            for row in batch.to_pylist():
                yield self._case(row, columns)

    def _opened(self, function: Any, *arguments: Any) -> Any:
        """Call a reader of pyarrow; its error names the file."""
        try:
            return function(*arguments)
        except (self.pyarrow.ArrowException, OSError) as error:
            raise UnreadableFileError(
                str(self.file), str(error), "a whole file is needed", "copy or download it again"
            ) from error

    def _batches(self) -> Iterator[Any]:
        """Yield some rows at a time."""
        if self.file.suffix.lower() == ".parquet":
            with self._opened(self.parquet.ParquetFile, str(self.file)) as stored:
                rows = stored.iter_batches(batch_size=_BATCH)
                while (batch := self._opened(next, rows, None)) is not None:
                    yield batch
            return
        with self._opened(self.pyarrow.memory_map, str(self.file)) as stored:
            stream = self._opened(self.pyarrow.ipc.open_stream, stored)
            while (batch := self._opened(next, stream, None)) is not None:
                yield batch

    def _case(self, row: Mapping[str, Any], columns: _Columns) -> PackedCase:
        """Make a case of a row."""
        picture = row[columns.picture]
        content, name = picture, ""
        if isinstance(picture, Mapping):
            content, name = picture.get("bytes"), picture.get("path") or ""
        if not isinstance(content, bytes):
            raise DataError(
                f"{self.file}, column {columns.picture}",
                f"no bytes for {name or 'a picture'}",
                "pictures are stored in the file",
                "write it again with embedded pictures (save_to_disk and to_parquet do so)",
            )
        return PackedCase(
            picture=content,
            label=_label(row[columns.label], columns.names),
            split=self.split,
            name=name,
            **{own: str(row[theirs] or "") for theirs, own in columns.kept.items()},
        )


def _columns(file: Path, schema: Any) -> _Columns:
    """Find the columns by their features, else by their names and types."""
    stated = (schema.metadata or {}).get(b"huggingface")
    features: Mapping[str, Any] = json.loads(stated)["info"]["features"] if stated else {}
    typed = [name for name, one in features.items() if _kind(one) == "Image"]
    holding = [field.name for field in schema if _holds_bytes(field.type)]
    classes = [name for name, one in features.items() if _class_names(one)]
    named = [name for name in _LABELS if name in schema.names]
    label = _only(file, "labels", classes or named)
    return _Columns(
        picture=_only(file, "pictures", typed or holding),
        label=label,
        names=tuple(name.replace("|", "/") for name in _class_names(features.get(label))),
        kept={name: own for name, own in _KEPT.items() if name in schema.names},
    )


def _only(file: Path, what: str, found: Sequence[str]) -> str:
    """Return the one column that fits."""
    if len(found) != 1:
        raise DataError(
            str(file),
            f"columns that may hold {what}: {', '.join(found) or 'none'}",
            f"one column holds the {what}",
            "leave the others out, or rename the column to image or label",
        )
    return found[0]


def _kind(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, Mapping) else ""


def _holds_bytes(kind: Any) -> bool:
    """Tell whether a column's type is bytes, or a record with bytes."""
    words = str(kind)
    return words in ("binary", "large_binary") or words.startswith("struct<bytes: ")


def _class_names(feature: Any) -> list[str]:
    """Return the class names of a feature, or of the one that it is a sequence of."""
    if isinstance(feature, list) and feature:
        return _class_names(feature[0])
    if _kind(feature) in ("Sequence", "List", "LargeList"):
        return _class_names(feature.get("feature"))
    return list(feature.get("names") or []) if _kind(feature) == "ClassLabel" else []


def _label(value: Any, names: Sequence[str]) -> str:
    """Write a label as a manifest has it."""
    if isinstance(value, list):
        return join_labels([_label(one, names) for one in value])
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return "" if value is None else str(value)
