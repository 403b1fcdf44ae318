"""Where the cases come from: a folder, a manifest, or a file that holds many pictures."""

from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, cast

from vitrail.data.arrays import is_arrays, read_arrays
from vitrail.data.catalog import named_like
from vitrail.data.cohort import read_folder
from vitrail.data.huggingface import is_dataset, read_dataset
from vitrail.data.manifest import read_manifest
from vitrail.data.unpack import MANIFEST, ORIGIN, unpack
from vitrail.errors import RunFolderError
from vitrail.records import Cohort, Progress, no_progress
from vitrail.runfolder import read_json


def read_source(
    unpacked: Path,
    source: Path,
    *,
    manifest: Path | None = None,
    with_split: bool = True,
    progress: Progress = no_progress,
) -> Cohort:
    """Read the cases of a source, after unpacking them where need be.

    Args:
        unpacked: Folder that takes the pictures of a file that holds many.
        source: A folder of pictures; a ``.npz`` or ``.npy``; a folder of ``.npy``; a Parquet file
            or a data set folder of Hugging Face.
        manifest: A CSV that lists the cases; ``source`` is not read then.
        with_split: Whether the source's own split is meant; else all its cases are one set.
        progress: Told of each unpacked picture.

    Raises:
        DataError: If the source cannot be trained on.
        RunFolderError: If the folder holds the pictures of another source.
    """
    if manifest is not None:
        return read_manifest(manifest, with_split=with_split)
    if is_arrays(source) or (source.exists() and is_dataset(source)):
        return read_manifest(_unpack(unpacked, source, progress), with_split=with_split)
    return read_folder(source, with_split=with_split)


def _unpack(folder: Path, source: Path, progress: Progress) -> Path:
    """Unpack a source once; what is unpacked of it already is kept."""
    if is_arrays(source):
        card = named_like(source.stem)
        packed = read_arrays(source, names=card.labels if card else ())
    else:
        packed = read_dataset(source)
    digest = _digest(packed.files)
    origin = folder / ORIGIN
    if origin.exists():
        known = cast("dict[str, Any]", read_json(origin))
        if known["sha256"] != digest:
            raise RunFolderError(
                str(folder),
                f"it holds the pictures of {known['source']}, not those of {source.name}",
                "a folder of unpacked pictures belongs to one source",
                "pass another --out; of an external set, delete the folder",
            )
        return folder / MANIFEST
    unpack(
        packed,
        folder,
        origin={"source": source.name, "sha256": digest, "cases": packed.count},
        progress=progress,
    )
    return folder / MANIFEST


def _digest(files: Sequence[Path]) -> str:
    """Hash the names and contents of files."""
    digest = sha256()
    for file in files:
        with file.open("rb") as stream:
            content = file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.name}\0{content}\n".encode())
    return digest.hexdigest()
