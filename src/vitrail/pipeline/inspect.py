"""``vitrail inspect``: what the folder holds, before anything is trained."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitrail.data.audit import KINDS, Audit, audit
from vitrail.data.catalog import recognize
from vitrail.data.cohort import write_cohort
from vitrail.data.patients import with_patients, without_placeholders, written_in_several_ways
from vitrail.errors import RunFolderError
from vitrail.pipeline.facts import data_fingerprint
from vitrail.pipeline.ledger import Result, entries, hash_of, require_own_folder, stage
from vitrail.pipeline.pictures import keep_mosaic, keep_samples
from vitrail.pipeline.scans import look, unlabelled
from vitrail.pipeline.source import read_source
from vitrail.records import Cohort, Progress, no_progress
from vitrail.runfolder import RunFolder, write_json

_NAMED = 5
_HOW = {
    "exact": "the same file",
    "near": "resized, recompressed or turned by quarters",
    "moved": "turned, mirrored, zoomed or cropped",
}


def inspect(
    run: RunFolder,
    folder: Path,
    *,
    manifest: Path | None = None,
    patient_from: str = "",
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Read a folder or a manifest, audit it, and write ``cohort.csv`` and ``audit.json``.

    A scan, or a folder of a scan's files, has no labels: it is described and drawn, and no cohort
    is written. Pictures that cannot be read are named in the audit and left out of the cohort.

    Args:
        run: Where to write.
        folder: The pictures, or a file that holds many; see :func:`read_source`.
        manifest: A CSV that lists them; its paths are relative to it.
        patient_from: A regular expression whose first group is the patient in a path; what an
            earlier call was given stays.
        command: The exact command line.
        progress: Told of each picture.

    Raises:
        DataError: If the folder or manifest cannot be trained on.
        RunFolderError: If the run folder belongs to other data.
    """
    require_own_folder(run)
    before = entries(run).get("inspect")
    patient_from = patient_from or (before or {}).get("result", {}).get("patient_from", "")
    scans = [] if manifest is not None else unlabelled(folder)
    if scans:
        return {**look(run, scans, progress=progress), "stage": "inspect", "seconds": 0.0}
    cohort = read_source(run.data, folder, manifest=manifest, progress=progress)
    cohort, doubts = without_placeholders(cohort)
    if patient_from:
        cohort, about_names = with_patients(cohort, patient_from)
        doubts = (*doubts, *about_names)
    doubts = (*doubts, *written_in_several_ways(cohort))
    data = hash_of(data_fingerprint(cohort))
    if before is not None and before["inputs"] != data:
        raise RunFolderError(
            str(run.root),
            f"it belongs to other data than {manifest or folder} holds now",
            "a run folder keeps one cohort, one split and one plan",
            "pass another --out",
        )
    return stage(
        "inspect",
        run,
        inputs=data,
        outputs=(run.cohort, run.audit),
        work=lambda: {
            "patient_from": patient_from,
            **_inspect(run, cohort, doubts=doubts, progress=progress),
        },
        command=command,
    )


def _inspect(
    run: RunFolder, cohort: Cohort, *, doubts: Sequence[str], progress: Progress
) -> Result:
    """Audit a cohort and write what was found."""
    found = replace(audit(cohort, progress=progress), doubts=tuple(doubts))
    readable = found.readable(cohort)
    card = recognize(readable)
    if card is not None:
        known = card.model_dump(include={"name", "title", "licence", "citation", "faults"})
        found = replace(found, known_set={**known, "faults": list(card.faults)})
    write_cohort(run.cohort, readable)
    write_json(run.audit, found.to_json())
    keep_samples(run, readable)
    keep_mosaic(run, readable)
    return {
        "cases": len(readable),
        "classes": found.classes,
        "unreadable": [{"path": item.path, "reason": item.reason} for item in found.unreadable],
        "duplicates": len(found.duplicates),
        "leaks": len(found.leaks),
        "summary": [*_sentences(found, readable), *doubts],
    }


def _sentences(found: Audit, readable: Cohort) -> list[str]:
    """Say what was found, the worst last."""
    counts = ", ".join(f"{name} {count}" for name, count in found.classes.items())
    said = [f"{len(readable)} readable pictures: {counts}"]
    said += [
        f"left out, unreadable: {item.path} ({item.reason})" for item in found.unreadable[:_NAMED]
    ]
    if len(found.unreadable) > _NAMED:
        said.append(f"… and {len(found.unreadable) - _NAMED} more; audit.json names them all")
    said += _short(found)
    said += _twins(found, readable)
    said += [
        f"leak: {KINDS.get(leak.kind, leak.kind)} {leak.name} is in {' and '.join(leak.splits)}"
        for leak in found.leaks[:_NAMED]
    ]
    if len(found.leaks) > _NAMED:
        said.append(f"… and {len(found.leaks) - _NAMED} more leaks; audit.json names them all")
    if found.known_set is not None:
        said.append(f"this looks like {found.known_set['title']}; known of it:")
        said += [f"known fault: {fault}" for fault in found.known_set["faults"]]
    return said + [shortcut.finding for shortcut in found.shortcuts if shortcut.finding]


def _short(found: Audit) -> list[str]:
    """Name the volumes that have fewer slices than a picture shows."""
    short = (found.fingerprint.get("volumes") or {}).get("short") or []
    if not short:
        return []
    named = ", ".join(short[:_NAMED]) + (", …" if len(short) > _NAMED else "")
    count = "1 volume has" if len(short) == 1 else f"{len(short)} volumes have"
    return [f"{count} too few slices for a picture: the last one is shown again ({named})"]


def _twins(found: Audit, readable: Cohort) -> list[str]:
    """Say how many pairs show the same picture, and which of them bear different labels."""
    if not found.duplicates:
        return []
    count = Counter(pair.kind for pair in found.duplicates)
    kinds = ", ".join(f"{count[kind]} {words}" for kind, words in _HOW.items() if count[kind])
    said = [f"{len(found.duplicates)} pairs show the same picture ({kinds}); they stay together"]
    labels = {case.case_id: case.label for case in readable}
    torn = [pair for pair in found.duplicates if labels[pair.first] != labels[pair.second]]
    if torn:
        named = "; ".join(f"{pair.first} = {pair.second}" for pair in torn[:_NAMED])
        said.append(f"{len(torn)} of these pairs have different labels: {named}")
    return said
