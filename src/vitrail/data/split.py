"""Who is trained on and who is tested on: stratified by class, whole clusters, with a certificate.

A *cluster* is what must stay together: cases of one patient, of one group, and near-duplicates,
joined where they touch. A split never cuts a cluster; the certificate beside ``split.csv`` proves
later that it is still the same split of the same cases.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal, cast

import numpy as np

from vitrail.errors import DataError, InputError, LeakageError, RunFolderError
from vitrail.records import SPLITS, Case, Cohort, SplitName, label_names
from vitrail.runfolder import read_csv, read_json, write_csv, write_json

_log = logging.getLogger("vitrail")


def clusters(
    cases: Iterable[Case], near_duplicates: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """Find what must stay together.

    Args:
        cases: The cases.
        near_duplicates: Pairs of ids of cases that show the same picture.

    Returns:
        The cluster of each case id, named after its patient, else its group, else its first case
        (the first in order of name, where there are several).
    """
    cases = sorted(cases, key=lambda case: case.case_id)
    known = {case.case_id for case in cases}
    parent: dict[Hashable, Hashable] = {}

    def find(item: Hashable) -> Hashable:
        root = item
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[item] != root:
            parent[item], item = root, parent[item]
        return root

    for case in cases:
        for kind, name in (("patient", case.patient_id), ("group", case.group)):
            if name:
                parent[find((kind, name))] = find(("case", case.case_id))
    for first, second in near_duplicates:
        if first in known and second in known:
            parent[find(("case", first))] = find(("case", second))
    members = defaultdict(list)
    for case in cases:
        members[find(("case", case.case_id))].append(case)
    return {case.case_id: _name(group) for group in members.values() for case in group}


def _name(cases: Sequence[Case]) -> str:
    """Name a cluster after its patient, else its group, else its first case."""
    patients = {case.patient_id for case in cases} - {""}
    groups = {case.group for case in cases} - {""}
    if patients:
        return f"patient:{min(patients)}"
    return f"group:{min(groups)}" if groups else f"case:{cases[0].case_id}"


def analysis_unit(cases: Iterable[Case]) -> Literal["patient", "image"]:
    """Tell whether numbers on these cases count patients or images.

    Patients, as soon as one is known; each case without an id then counts as one of its own.
    """
    return "patient" if any(case.patient_id for case in cases) else "image"


def partition(
    labels: Mapping[str, str],
    groups: Mapping[str, str],
    *,
    fractions: Sequence[float],
    seed: int,
) -> dict[str, int]:
    """Deal whole clusters into parts so that each part has its fraction of every class.

    The largest clusters are dealt first, those of equal size in an order drawn from the seed;
    each goes where the chi-square distance from the wanted counts grows least. For clusters of
    one case this is Sainte-Laguë's method of dealing seats. The order of ``labels`` does not
    matter. Where a case can have several labels, each label is a class of its own beside the
    number of cases, and the cases of the rarest label are dealt first.

    Args:
        labels: Label of each case id.
        groups: Cluster of each case id.
        fractions: Wanted size of each part; they sum to one.
        seed: Of the order.

    Returns:
        Index of the part of each case id.

    Source:
        sechidis2011, section 3: the rarest label first.

    Differs:
        From iterative stratification, which deals single cases: clusters are kept whole, and all
        labels of a cluster are weighed at once, the rarest the most.
    """
    counts = _counts(labels, groups)
    total = np.sum(list(counts.values()), axis=0)
    wanted = np.outer(fractions, total)
    have = np.zeros_like(wanted)
    names = sorted(counts)
    drawn = np.random.default_rng(seed).permutation(len(names))
    sizes = Counter(groups[case_id] for case_id in labels)
    several = any("|" in label for label in labels.values())
    rarest = {name: total[counts[name] > 0].min() if several else 0 for name in names}
    order = sorted(drawn, key=lambda index: (-sizes[names[index]], rarest[names[index]]))
    # Where parts want a case equally, the smaller part gets it, so that none is left without.
    smallest_first = np.argsort(fractions, kind="stable")
    part_of = {}
    for index in order:
        new = counts[names[index]]
        growth = (new * (new + 2 * (have - wanted)) / wanted).sum(axis=1)
        part = smallest_first[np.argmin(np.round(growth[smallest_first], 9))]
        have[part] += new
        part_of[names[index]] = int(part)
    return {case_id: part_of[groups[case_id]] for case_id in labels}


def _counts(labels: Mapping[str, str], groups: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Count each cluster's cases of every class; with several labels a case, also all its cases."""
    strata = {
        case_id: ("", *label_names(label)) if "|" in label else (label,)
        for case_id, label in labels.items()
    }
    classes = sorted({name for names in strata.values() for name in names})
    place = {name: index for index, name in enumerate(classes)}
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes)))
    for case_id in sorted(labels):
        counts[groups[case_id]][[place[name] for name in strata[case_id]]] += 1
    return dict(counts)


