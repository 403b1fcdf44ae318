"""Pictures out of a file that holds many: written one a file, without loss, with a manifest.

What comes after reads files only. Encoded pictures are written byte for byte; arrays become PNG (8
bits, or 16 of grey) or, where they hold floats, TIFF. The folder appears whole or not at all.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from vitrail.data.cohort import NO_SPLIT
from vitrail.data.raster import SUFFIXES
from vitrail.errors import DataError
from vitrail.records import Progress, SplitName, no_progress
from vitrail.runfolder import file_name, write_csv, write_json, writing_folder

MANIFEST, ORIGIN = "manifest.csv", "source.json"
_MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCase:
    """One case of a file that holds many.

    Attributes:
        picture: An encoded picture's bytes, or pixels: [height, width] of uint8, uint16 or
            float32, or [height, width, 3 or 4] of uint8.
        label: As in a manifest.
        split: The given part, empty where none is given.
        name: What the picture was called, empty where nothing tells.
        patient: As in a manifest.
        group: As in a manifest.
        site: As in a manifest.
    """

    picture: bytes | Shaped[np.ndarray, "height width *channel"]
    label: str
    split: SplitName = NO_SPLIT
    name: str = ""
    patient: str = ""
    group: str = ""
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A file, or a folder of files, that holds many pictures.

    Attributes:
        cases: Read one after the other.
        count: Number of them.
        file_bytes: Room that the pictures take at most.
        files: Where they come from.
    """

    cases: Iterator[PackedCase]
    count: int
    file_bytes: int
    files: tuple[Path, ...]


def unpack(
    packed: Packed,
    folder: Path,
    *,
    origin: Mapping[str, object],
    progress: Progress = no_progress,
) -> None:
    """Write every picture into a folder, ``<part>/<number>-<name>.<ending>``, and a manifest.

    Args:
        packed: The pictures.
        folder: The folder; nothing may be there.
        origin: What ``source.json`` beside the manifest is to say.
        progress: Told of each picture.

    Raises:
        DataError: If the disk has no room for them.
        UnreadableFileError: If the source is broken; nothing stays then.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if packed.file_bytes > free:
        raise DataError(
            str(folder),
            f"{packed.file_bytes} bytes to unpack",
            f"{free} bytes are free on that disk",
            "make room, or pass an --out on another disk",
        )
    with writing_folder(folder) as unfinished:
        cases = _written(packed, unfinished, progress)
        header = ("path", "label", "patient", "group", "site", "split")
        write_csv(unfinished / MANIFEST, cases, header=header)
        write_json(unfinished / ORIGIN, origin)


def _written(packed: Packed, folder: Path, progress: Progress) -> Iterable[dict[str, str]]:
    """Write the pictures, and yield their rows of the manifest."""
    digits = len(str(packed.count))
    for number, case in enumerate(packed.cases):
        content, suffix = _encoded(case)
        stem = Path(case.name).stem if case.name else ""
        name = f"{number:0{digits}}{'-' if stem else ''}{file_name(stem)}{suffix}"
        path = folder / (case.split or "pictures") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        row = {key: value for key, value in asdict(case).items() if key not in ("picture", "name")}
        progress("unpacking pictures", done=number + 1, total=packed.count)
        yield {**row, "path": path.relative_to(folder).as_posix()}


def _encoded(case: PackedCase) -> tuple[bytes, str]:
    """Return a picture as a file's bytes, and the file's ending."""
    if isinstance(case.picture, bytes):
        known = (suffix for magic, suffix in _MAGIC.items() if case.picture.startswith(magic))
        named = Path(case.name).suffix.lower()
        return case.picture, next(known, named if named in SUFFIXES else ".png")
    stream = BytesIO()
    image = Image.fromarray(case.picture)
    if case.picture.dtype.kind == "f":
        image.save(stream, format="TIFF")
        return stream.getvalue(), ".tif"
    image.save(stream, format="PNG", compress_level=1)
    return stream.getvalue(), ".png"
