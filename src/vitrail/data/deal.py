"""Lists of cases as published protocols deal them: at random, whatever belongs together.

vitrail's own splits keep patients, groups and near-duplicates together
(:mod:`vitrail.data.split`). To stand beside a published number, a model has to be tested as that
one was; such a list says so in its column ``split``, and the run asks for ``--accept-leakage``.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.errors import DataError, InputError
from vitrail.records import Case, Cohort, SplitName
from vitrail.runfolder import write_csv

_HEADER = ("path", "label", "patient", "group", "site", "split", "mask")


def deal(
    cases: Sequence[Case], *, test: float, validation: float, by_class: bool = False, seed: int = 0
) -> dict[str, SplitName]:
    """Deal cases into parts at random.

    Args:
        cases: The cases.
        test: Share that is tested.
        validation: Share that chooses.
        by_class: Whether each class is dealt by itself, in these shares.
        seed: Of the order.

    Returns:
        The part of each case.
    """
    generator = np.random.default_rng(seed)
    labels = sorted({case.label for case in cases}) if by_class else [""]
    parts: dict[str, SplitName] = {}
    for label in labels:
        own = [case.case_id for case in cases if not by_class or case.label == label]
        first, second = (
            round(test * len(own)),
            round(test * len(own)) + round(validation * len(own)),
        )
        for place, index in enumerate(generator.permutation(len(own))):
            parts[own[index]] = (
                "test" if place < first else "validation" if place < second else "train"
            )
    return parts


def write_list(
    path: Path,
    cohort: Cohort,
    *,
    classes: Sequence[str] = (),
    site: str = "",
    parts: dict[str, SplitName] | None = None,
) -> None:
    """Write a manifest of a cohort, its pictures reached through a link beside it.

    Args:
        path: The manifest; ``<its stem>-pictures`` beside it becomes a link to the cohort's root.
        cohort: The cases.
        classes: Those that are kept, where the cohort has all of them; empty keeps every class.
        site: A regular expression whose first group is the site in a path; empty keeps the sites.
        parts: The part of each case; None leaves the cases undealt.

    Raises:
        DataError: If a path does not tell its site.
        InputError: If ``site`` is no regular expression.
    """
    link = path.with_name(f"{path.stem}-pictures")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(cohort.root.resolve(), target_is_directory=True)
    rows = [
        {
            "path": f"{link.name}/{case.path}",
            "label": case.label,
            "patient": case.patient_id,
            "group": case.group,
            "site": _site(case, site),
            "split": "" if parts is None else parts[case.case_id],
            "mask": f"{link.name}/{case.mask}" if case.mask else "",
        }
        for case in chosen(cohort, classes)
    ]
    kept = [name for name in _HEADER if any(row[name] for row in rows)]
    write_csv(path, ({name: row[name] for name in kept} for row in rows), header=kept)


def chosen(cohort: Cohort, classes: Sequence[str]) -> list[Case]:
    """Keep some classes, where the cohort has all of them."""
    if not set(classes) <= set(cohort.classes):
        return list(cohort)
    return [case for case in cohort if not classes or case.label in classes]


def _site(case: Case, pattern: str) -> str:
    """Read a case's site off its path."""
    if not pattern:
        return case.site
    try:
        found = re.search(pattern, case.path)
    except re.error as error:
        raise InputError("site", pattern, f"{error}", "write a regular expression") from error
    if found is None:
        rule = f"each path names its source as {pattern}"
        raise DataError(case.path, "it names no source", rule, "leave the case out")
    return found.group(1)