def make_split(
    cohort: Cohort,
    *,
    groups: Mapping[str, str],
    seed: int,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> dict[str, SplitName]:
    """Split into train, validation and test: stratified by class, clusters whole.

    A split given with the data is kept. A part that it lacks is taken out of its training
    cases, and the log says so.

    Args:
        cohort: The cases.
        groups: Cluster of each case id, from `clusters`.
        seed: The same seed gives the same split, whatever the order of the cases.
        fractions: Of train, validation and test.

    Returns:
        The part of each case id.

    Raises:
        DataError: If a class has too few clusters to be in both train and test.
        InputError: If the fractions are not positive or do not sum to one.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            "fractions", str(fractions), "they are positive and sum to one", "pass (0.6, 0.2, 0.2)"
        )
    given = {case.split for case in cohort} - {""}
    lacking = [name for name in SPLITS if name == "train" or name not in given]
    dealt = [case for case in cohort if case.split in ("", "train")]
    shares = np.array([fractions[SPLITS.index(name)] for name in lacking])
    parts = partition(
        {case.case_id: case.label for case in dealt},
        groups,
        fractions=[float(share) for share in shares / shares.sum()],
        seed=seed,
    )
    split = {case.case_id: case.split for case in cohort}
    split |= {case_id: cast("SplitName", lacking[part]) for case_id, part in parts.items()}
    if given and len(lacking) > 1:
        taken = " and ".join(lacking[1:])
        _log.warning("the given split has no %s part: it is taken out of train", taken)
    _require_classes(cohort, split)
    return split


def _require_classes(cohort: Cohort, split: Mapping[str, SplitName]) -> None:
    """Refuse a split that leaves a class out of a part."""
    present = {(split[case.case_id], name) for case in cohort for name in case.labels}
    for label in cohort.classes:
        for part in ("train", "test", "validation"):
            if (part, label) in present:
                continue
            if part == "validation":
                _log.warning("no case of class %r is left for validation", label)
                continue
            raise DataError(
                "split",
                f"no case of class {label!r} in {part}",
                "every class is trained on and tested on, and patients, groups and near-duplicates "
                "stay together",
                "add patients (or groups) of this class, or leave the class out",
            )


def crossing(groups: Mapping[str, str], split: Mapping[str, SplitName]) -> list[str]:
    """Name the clusters that stand on both sides of a split, sorted."""
    sides = defaultdict(set)
    for case_id, part in split.items():
        sides[groups[case_id]].add(part)
    return sorted(name for name, parts in sides.items() if len(parts) > 1)


def certify(
    cohort: Cohort,
    split: Mapping[str, SplitName],
    *,
    groups: Mapping[str, str],
    folds: Sequence[Mapping[str, SplitName]] = (),
) -> dict[str, object]:
    """State what a split is, so that a later stage can prove it is the same.

    Args:
        cohort: The cases.
        split: The part of each case; of cross-validation, as what it is measured.
        groups: Cluster of each case id.
        folds: The part of each case in each fold; none without cross-validation.

    Returns:
        Per part the number of cases, clusters and cases a class, and a hash of its case ids; a
        hash of the clusters; the clusters that cross; the unit of analysis on the test part;
        ``folds`` with the parts of each fold, where there are folds.
    """
    tested = [case for case in cohort if split[case.case_id] == "test"]
    torn = {name for fold in (split, *folds) for name in crossing(groups, fold)}
    content: dict[str, object] = {
        "unit": analysis_unit(tested),
        "parts": _parts(cohort, split, groups),
        "clusters_sha256": _hash(f"{case_id}\0{groups[case_id]}" for case_id in split),
        "crossing": sorted(torn),
    }
    return content | ({"folds": [_parts(cohort, fold, groups) for fold in folds]} if folds else {})


def _parts(
    cohort: Cohort, split: Mapping[str, SplitName], groups: Mapping[str, str]
) -> dict[str, object]:
    """Count and hash each part of a split."""
    parts: dict[str, object] = {}
    for part in SPLITS:
        cases = [case for case in cohort if split[case.case_id] == part]
        count = Counter(name for case in cases for name in case.labels)
        parts[part] = {
            "cases": len(cases),
            "clusters": len({groups[case.case_id] for case in cases}),
            "classes": {label: count[label] for label in cohort.classes},
            "sha256": _hash(case.case_id for case in cases),
        }
    return parts


def _hash(lines: Iterable[str]) -> str:
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()


def write_split(
    path: Path,
    cohort: Cohort,
    *,
    split: Mapping[str, SplitName],
    groups: Mapping[str, str],
    folds: Sequence[Mapping[str, SplitName]] = (),
) -> None:
    """Write ``split.csv`` (``case_id,split,cluster[,fold0,fold1,…]``) and its ``split.json``.

    Args:
        path: Of ``split.csv``; the certificate lies beside it.
        cohort: The cases.
        split: The part of each case; of cross-validation, as what it is measured.
        groups: Cluster of each case id.
        folds: The part of each case in each fold; none without cross-validation.
    """
    write_json(path.with_suffix(".json"), certify(cohort, split, groups=groups, folds=folds))
    columns = {f"fold{number}": fold for number, fold in enumerate(folds)}
    rows = [
        {
            "case_id": case.case_id,
            "split": split[case.case_id],
            "cluster": groups[case.case_id],
            **{name: fold[case.case_id] for name, fold in columns.items()},
        }
        for case in cohort
    ]
    write_csv(path, rows, header=("case_id", "split", "cluster", *columns))


def load_split(path: Path, cohort: Cohort) -> tuple[dict[str, SplitName], dict[str, str]]:
    """Read back what `write_split` wrote, and verify it against its certificate.

    Returns:
        The part of each case id (of cross-validation, as what it is measured: ``test`` for every
        case, but where a test part was given), and the cluster of each case id.

    Raises:
        RunFolderError: If a file is missing or damaged.
        LeakageError: If cases were moved, added or left out since the certificate was written.
    """
    split, groups, _ = _load(path, cohort)
    return split, groups


def load_folds(path: Path, cohort: Cohort) -> tuple[dict[str, SplitName], ...]:
    """Read the part of each case in each fold, verified as by `load_split`.

    Returns:
        One split a fold; without cross-validation the one split.
    """
    split, _, folds = _load(path, cohort)
    return folds or (split,)


_Split = dict[str, SplitName]


def _load(path: Path, cohort: Cohort) -> tuple[_Split, dict[str, str], tuple[_Split, ...]]:
    """Read and verify all that `write_split` wrote."""
    try:
        rows = read_csv(path)
        columns = [name for name in (rows[0] if rows else {}) if name.startswith("fold")]
        split, *folds = (
            {row["case_id"]: cast("SplitName", row[name]) for row in rows}
            for name in ("split", *columns)
        )
        groups = {row["case_id"]: row["cluster"] for row in rows}
        certificate = read_json(path.with_suffix(".json"))
    except (OSError, KeyError) as error:
        raise RunFolderError(
            str(path), f"it cannot be read ({error})", "plan writes it", "repeat `vitrail plan`"
        ) from error
    cases = {case.case_id for case in cohort}
    if cases != set(split) or certify(cohort, split, groups=groups, folds=folds) != certificate:
        raise LeakageError(
            str(path),
            "it does not agree with its certificate split.json",
            "the cases of a split stay where they are once a model may have seen them",
            "restore the file, or start a new run",
        )
    return split, groups, tuple(folds)
