"""Folders become a ``Cohort``: one row a case, checked before anything is trained.

A case is a picture or a volume: a NIfTI, NRRD or MetaImage file, or a folder that holds a DICOM
series (where it holds several, a file of the one that is meant).

One folder a class is read, or ``train``/``validation``/``test`` above them; pictures may lie
deeper; a folder ``masks`` beside the classes mirrors them. The other way in is a manifest, see
`vitrail.data.manifest`; the cohort of either is checked and kept here.

Hidden files are ignored; links are followed, each folder once. A case's id is its path without
the ending (with it, where two would be the same).
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import cast

from vitrail.data.raster import SUFFIXES
from vitrail.data.scan import holds_dicom, is_volume_file, list_scans, patient_of, scan_name
from vitrail.data.volume import ENDINGS
from vitrail.errors import DataError, RunFolderError, UnreadableFileError
from vitrail.records import Case, Cohort, SplitName, join_labels
from vitrail.runfolder import read_csv, read_json, write_csv, write_json

COLUMNS = ("case_id", "path", "label", "patient_id", "group", "site", "split", "mask")
"""The columns of ``cohort.csv``; those of the attributes stand behind them."""

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""What the parts of a split may be called in files and folders."""

NO_SPLIT: SplitName = ""
_MASKS = "masks"
_MOST_NUMBERS, _FEW_CASES = 10, 5
_log = logging.getLogger("vitrail")


def read_folder(root: Path, *, with_split: bool = True) -> Cohort:
    """Read a folder of pictures: one folder a class, or the parts of a split above the classes.

    Args:
        root: The folder.
        with_split: Whether the parts of a split are meant; else all cases are one set.

    Returns:
        The cohort, with ``split`` filled where the folders tell it and it is meant.

    Raises:
        DataError: If the folder is missing or empty, or the classes cannot be trained on.
    """
    files = list_pictures(root)
    root = root.resolve()
    masks = {path for path in files if PurePosixPath(path).parts[0].lower() == _MASKS}
    pictures = [path for path in files if path not in masks]
    _check_layout(root, pictures)
    given = all(PurePosixPath(path).parts[0].lower() in SPLIT_NAMES for path in pictures)
    cases = []
    for path, case_id in zip(pictures, case_ids(pictures), strict=True):
        parts = PurePosixPath(path).parts
        mask = _mask_of(path, masks)
        label, split = parts[0], NO_SPLIT
        if given:
            label, split = parts[1], SPLIT_NAMES[parts[0].lower()]
        patient = patient_in_header(root, path)
        cases.append(
            Case(
                case_id=case_id, path=path, label=label, split=split, mask=mask, patient_id=patient
            )
        )
    orphans = sorted(masks - {case.mask for case in cases})
    if orphans:
        _log.warning("%s: %d masks mirror no picture, %s for one", root, len(orphans), orphans[0])
    return make_cohort(root, cases, source=str(root), with_split=with_split)


def list_pictures(root: Path) -> list[str]:
    """List every picture below a folder, relative to it, whatever it shows.

    Raises:
        DataError: If the folder is missing, or a name in it is not UTF-8.
    """
    if not root.is_dir():
        raise DataError(
            str(root), "no such folder", "a folder of pictures is read", "check the path"
        )
    found = sorted(_pictures(root.resolve()))
    for path in found:
        if not path.isascii() and any("\udc80" <= letter <= "\udcff" for letter in path):
            raise DataError(
                repr(path),
                "a name that is not UTF-8",
                "names are kept in tables, which are UTF-8",
                "rename it, for example with: convmv -f latin1 -t utf-8",
            )
    return found


def _pictures(root: Path) -> Iterator[str]:
    """Yield every picture below ``root``, relative to it; each real folder is entered once."""
    entered: set[str] = set()
    skipped: Counter[str] = Counter()
    beside = 0
    for folder, names, files in os.walk(root, followlinks=True):
        entered.add(os.path.realpath(folder))
        names[:] = [
            name
            for name in sorted(names)
            if not name.startswith(".") and not _is_entered(Path(folder, name), entered)
        ]
        relative = PurePosixPath(Path(folder).relative_to(root).as_posix())
        if holds_dicom(Path(folder), files):
            if Path(folder) == root:
                raise DataError(
                    str(root),
                    "DICOM files in no class folder",
                    "one folder a class is read, and in it one folder a series",
                    "put each series into a folder of its own in its class's, or pass --manifest",
                )
            yield from (scan.relative_to(root).as_posix() for scan in _scans(Path(folder)))
            beside += sum(map(_is_case, files))
            continue
        for name in files:
            if name.startswith("."):
                continue
            if _is_case(name):
                yield str(relative / name)
            else:
                skipped[PurePosixPath(name).suffix.lower() or name] += 1
    for suffix, count in skipped.most_common():
        _log.info("%s: files ending in %s are not read; %d were left out", root, suffix, count)
    if beside:
        _log.warning("%s: %d pictures or volumes beside DICOM files were left out", root, beside)


