"""What a DICOM header tells of the scanner instead of the patient."""

from datetime import date, datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

_FILES_TRIED = 8
_TAGS = (
    "Manufacturer",
    "ManufacturerModelName",
    "KVP",
    "ConvolutionKernel",
    "AcquisitionDate",
    "StudyDate",
)


def header_features(path: Path) -> dict[str, str | float]:
    """Read the fields of a DICOM header that a model could go by.

    Args:
        path: A DICOM file, or the folder of a series, whose first file by name is read.

    Returns:
        ``manufacturer``, ``kernel`` and ``kvp`` (kV) as words, ``date`` in days since the year 1; a
        missing field is left out. Empty for anything that is not DICOM.
    """
    files = sorted(path.iterdir())[:_FILES_TRIED] if path.is_dir() else [path]
    for file in files:
        try:
            header = pydicom.dcmread(file, specific_tags=list(_TAGS), stop_before_pixels=True)
        except (InvalidDicomError, OSError, EOFError):
            continue
        return _fields(header)
    return {}


def _fields(header: Dataset) -> dict[str, str | float]:
    """Bring the tags to words and numbers."""
    model = f"{header.get('Manufacturer') or ''} {header.get('ManufacturerModelName') or ''}"
    kernel = header.get("ConvolutionKernel") or ""
    kernel = kernel if isinstance(kernel, str) else "/".join(kernel)
    fields: dict[str, str | float] = {
        "manufacturer": " ".join(model.split()),
        "kernel": kernel.strip(),
    }
    kvp = header.get("KVP")
    fields["kvp"] = f"{float(kvp):g}" if kvp else ""
    day = _day(str(header.get("AcquisitionDate") or header.get("StudyDate") or ""))
    if day is not None:
        fields["date"] = float(day.toordinal())
    return {name: value for name, value in fields.items() if value != ""}


def _day(stamp: str) -> date | None:
    """Read a DICOM date; some are written with dots."""
    try:
        return datetime.strptime(stamp.replace(".", "")[:8], "%Y%m%d").date()  # noqa: DTZ007
    except ValueError:
        return None
