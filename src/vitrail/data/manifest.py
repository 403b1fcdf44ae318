"""Manifests become a ``Cohort``: a CSV with a row a case, checked cell by cell.

The columns are ``path,label`` and, where known, ``patient,group,site,split,mask``; further columns
that tell groups of cases apart (``sex``, ``age``, ``scanner``, …) become the cases' attributes.
"""

import csv
import difflib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vitrail.data.cohort import (
    COLUMNS,
    SPLIT_NAMES,
    canonical_label,
    case_ids,
    make_cohort,
    patient_in_header,
)
from vitrail.errors import ManifestError
from vitrail.records import SPLITS, Case, Cohort

_MOST_GROUPS = 12
_MOST_LINES = 20
_log = logging.getLogger("vitrail")


def read_manifest(path: Path, *, root: Path | None = None, with_split: bool = True) -> Cohort:
    """Read a manifest: CSV with ``path,label[,patient,group,site,split,mask]``.

    Commas, semicolons or tabs separate the cells; column names are read without regard to case;
    ``val`` and ``valid`` mean ``validation``. A column of another name becomes an attribute of the
    cases if it has two to twelve different values, so that it tells groups apart, or is ``age``;
    else (names, dates, free text) it is left out, and named in the log. As soon as one label holds
    a bar (``a|b``), every case can have several labels, and an empty one means none of them.

    Args:
        path: The CSV file.
        root: Folder that the paths are relative to; by default the manifest's own.
        with_split: Whether the column ``split`` is meant; else all cases are one set.

    Returns:
        The cohort.

    Raises:
        ManifestError: If a column is missing, or a row's path, label or split cannot be used.
    """
    root = (root or path.parent).resolve()
    rows, columns = _rows(path)
    further = _attributes(path, rows, columns=columns)
    several = any("|" in row.get("label", "") for row in rows.values())
    _refuse_gaps(path, rows, root=root, several=several)
    cases = {}
    for line, row in rows.items():
        case = _case(f"{path}:{line}", row, root=root, several=several)
        known = {name: row[name] for name in further if row.get(name)}
        cases[line] = replace(case, attributes=known)
    if not cases:
        raise ManifestError(str(path), "no rows", "one row a case is read", "fill the table")
    _refuse_repeats(path, cases)
    ids = case_ids([case.path for case in cases.values()])
    named = [
        replace(case, case_id=case_id) for case, case_id in zip(cases.values(), ids, strict=True)
    ]
    return make_cohort(root, named, source=str(path), with_split=with_split)


def _rows(path: Path) -> tuple[dict[int, dict[str, str]], list[str]]:
    """Read the table as text: its rows by the lines they end in, and its columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            str(path),
            str(error),
            "a manifest is a UTF-8 CSV file",
            "check the path, or save it as UTF-8 (a spreadsheet calls it CSV UTF-8)",
        ) from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        columns = _columns(path, next(table, []))
        rows = {}
        for row in table:
            cells = [cell.strip() for cell in row]
            if any(cells[len(columns) :]):
                came, rule = f"{len(cells)} cells", f"the header names {len(columns)} columns"
                remedy = f"put quotes around a cell that holds a {separator!r}, or name the column"
                raise ManifestError(f"{path}:{table.line_num}", came, rule, remedy)
            if any(cells):
                rows[table.line_num] = dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        rule, remedy = "a manifest is a UTF-8 CSV file", "look for a quote that is not closed"
        raise ManifestError(f"{path}:{table.line_num}", str(error), rule, remedy) from error
    return rows, columns


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    """Name the columns as we do; refuse a header that lacks one, or has one twice."""
    columns = [name.strip().lower() for name in header]
    columns = ["patient_id" if name == "patient" else name for name in columns]
    for name in ("path", "label"):
        _require_column(path, name, columns=columns)
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        came, rule = f"column {twice[0]!r} twice", "a column is there once (patient is patient_id)"
        raise ManifestError(f"{path}:1", came, rule, "drop or rename one of the two")
    return columns


def _attributes(
    path: Path, rows: Mapping[int, Mapping[str, str]], *, columns: Sequence[str]
) -> list[str]:
    """Name the further columns that tell groups of cases apart; the log names the others."""
    further = [name for name in dict.fromkeys(columns) if name and name not in COLUMNS]
    different = {name: {row.get(name, "") for row in rows.values()} - {""} for name in further}
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
    path: Path, rows: Mapping[int, Mapping[str, str]], *, root: Path, several: bool
) -> None:
    """Refuse rows without a label or without their files: all are counted, none is dropped."""
    empty = [] if several else [line for line, row in rows.items() if not row.get("label")]
    if empty:
        raise ManifestError(
            f"{path}:{empty[0]}",
            f"an empty label{_further(empty, rows)}",
            "every case has a label",
            "fill or drop the row; where cases can have several labels (a|b), write none as |",
        )
    named = ((line, row.get(name)) for line, row in rows.items() for name in ("path", "mask"))
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
            "write / between folders" if "\\" in name else "mend or drop the row",
        )


def _further(lines: Sequence[int], rows: Mapping[int, object]) -> str:
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
        remedy = f"write {nearest[0]!r}" if nearest else "choose the part that is meant"
        raise ManifestError(place, f"split {split!r}", f"it is one of {', '.join(SPLITS)}", remedy)
    inside = _inside(place, row.get("path", ""), root=root)
    return Case(
        case_id="",
        path=inside,
        label=canonical_label(label) if several else label,
        patient_id=row.get("patient_id", "") or patient_in_header(root, inside),
        group=row.get("group", ""),
        site=row.get("site", ""),
        split=SPLIT_NAMES[split] if split else "",
        mask=_inside(place, row["mask"], root=root) if row.get("mask") else "",
    )


def _inside(place: str, name: str, *, root: Path) -> str:
    """Return ``name`` relative to ``root``; it has to lie there."""
    if not name or _is_outside(name, root):
        raise ManifestError(
            place,
            f"path {name!r}",
            f"paths lie inside {root}",
            "mend the path, or move the manifest to a folder above all pictures",
        )
    return Path(os.path.relpath(os.path.normpath(root / name), root)).as_posix()


def _is_outside(name: str, root: Path) -> bool:
    """Tell whether a relative path leads out of a folder."""
    return Path(os.path.relpath(os.path.normpath(root / name), root)).parts[:1] == (os.pardir,)


def _refuse_repeats(path: Path, cases: Mapping[int, Case]) -> None:
    first: dict[str, int] = {}
    for line, case in cases.items():
        if case.path in first:
            raise ManifestError(
                f"{path}:{line}",
                f"path {case.path!r} again (first in line {first[case.path]})",
                "a case has one row",
                "drop one of the rows",
            )
        first[case.path] = line
