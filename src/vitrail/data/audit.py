"""``inspect``: what the data holds, and what would make a result worthless.

One pass over the files (decoded in threads, a bounded number at a time) measures each picture;
what is kept of it is a thumbnail of one kilobyte and some numbers. Then: files that cannot be read,
duplicates, leaks across a given split, shortcuts, and the fingerprint that the plan's rules read.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from vitrail.data.cohort import make_cohort
from vitrail.data.duplicates import Duplicate, Look, find_duplicates, look
from vitrail.data.features import encode_headers, features
from vitrail.data.header import header_features
from vitrail.data.raster import RasterInfo, read_stored, read_whole, scale
from vitrail.data.scan import is_scan
from vitrail.data.shortcuts import Shortcut, audit_shortcuts
from vitrail.data.split import clusters
from vitrail.data.survey import Survey, survey
from vitrail.data.workers import work_on
from vitrail.errors import DataError, InputError, LeakageError, UnreadableFileError, VitrailError
from vitrail.records import Case, Cohort, Progress, no_progress

_log = logging.getLogger("vitrail")

KINDS = {"exact": "duplicate", "near": "near-duplicate", "moved": "moved copy"}
"""What a leak by pictures is called; the others are called by their column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A case whose file cannot be used, and why."""

    case_id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that stands on both sides of the given split.

    Attributes:
        kind: ``patient``, ``group``, or that of a duplicate: ``exact``, ``near`` or ``moved``.
        name: The patient, the group, or the first case of the pair.
        splits: The parts it stands in.
        cases: Its cases.
    """

    kind: str
    name: str
    splits: tuple[str, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What ``audit.json`` holds; see the schema for each field."""

    cases: int
    classes: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[Duplicate, ...]
    leaks: tuple[Leak, ...]
    shortcuts: tuple[Shortcut, ...]
    fingerprint: dict[str, Any] = field(default_factory=dict)
    accepted_leakage: str = ""
    known_set: dict[str, Any] | None = None
    doubts: tuple[str, ...] = ()

    def readable(self, cohort: Cohort) -> Cohort:
        """Leave the unreadable cases out.

        Raises:
            DataError: If no case is left, or a class loses too many to be trained on.
        """
        if self.unreadable and len(self.unreadable) == len(cohort):
            first = self.unreadable[0]
            raise DataError(
                str(cohort.root),
                f"none of its {len(cohort)} cases can be read ({first.path}: {first.reason}; …)",
                "cases are left out one by one, not all of them",
                "mend the files, or check that this is the folder that is meant",
            )
        left_out = {case.case_id for case in self.unreadable}
        kept = (case for case in cohort if case.case_id not in left_out)
        return make_cohort(cohort.root, kept, source=str(cohort.root))

    def duplicate_pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of case ids that show the same picture, for `clusters`."""
        return [(pair.first, pair.second) for pair in self.duplicates]

    def accept_leakage(self, reason: str = "") -> "Audit":
        """Return the audit with the reason for going on in spite of its leaks.

        Raises:
            LeakageError: If there is a leak and no reason.
        """
        if self.leaks and not reason.strip():
            leak = self.leaks[0]
            kind, sides = KINDS.get(leak.kind, leak.kind), " and ".join(leak.splits)
            raise LeakageError(
                "the given split",
                f"{len(self.leaks)} leaks; {kind} {leak.name!r} is in {sides}",
                "a patient, a group and a duplicate stay on one side",
                'mend the split, drop its column, or pass --accept-leakage "reason"',
            )
        return replace(self, accepted_leakage=reason.strip() if self.leaks else "")

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``audit.json``."""
        return asdict(self)


def from_json(content: dict[str, Any]) -> Audit:
    """Build an audit back from the content of ``audit.json``."""
    leaks = (
        Leak(**{**leak, "splits": tuple(leak["splits"]), "cases": tuple(leak["cases"])})
        for leak in content["leaks"]
    )
    return Audit(
        **{
            **content,
            "unreadable": tuple(Unreadable(**row) for row in content["unreadable"]),
            "duplicates": tuple(Duplicate(**row) for row in content["duplicates"]),
            "leaks": tuple(leaks),
            "shortcuts": tuple(Shortcut(**row) for row in content["shortcuts"]),
            "doubts": tuple(content.get("doubts", ())),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What is kept of one picture."""

    case: Case
    info: RasterInfo
    look: Look
    features: dict[str, list[float]]
    header: dict[str, str | float]
    colored: bool
    volume: Survey | None = None


def _measure(case: Case, root: Path) -> _Measured | Unreadable:
    """Decode and measure one picture, or the picture that a volume makes."""
    path = root / case.path
    if is_scan(path):
        return _measure_scan(case, root)
    try:
        read = read_whole(path)
    except UnreadableFileError as error:
        return Unreadable(case_id=case.case_id, path=case.path, reason=error.came)
    wrong = _wrong_mask(root / case.mask, read.info) if case.mask else ""
    if wrong:
        return Unreadable(case_id=case.case_id, path=case.path, reason=f"mask {case.mask}: {wrong}")
    return _measured(case, read.info, stored=read.stored, content=read.content)


def _wrong_mask(path: Path, info: RasterInfo) -> str:
    """Say what is wrong with a picture's mask; empty where nothing is."""
    try:
        rows, columns = read_stored(path).shape[1:]
    except UnreadableFileError as error:
        return error.came
    if (rows, columns) == (info.height, info.width):
        return ""
    return f"{rows} x {columns} px over a picture of {info.height} x {info.width} px"


def _measure_scan(case: Case, root: Path) -> _Measured | Unreadable:
    """Read and measure one volume."""
    try:
        seen = survey(case, root)
    except (DataError, InputError, OSError) as error:
        reason = (
            f"{error.argument}: {error.came}" if isinstance(error, VitrailError) else str(error)
        )
        return Unreadable(case_id=case.case_id, path=case.path, reason=reason)
    measured = _measured(case, seen.info, stored=seen.picture, content=seen.content)
    return replace(measured, volume=seen, header=header_features(root / case.path))


def _measured(
    case: Case,
    info: RasterInfo,
    *,
    stored: Shaped[np.ndarray, "stored height width"],
    content: str,
) -> _Measured:
    """Measure what a picture shows; a grey one in one channel."""
    window = _window(stored)
    picture = scale(stored, channels=3 if len(stored) == 3 else 1, intensity_range=window)
    grey = picture.mean(axis=0)
    spread = picture.max(axis=0) - picture.min(axis=0)
    mean = np.broadcast_to(picture.mean(axis=(1, 2)), 3)
    return _Measured(
        case=case,
        info=info,
        look=look(grey, content=content),
        features=features(info, grey, color=mean),
        header={},
        colored=bool((spread > 0.06).mean() > 0.002),
    )


def _window(stored: Shaped[np.ndarray, "stored height width"]) -> tuple[float, float]:
    """Return the values that are shown as black and as white."""
    if stored.dtype == np.uint8:
        return 0.0, 255.0
    low, high = (float(value) for value in np.percentile(stored[:, ::4, ::4], [0.5, 99.5]))
    return low, high if high > low else low + 1


def audit(cohort: Cohort, *, progress: Progress = no_progress) -> Audit:
    """Look at every picture of a cohort.

    Args:
        cohort: The cases.
        progress: Told after each picture.

    Returns:
        What was found. Leaks are listed, not raised: `Audit.accept_leakage` raises.
    """
    measured: list[_Measured] = []
    unreadable: list[Unreadable] = []
    results = work_on(cohort, partial(_measure, root=cohort.root))
    for done, result in enumerate(results, 1):
        progress("reading pictures", done=done, total=len(cohort))
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            measured.append(result)
    if unreadable:
        _log.warning("%d pictures cannot be read and are left out", len(unreadable))
    cases = [item.case for item in measured]
    duplicates: list[Duplicate] = []
    shortcuts: list[Shortcut] = []
    if measured:
        duplicates = find_duplicates(
            [case.case_id for case in cases], [item.look for item in measured], progress=progress
        )
        # Two chests look alike at a thumbnail's size: of volumes only the same one counts.
        volumes = {item.case.case_id for item in measured if item.volume is not None}
        duplicates = [
            pair for pair in duplicates if pair.kind == "exact" or pair.first not in volumes
        ]
        together = clusters(cases, [(pair.first, pair.second) for pair in duplicates])
        shortcuts = audit_shortcuts(
            [
                item.features | header
                for item, header in zip(
                    measured, encode_headers([item.header for item in measured]), strict=True
                )
            ],
            [case.label for case in cases],
            clusters=[together[case.case_id] for case in cases],
        )
    count = Counter(name for case in cases for name in case.labels)
    return Audit(
        cases=len(cohort),
        classes={label: count[label] for label in cohort.classes},
        unreadable=tuple(unreadable),
        duplicates=tuple(duplicates),
        leaks=tuple(find_leaks(cases, duplicates)),
        shortcuts=tuple(shortcuts),
        fingerprint=_fingerprint(measured),
    )


def find_leaks(cases: Sequence[Case], duplicates: Sequence[Duplicate]) -> list[Leak]:
    """Name every patient, group and duplicate on both sides of the given split."""
    members: dict[tuple[str, str], list[Case]] = defaultdict(list)
    by_id = {case.case_id: case for case in cases}
    for case in cases:
        for kind, name in (("patient", case.patient_id), ("group", case.group)):
            if name and case.split:
                members[kind, name].append(case)
    for pair in duplicates:
        both = [by_id[pair.first], by_id[pair.second]]
        if all(case.split for case in both):
            members[pair.kind, f"{pair.first} = {pair.second}"] = both
    leaks = []
    for (kind, name), group in sorted(members.items()):
        splits = tuple(sorted({case.split for case in group}))
        if len(splits) > 1:
            ids = tuple(case.case_id for case in group)
            leaks.append(Leak(kind=kind, name=name, splits=splits, cases=ids))
    return leaks


def _range(values: Sequence[int] | Sequence[float]) -> dict[str, float]:
    return {
        "min": float(min(values)),
        "median": float(np.median(values)),
        "max": float(max(values)),
    }


def _fingerprint(measured: Sequence[_Measured]) -> dict[str, Any]:
    """Say what the plan's rules need to know of the data."""
    if not measured:
        return {}
    cases, infos = [item.case for item in measured], [item.info for item in measured]
    count = Counter(name for case in cases for name in case.labels)
    return {
        "cases": len(cases),
        "patients": len({case.patient_id for case in cases} - {""}),
        "without_patient": sum(not case.patient_id for case in cases),
        "groups": len({case.group for case in cases} - {""}),
        "sites": len({case.site for case in cases} - {""}),
        "masks": sum(bool(case.mask) for case in cases),
        "given_split": dict(sorted(Counter(case.split for case in cases if case.split).items())),
        "imbalance": max(count.values()) / min(count.values()),
        "height": _range([info.height for info in infos]),
        "width": _range([info.width for info in infos]),
        "aspect": _range([info.width / info.height for info in infos]),
        "file_bytes": _range([info.file_bytes for info in infos]),
        "total_bytes": sum(info.file_bytes for info in infos),
        "formats": dict(Counter(info.format for info in infos).most_common()),
        "modes": dict(Counter(info.mode for info in infos).most_common()),
        "bits": max(info.bits for info in infos),
        "colored": sum(item.colored for item in measured) / len(measured),
        "volumes": _volumes(measured),
        "sha256": sha256(
            "\n".join(sorted(item.look.content for item in measured)).encode()
        ).hexdigest(),
    }


def _volumes(measured: Sequence[_Measured]) -> dict[str, Any] | None:
    """Say what the plan's rules need to know of the volumes; None where the cases are pictures."""
    seen = {item.case.case_id: item.volume for item in measured if item.volume is not None}
    if not seen:
        return None
    each = list(seen.values())
    axes = ("slice", "row", "column")
    return {
        "cases": len(seen),
        "modalities": dict(Counter(one.modality or "unknown" for one in each).most_common()),
        "orientations": dict(Counter(one.orientation for one in each).most_common()),
        "slices": _range([one.slices for one in each]),
        "spacing_mm": {
            name: _range([one.spacing_mm[axis] for one in each]) for axis, name in enumerate(axes)
        },
        "short": [name for name, one in seen.items() if one.repeated],
    }
