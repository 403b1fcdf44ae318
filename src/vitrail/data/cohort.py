"""Folders and manifests become a ``Cohort``: one row a case, checked before anything is trained.

A case is a picture or a volume: a NIfTI, NRRD or MetaImage file, or a folder that holds a DICOM
series (where it holds several, a file of the one that is meant).

Two ways in. *A folder*: one folder a class, or ``train``/``validation``/``test`` above them;
pictures may lie deeper; a folder ``masks`` beside the classes mirrors them. *A manifest*: a CSV
whose columns are ``path,label`` and, where known, ``patient,group,site,split,mask``; further
columns that tell groups of cases apart (``sex``, ``age``, ``scanner``, …) become their attributes.

Hidden files are ignored; links are followed, each folder once. A case's id is its path without
the ending (with it, where two would be the same).
"""

import csv
import difflib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import cast

from vitrail.data.raster import SUFFIXES
from vitrail.data.scan import holds_dicom, is_volume_file, list_scans, patient_of, scan_name
from vitrail.data.volume import ENDINGS
from vitrail.errors import DataError, ManifestError, RunFolderError
from vitrail.records import SPLITS, Case, Cohort, SplitName, join_labels
from vitrail.runfolder import read_csv, read_json, write_csv, write_json

COLUMNS = ("case_id", "path", "label", "patient_id", "group", "site", "split", "mask")
"""The columns of ``cohort.csv``; those of the attributes stand behind them."""

_MOST_GROUPS = 12

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
_MOST_LINES = 20
_log = logging.getLogger("vitrail")


def read_folder(root: Path) -> Cohort:
    """Read a folder of pictures: one folder a class, or the parts of a split above the classes.

    Args:
        root: The folder.

    Returns:
        The cohort, with ``split`` filled where the folders tell it.

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
    for path, case_id in zip(pictures, _case_ids(pictures), strict=True):
        parts = PurePosixPath(path).parts
        mask = _mask_of(path, masks)
        label, split = parts[0], NO_SPLIT
        if given:
            label, split = parts[1], SPLIT_NAMES[parts[0].lower()]
        patient = _patient(root, path)
        cases.append(
            Case(
                case_id=case_id, path=path, label=label, split=split, mask=mask, patient_id=patient
            )
        )
    return make_cohort(root, cases, source=str(root))


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
            scans = list_scans(Path(folder))
            yield from (scan.relative_to(root).as_posix() for scan in scans)
            continue
        for name in files:
            if name.startswith("."):
                continue
            if PurePosixPath(name).suffix.lower() in SUFFIXES or is_volume_file(name):
                yield str(relative / name)
            else:
                skipped[PurePosixPath(name).suffix.lower() or name] += 1
    for suffix, count in skipped.most_common():
        _log.info(
            "%s: %d files ending in %s are not pictures and were left out", root, count, suffix
        )


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


def _patient(root: Path, path: str) -> str:
    """Return the patient that a DICOM header names; empty for pictures and other volumes."""
    is_picture = PurePosixPath(path).suffix.lower() in SUFFIXES
    return "" if is_picture else patient_of(root / path)


def _case_ids(paths: Sequence[str]) -> list[str]:
    """Drop each path's ending, unless two would become the same."""
    stems = [_stem(path) for path in paths]
    count = Counter(stems)
    return [path if count[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]


def read_manifest(path: Path, *, root: Path | None = None) -> Cohort:
    """Read a manifest: CSV with ``path,label[,patient,group,site,split,mask]``.

    Commas, semicolons or tabs separate the cells; column names are read without regard to case;
    ``val`` and ``valid`` mean ``validation``. A column of another name becomes an attribute of the
    cases if it has two to twelve different values, so that it tells groups apart, or is ``age``;
    else (names, dates, free text) it is left out, and named in the log. As soon as one label holds
    a bar (``a|b``), every case can have several labels, and an empty one means none of them.

    Args:
        path: The CSV file.
        root: Folder that the paths are relative to; by default the manifest's own.

    Returns:
        The cohort.

    Raises:
        ManifestError: If a column is missing, or a row's path, label or split cannot be used.
    """
    root = (root or path.parent).resolve()
    rows, columns = _rows(path)
    for name in ("path", "label"):
        _require_column(path, name, columns=columns)
    further = _attributes(path, rows, columns=columns)
    several = any("|" in row.get("label", "") for row in rows)
    _refuse_gaps(path, rows, root=root, several=several)
    cases = []
    for line, row in enumerate(rows, start=2):
        case = _case(f"{path}:{line}", row, root=root, several=several)
        known = {name: row[name] for name in further if row.get(name)}
        cases.append(replace(case, attributes=known))
    if not cases:
        raise ManifestError(str(path), "no rows", "one row a case is read", "fill the table")
    _refuse_repeats(path, cases)
    ids = _case_ids([case.path for case in cases])
    named = [replace(case, case_id=case_id) for case, case_id in zip(cases, ids, strict=True)]
    return make_cohort(root, named, source=str(path))


def _rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read the table as text: its rows by our column names, and its columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            str(path), str(error), "a manifest is a UTF-8 CSV file", "check the path and encoding"
        ) from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [name.strip().lower() for name in next(table, [])]
    columns = ["patient_id" if name == "patient" else name for name in columns]
    rows = [
        dict(zip(columns, (cell.strip() for cell in row), strict=False)) for row in table if row
    ]
    return rows, columns