def _scans(folder: Path) -> list[Path]:
    """List a folder's scans; where a file is broken all of them, for the audit to name it."""
    try:
        return list_scans(folder)
    except UnreadableFileError:
        return list_scans(folder, whole=False) or [folder]


def _is_case(name: str) -> bool:
    """Tell by its name whether a file is a picture, or a volume of its own."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES or is_volume_file(name)


def _is_entered(folder: Path, entered: set[str]) -> bool:
    """Tell whether a folder was read already, by another way that leads to it, and say so."""
    known = os.path.realpath(folder) in entered
    if known:
        _log.warning("%s: a link to a folder that is read already; it is left out", folder)
    return known


def _check_layout(root: Path, pictures: Sequence[str]) -> None:
    """Refuse an empty folder, loose pictures, and parts of a split beside other folders."""
    remedy = "put the pictures of each class into a folder of its name, or pass --manifest"
    rule = "one folder a class is read, or train/validation/test above the classes"
    if not pictures:
        raise DataError(str(root), "no pictures (PNG, JPEG, TIFF, BMP) in it", rule, remedy)
    depths = {path: len(PurePosixPath(path).parts) for path in pictures}
    tops = {PurePosixPath(path).parts[0] for path in pictures if depths[path] > 1}
    parts = {name for name in tops if name.lower() in SPLIT_NAMES}
    if parts and parts != tops:
        others = ", ".join(sorted(tops - parts)[:3])
        came = f"{', '.join(sorted(parts))} beside {others}"
        raise DataError(str(root), came, rule, remedy)
    loose = [path for path in pictures if depths[path] < (3 if parts else 2)]
    if loose:
        raise DataError(
            str(root), f"{len(loose)} pictures in no class folder ({loose[0]}, …)", rule, remedy
        )


def _mask_of(path: str, masks: set[str]) -> str:
    """Return the file below ``masks`` that mirrors ``path``, or an empty string."""
    mirrored = str(PurePosixPath(_MASKS) / path)
    stem = _stem(mirrored)
    endings = (".png", *ENDINGS)
    return next(
        (name for name in (mirrored, *(stem + ending for ending in endings)) if name in masks), ""
    )


def _stem(path: str) -> str:
    """Return a path without the ending of its format; a folder's name stays whole."""
    plain = PurePosixPath(path)
    return str(plain.with_suffix("")) if plain.suffix.lower() in SUFFIXES else scan_name(path)


def patient_in_header(root: Path, path: str) -> str:
    """Return the patient that a DICOM header names; empty for pictures and other volumes.

    Empty as well where the header cannot be read: the audit names the file.
    """
    if PurePosixPath(path).suffix.lower() in SUFFIXES:
        return ""
    try:
        return patient_of(root / path)
    except UnreadableFileError:
        return ""


def case_ids(paths: Sequence[str]) -> list[str]:
    """Drop each path's ending, unless two would become the same."""
    stems = [_stem(path) for path in paths]
    count = Counter(stems)
    return [path if count[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]


def canonical_label(label: str) -> str:
    """Write several labels in one way: each once, in order of name, with a bar."""
    return join_labels(sorted({name.strip() for name in label.split("|")} - {""}))


def plain_name(name: str) -> str:
    """Return what is left of a name where case, spaces and leading zeros do not count.

    Example:
        >>> [plain_name(name) for name in ("Ground-Glass", "ground glass", "1.0", "01", "-1")]
        ['ground glass', 'ground glass', '1', '1', '-1']
    """
    plain = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", name.strip().casefold())
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)
    return re.sub(r"(?<=\d)\.0+$", "", plain)


def with_several_labels(cohort: Cohort) -> Cohort:
    """Return a cohort with one label a case as one whose cases can have several."""
    cases = (replace(case, label=canonical_label(case.label)) for case in cohort)
    return replace(cohort, cases=tuple(cases))


