"""Patient ids out of file names, and ids that name nobody; each with its doubts in words.

A wrong id is worse than none: a page or slice number taken for a patient reports leaks that are
none, and joins strangers. In COVID-CT's names, for example, ``p23`` is a page of a paper; and
anonymized DICOM files often call every patient "Anonymous".
"""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePosixPath

from vitrail.data.cohort import plain_name
from vitrail.data.raster import SUFFIXES
from vitrail.data.scan import patient_of, study_of
from vitrail.errors import DataError, InputError
from vitrail.records import Cohort

_OPTION = "--patient-from"
_SHORT_NUMBER = re.compile(r"[A-Za-z]?\d{1,4}")
_DOUBTFUL_SHARE = 0.2
_NOBODY = re.compile(
    r"anon(ym(ous|e|isé|isiert|us|i[sz]ed)?)?(patient|subject)?|unknown|unbekannt|inconnu|none|null"
    r"|nan?|noname|noid|nopatientid|patientid|redacted|removed|hidden|deid(entified)?|x{3,}"
)
"""Ids that name nobody, once only their letters and digits are kept."""


def without_placeholders(cohort: Cohort) -> tuple[Cohort, tuple[str, ...]]:
    """Empty the patient ids that name nobody: "Anonymous", or one id for every scan.

    The scans of several studies that all say the same PatientID are taken for anonymized. The same
    id for all in a manifest is the user's word, and stays.

    Returns:
        The cohort, and sentences that say which ids are not counted as a patient.
    """
    words = {case.patient_id for case in cohort if _names_nobody(case.patient_id)}
    said = [
        f"patient id {word!r} of {sum(case.patient_id == word for case in cohort)} cases names "
        "nobody: their patients are unknown"
        for word in sorted(words)
    ]
    shared = {case.patient_id for case in cohort} - words
    if len(shared) == 1 and "" not in shared and _of_several_studies(cohort):
        said.append(
            "all scans have the same patient id and are of several studies: it stands for many, so "
            "the patients are unknown"
        )
        words |= shared
    kept = (
        replace(case, patient_id="") if case.patient_id in words else case for case in cohort.cases
    )
    return replace(cohort, cases=tuple(kept)), tuple(said)


def written_in_several_ways(cohort: Cohort) -> tuple[str, ...]:
    """Doubt patient ids that differ in case, spaces or leading zeros alone: ``P07`` and ``p7``."""
    known: dict[str, set[str]] = defaultdict(set)
    for patient in {case.patient_id for case in cohort} - {""}:
        known[plain_name(patient)].add(patient)
    several = sorted(sorted(names) for names in known.values() if len(names) > 1)
    if not several:
        return ()
    first, second = several[0][:2]
    doubt = (
        f"{len(several)} patient ids are written in several ways ({first!r} and {second!r} for "
        "one): if each is one person, the split may tear that person apart"
    )
    return (doubt,)


def _names_nobody(patient: str) -> bool:
    """Tell whether an id is a word that stands for no id."""
    plain = "".join(letter for letter in patient.casefold() if letter.isalnum())
    return bool(patient) and (not plain or _NOBODY.fullmatch(plain) is not None)


def _of_several_studies(cohort: Cohort) -> bool:
    """Tell whether the ids stand in the headers of scans of different studies."""
    paths = [cohort.root / case.path for case in cohort]
    if any(path.suffix.lower() in SUFFIXES for path in paths):
        return False
    named = {(case.patient_id, patient_of(path)) for case, path in zip(cohort, paths, strict=True)}
    return all(known == read for known, read in named) and len(set(map(study_of, paths))) > 1


def with_patients(cohort: Cohort, pattern: str) -> tuple[Cohort, tuple[str, ...]]:
    """Read patient ids off the paths.

    Args:
        cohort: Its cases have no ids yet.
        pattern: A regular expression, searched in each path (relative, with ``/``); its first
            group is the patient.

    Returns:
        The cohort with its ids, and sentences of doubt.

    Raises:
        InputError: If the pattern is no regular expression or has no group.
        DataError: If it fits no case or finds one patient only, or ids are there already.
    """
    find = _compiled(pattern)
    known = sum(bool(case.patient_id) for case in cohort)
    if known:
        rule = "patients have one source, so that the same name is the same person"
        remedy = f"empty the patient column, or leave {_OPTION} out"
        raise DataError(_OPTION, f"{known} cases have a patient already", rule, remedy)
    found = {case.case_id: find.search(case.path) for case in cohort}
    ids = {name: match[1] or "" for name, match in found.items() if match}
    patients = set(ids.values()) - {""}
    if len(patients) < 2:
        example = cohort.cases[0].path
        came = f"{pattern!r} finds {len(patients)} patients in paths such as {example}"
        rule = "the first group is a patient, and there are several"
        raise DataError(_OPTION, came, rule, r"try for example '([^/_]+)_[^/]*$'")
    cases = tuple(replace(case, patient_id=ids.get(case.case_id, "")) for case in cohort)
    return replace(cohort, cases=cases), tuple(_doubts(cohort, ids, found))


def _compiled(pattern: str) -> re.Pattern[str]:
    """Check the pattern."""
    try:
        find = re.compile(pattern)
    except re.error as error:
        raise InputError(
            _OPTION, f"{pattern!r} ({error})", "it is a regular expression", "mend it"
        ) from error
    if not find.groups:
        raise InputError(
            _OPTION,
            f"{pattern!r}",
            "its first group, in brackets, is the patient",
            r"put brackets around the patient, for example '(P\d+)_'",
        )
    return find


def _doubts(
    cohort: Cohort, ids: dict[str, str], found: dict[str, re.Match[str] | None]
) -> list[str]:
    """Say what speaks against the ids."""
    said = []
    members: dict[str, list[re.Match[str]]] = defaultdict(list)
    for name, patient in ids.items():
        match = found[name]
        if patient and match is not None:
            members[patient].append(match)
    without = len(cohort) - sum(map(len, members.values()))
    if without:
        said.append(
            f"{without} of {len(cohort)} cases have no patient by {_OPTION}; each of them counts "
            "as one of its own"
        )
    if len(members) == len(cohort):
        said.append(
            f"{_OPTION} finds another patient for every case: is it the number of a picture?"
        )
    several = {patient: own for patient, own in members.items() if len(own) > 1}
    doubtful = [
        patient
        for patient, own in several.items()
        if _SHORT_NUMBER.fullmatch(patient) and len({_before(match) for match in own}) > 1
    ]
    if several and len(doubtful) / len(several) >= _DOUBTFUL_SHARE:
        first, second = sorted({_before(match) for match in several[doubtful[0]]})[:2]
        said.append(
            f"patient {doubtful[0]!r} comes after {first!r} and after {second!r}, and "
            f"{len(doubtful)} of {len(several)} patients are like it: if that is a page or slice "
            f"number, {_OPTION} joins strangers"
        )
    return said


def _before(match: re.Match[str]) -> str:
    """Return what stands before the patient in the file's name, or in its folder's."""
    before = match.string[: match.start(1)]
    return "" if before.endswith("/") else PurePosixPath(before).name