def _attributes(path: Path, rows: Sequence[dict[str, str]], *, columns: Sequence[str]) -> list[str]:
    """Name the further columns that tell groups of cases apart; the log names the others."""
    further = [name for name in dict.fromkeys(columns) if name and name not in COLUMNS]
    different = {name: {row.get(name, "") for row in rows} - {""} for name in further}
    kept = [name for name in further if name == "age" or 2 <= len(different[name]) <= _MOST_GROUPS]
    left_out = [name for name in further if name not in kept]
    if left_out:
        _log.info("%s: columns left out: %s", path, ", ".join(left_out))
    return kept


def _require_column(path: Path, name: str, *, columns: Sequence[str]) -> None:
    if name in columns:
        return
    nearest = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
    hint = f"rename {nearest[0]!r} to {name!r}" if nearest else f"add a column {name!r}"
    raise ManifestError(
        f"{path}:1", f"no column {name!r} among {', '.join(columns)}", "it is needed", hint
    )


def _refuse_gaps(
    path: Path, rows: Sequence[Mapping[str, str]], *, root: Path, several: bool
) -> None:
    """Refuse rows without a label or without their files: all are counted, none is dropped."""
    empty = [] if several else [line for line, row in enumerate(rows, 2) if not row.get("label")]
    if empty:
        raise ManifestError(
            f"{path}:{empty[0]}",
            f"an empty label{_further(empty, rows)}",
            "every case has a label",
            "fill or drop the row; where cases can have several labels (a|b), write none as |",
        )
    named = ((line, row.get(name)) for line, row in enumerate(rows, 2) for name in ("path", "mask"))
    absent = [
        (line, name)
        for line, name in named
        if name and not _is_outside(name, root) and not (root / name).exists()
    ]
    if absent:
        line, name = absent[0]
        lines = list(dict.fromkeys(line for line, _ in absent))
        raise ManifestError(
            f"{path}:{line}",
            f"no file {name!r} in {root}{_further(lines, rows)}",
            "every path is a file, or a folder of a DICOM series",
            "mend or drop the row",
        )


def _further(lines: Sequence[int], rows: Sequence[object]) -> str:
    """Count the rows that have the same fault, and name their lines."""
    if len(lines) == 1:
        return ""
    shown = ", ".join(map(str, lines[:_MOST_LINES])) + (", …" if len(lines) > _MOST_LINES else "")
    return f"; the same in {len(lines)} of {len(rows)} rows (lines {shown})"


def _case(place: str, row: dict[str, str], *, root: Path, several: bool) -> Case:
    """Check one row."""
    label, split = row.get("label", ""), row.get("split", "").lower()
    if split and split not in SPLIT_NAMES:
        nearest = difflib.get_close_matches(split, SPLIT_NAMES, n=1)
        remedy = f"write {nearest[0] if nearest else 'train'!r}"
        raise ManifestError(place, f"split {split!r}", f"it is one of {', '.join(SPLITS)}", remedy)
    inside = _inside(place, row.get("path", ""), root=root)
    return Case(
        case_id="",
        path=inside,
        label=_canonical(label) if several else label,
        patient_id=row.get("patient_id", "") or _patient(root, inside),
        group=row.get("group", ""),
        site=row.get("site", ""),
        split=SPLIT_NAMES[split] if split else "",
        mask=_inside(place, row["mask"], root=root) if row.get("mask") else "",
    )


def _canonical(label: str) -> str:
    """Write several labels in one way: each once, in order of name, with a bar."""
    return join_labels(sorted({name.strip() for name in label.split("|")} - {""}))


def with_several_labels(cohort: Cohort) -> Cohort:
    """Return a cohort with one label a case as one whose cases can have several."""
    cases = (replace(case, label=_canonical(case.label)) for case in cohort)
    return replace(cohort, cases=tuple(cases))


def _inside(place: str, name: str, *, root: Path) -> str:
    """Return ``name`` relative to ``root``; it has to lie there."""
    if not name or _is_outside(name, root):
        raise ManifestError(
            place, f"path {name!r}", f"paths lie inside {root}", "pass --root, or mend the path"
        )
    return Path(os.path.relpath(os.path.normpath(root / name), root)).as_posix()


def _is_outside(name: str, root: Path) -> bool:
    """Tell whether a relative path leads out of a folder."""
    return Path(os.path.relpath(os.path.normpath(root / name), root)).parts[:1] == (os.pardir,)


def _refuse_repeats(path: Path, cases: Sequence[Case]) -> None:
    first: dict[str, int] = {}
    for line, case in enumerate(cases, start=2):
        if case.path in first:
            raise ManifestError(
                f"{path}:{line}",
                f"path {case.path!r} again (first in line {first[case.path]})",
                "a case has one row",
                "drop one of the rows",
            )
        first[case.path] = line


def make_cohort(root: Path, cases: Iterable[Case], *, source: str) -> Cohort:
    """Order the cases, and refuse classes and splits that cannot be trained on."""
    ordered = tuple(sorted(cases, key=lambda case: case.case_id))
    _refuse_measurements([case.label for case in ordered], source)
    count = Counter(name for case in ordered for name in case.labels)
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