def make_cohort(
    root: Path, cases: Iterable[Case], *, source: str, with_split: bool = True
) -> Cohort:
    """Order the cases, and refuse classes and splits that cannot be trained on."""
    ordered = tuple(sorted(cases, key=lambda case: case.case_id))
    if not with_split:
        ordered = tuple(replace(case, split=NO_SPLIT) for case in ordered)
    _refuse_measurements([case.label for case in ordered], source)
    count = Counter(name for case in ordered for name in case.labels)
    _refuse_namesakes(count, source)
    if len(count) < 2:
        raise DataError(
            source,
            f"one class only ({next(iter(count), '')!r})",
            "a classifier needs at least two classes",
            "add the pictures of another class",
        )
    everywhere = [name for name in sorted(count) if count[name] == len(ordered)]
    if everywhere:
        raise DataError(
            source,
            f"every case has the label {everywhere[0]!r}",
            "a label is learned from cases with it and cases without it",
            "drop the label, or add cases without it",
        )
    single = [label for label, cases_of in sorted(count.items()) if cases_of == 1]
    if single:
        raise DataError(
            source,
            f"class {single[0]!r} has one case",
            "a class needs cases to train on and others to test on",
            "add cases of it, or leave the class out",
        )
    _check_given_split(ordered, source)
    return Cohort(root=root, cases=ordered, classes=tuple(sorted(count)))


def _refuse_namesakes(names: Iterable[str], source: str) -> None:
    """Refuse one class under two names, such as ``Nodule`` and ``nodule``, or ``1`` and ``1.0``."""
    known: dict[str, str] = {}
    for name in sorted(names):
        other = known.setdefault(plain_name(name), name)
        if other != name:
            raise DataError(
                source,
                f"classes {other!r} and {name!r}",
                "classes differ in more than case, spaces and how a number is written",
                "write each class in one way",
            )


def _refuse_measurements(labels: Sequence[str], source: str) -> None:
    """Refuse a column of many distinct numbers: something was measured, no class was named."""
    try:
        values = {float(label) for label in labels}
    except ValueError:
        return
    whole = all(value.is_integer() for value in values)
    if len(values) > _MOST_NUMBERS and (not whole or len(labels) < _FEW_CASES * len(values)):
        raise DataError(
            source,
            f"{len(values)} different numbers as labels of {len(labels)} cases",
            "classes are learned; regression targets are not supported for now",
            "name classes by ranges of the number, for example low and high",
        )


def _check_given_split(cases: Sequence[Case], source: str) -> None:
    """Refuse a split given for some cases only, without a training part, or with new labels."""
    without = sum(not case.split for case in cases)
    if without == len(cases):
        return
    rule = "a given split names a part for every case, and trains on every label"
    if without:
        came = f"{without} of {len(cases)} cases have no split"
        raise DataError(source, came, rule, "fill the column, or drop it")
    trained = {name for case in cases if case.split == "train" for name in case.labels}
    for case in cases:
        unknown = [name for name in case.labels if name not in trained]
        if unknown:
            came = f"label {unknown[0]!r} is in {case.split} and not in train"
            raise DataError(source, came, rule, "mend the label, or drop its cases")


def write_cohort(path: Path, cohort: Cohort) -> None:
    """Write ``cohort.csv``, and beside it ``cohort.json`` with the root and the classes."""
    companion = {"root": str(cohort.root.resolve()), "classes": list(cohort.classes)}
    write_json(path.with_suffix(".json"), companion)
    further = sorted({name for case in cohort for name in case.attributes})
    rows = ({**asdict(case), **case.attributes} for case in cohort)
    kept = (*COLUMNS, *further)
    write_csv(path, ({name: row.get(name, "") for name in kept} for row in rows), header=kept)


def load_cohort(path: Path) -> Cohort:
    """Read back what `write_cohort` wrote.

    Raises:
        RunFolderError: If ``cohort.csv`` or ``cohort.json`` beside it is missing or damaged.
    """
    try:
        companion = read_json(path.with_suffix(".json"))
        rows = read_csv(path)
        cases = tuple(_loaded(row) for row in rows)
        classes = tuple(cast("dict[str, list[str]]", companion)["classes"])
        root = Path(cast("dict[str, str]", companion)["root"])
    except (OSError, TypeError, KeyError) as error:
        raise RunFolderError(
            str(path),
            f"it cannot be read ({error})",
            "inspect writes it",
            "repeat `vitrail inspect`",
        ) from error
    return Cohort(root=root, cases=cases, classes=classes)


def _loaded(row: Mapping[str, str]) -> Case:
    """Make a case of its row in ``cohort.csv``."""
    own = {name: value for name, value in row.items() if name in COLUMNS}
    further = {name: value for name, value in row.items() if value and name not in COLUMNS}
    return Case(**cast("dict[str, SplitName]", own), attributes=further)
