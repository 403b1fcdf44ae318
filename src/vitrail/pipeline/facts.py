"""The data's fingerprint in the form that the plan's rules look at."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from vitrail.data.scan import is_scan, scan_bytes
from vitrail.records import Cohort, SplitName


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the data before anything is chosen.

    Attributes:
        cases: Number of cases in each part of the split (of its first fold).
        folds: Number of folds.
        unlabeled: Number of pictures without labels to pretrain on.
        train_counts: Number of training cases of each class.
        short_side_px: The shorter of the median height and the median width.
        aspect_spread: Largest over smallest width / height; 1 where all are alike.
        color: Whether pictures have color.
        bits: Largest number of bits of a stored value.
        intensity_range: Stored values that become 0 and 1 where there are more than 8 bits.
        multi_label: Whether a case can have several labels.
        volumes: What the audit says of volumes; None where the cases are pictures.
    """

    cases: Mapping[SplitName, int]
    train_counts: Mapping[str, int]
    short_side_px: int
    aspect_spread: float
    color: bool
    bits: int
    intensity_range: tuple[float, float] | None = None
    folds: int = 1
    multi_label: bool = False
    unlabeled: int = 0
    volumes: Mapping[str, Any] | None = None


def gather(
    cohort: Cohort,
    split: Mapping[str, SplitName],
    *,
    fingerprint: Mapping[str, Any],
    folds: int = 1,
) -> Facts:
    """Read the facts off the split and the audit; what pixels are like is measured elsewhere.

    Args:
        cohort: Readable cases.
        split: The part of each case (in the first fold).
        fingerprint: ``fingerprint`` of ``audit.json``.
        folds: Number of folds.
    """
    train = [name for case in cohort if split[case.case_id] == "train" for name in case.labels]
    volumes = fingerprint.get("volumes")
    color = fingerprint["colored"] > 0.05
    return Facts(
        cases=Counter(split[case.case_id] for case in cohort),
        train_counts={name: train.count(name) for name in cohort.classes},
        short_side_px=int(min(fingerprint["height"]["median"], fingerprint["width"]["median"])),
        aspect_spread=(
            1.0 if volumes else fingerprint["aspect"]["max"] / fingerprint["aspect"]["min"]
        ),
        color=color,
        bits=fingerprint["bits"],
        folds=folds,
        multi_label=cohort.multi_label,
        volumes=volumes and {**volumes, "masks": fingerprint["masks"]},
    )


def data_fingerprint(cohort: Cohort) -> str:
    """Hash the rows of a cohort and the sizes of its files: whether it is the same data."""
    digest = sha256()
    for case in cohort:
        size = _size(cohort.root / case.path)
        row = (case.case_id, case.path, case.label, case.patient_id, case.group, case.split)
        digest.update(repr((*row, size)).encode())
    return digest.hexdigest()


def _size(path: Path) -> int:
    """Return the bytes of a picture or scan; -1 where they cannot be reached."""
    try:
        return scan_bytes(path) if is_scan(path) else path.stat().st_size
    except OSError:  # a dead link, for one; the audit names it
        return -1
