"""Scans: files and folders that hold a volume, under one name for all formats.

A scan is a NIfTI, NRRD or MetaImage file, a folder that holds one DICOM series, or, where a folder
holds several, any file of the series that is meant.
"""

import os
from hashlib import sha256
from pathlib import Path

from vitrail.data import dicom
from vitrail.data.raster import SUFFIXES
from vitrail.data.volume import ENDINGS, Volume, read_image
from vitrail.errors import DataError
from vitrail.records import Progress, no_progress


def is_volume_file(name: str) -> bool:
    """Tell by its name whether a file is a volume of its own."""
    return name.lower().endswith(ENDINGS)


def is_scan(path: Path) -> bool:
    """Tell whether a path is a scan: by name, and for other names by DICOM's mark."""
    if is_volume_file(path.name):
        return True
    if path.suffix.lower() in SUFFIXES:
        return False
    return path.is_dir() or path.suffix.lower() in dicom.ENDINGS or dicom.is_dicom(path)


def scan_name(path: str) -> str:
    """Return a scan's path without the ending of its format; a folder's name stays whole."""
    for ending in sorted((*ENDINGS, *dicom.ENDINGS), key=len, reverse=True):
        if path.lower().endswith(ending):
            return path[: -len(ending)]
    return path


def holds_dicom(folder: Path, names: list[str]) -> bool:
    """Tell whether any file of a folder is DICOM."""
    return any(
        Path(name).suffix.lower() in dicom.ENDINGS
        or (
            Path(name).suffix.lower() not in SUFFIXES
            and not is_volume_file(name)
            and dicom.is_dicom(folder / name)
        )
        for name in names
    )


def list_scans(folder: Path, *, whole: bool = True) -> list[Path]:
    """List the scans that a folder's DICOM files make: itself, or a file of each series.

    Args:
        folder: Holds the files.
        whole: Whether every file has to be readable; else a broken one is named when a scan of the
            folder is read.

    Raises:
        UnreadableFileError: If a file claims to be DICOM and is not.
    """
    series = dicom.list_series(folder, whole=whole)
    return [folder] if len(series) == 1 else [files[0] for files in series.values()]


def find_scans(path: Path) -> list[Path]:
    """List every scan at and below a path, in order of name."""
    if not path.is_dir():
        return [path] if is_scan(path) else []
    found: list[Path] = []
    for folder, names, files in os.walk(path):
        names.sort()
        if holds_dicom(Path(folder), files):
            found += list_scans(Path(folder))
        found += [Path(folder, name) for name in sorted(files) if is_volume_file(name)]
    return found


def read_scan(path: Path, *, progress: Progress = no_progress) -> Volume:
    """Read a scan.

    Args:
        path: A volume file, a folder of one DICOM series, or a file of the series that is meant.
        progress: Told after each file of a series.

    Raises:
        DataError: If there is no such scan, or its slices form no volume.
        UnreadableFileError: If a file of it cannot be used.
    """
    if is_volume_file(path.name) and path.is_file():
        return read_image(path)
    if path.is_dir():
        return dicom.read_series(path, progress=progress)
    if not path.is_file():
        raise DataError(str(path), "nothing there", "a scan is a file or a folder", "mend the path")
    series = str(dicom.read_header(path).get("SeriesInstanceUID", ""))
    return dicom.read_series(path.parent, series=series, progress=progress)


def patient_of(path: Path) -> str:
    """Return the PatientID (0010,0020) of a DICOM scan; empty for other formats."""
    return _of_header(path, "PatientID")


def study_of(path: Path) -> str:
    """Return the StudyInstanceUID (0020,000D) of a DICOM scan; empty for other formats."""
    return _of_header(path, "StudyInstanceUID")


def _of_header(path: Path, tag: str) -> str:
    """Return what a scan's first DICOM file says under a tag; empty where nothing."""
    if is_volume_file(path.name):
        return ""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    first = next((file for file in files if dicom.is_dicom(file)), None)
    if first is None:
        return ""
    return str(dicom.read_header(first).get(tag, "") or "").strip()


def scan_files(path: Path) -> list[Path]:
    """List the files that a scan may be made of: itself, or those of its folder."""
    if is_volume_file(path.name):
        return [path]
    folder = path if path.is_dir() else path.parent
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_file())


def scan_bytes(path: Path) -> int:
    """Return the size of a scan's files."""
    return sum(file.stat().st_size for file in scan_files(path))


def scan_stamp(path: Path) -> str:
    """Name the state of a scan's files by their names, sizes and times, without reading them."""
    digest = sha256(str(path.absolute()).encode())
    for file in scan_files(path):
        status = file.stat()
        digest.update(repr((file.name, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """Hash what a file, or all files of a scan's folder, hold."""
    digest = sha256()
    for file in scan_files(path) if path.is_dir() else [path]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
