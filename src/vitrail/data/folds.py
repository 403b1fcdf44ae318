"""Cross-validation: every case is held out once, by whole clusters, or one site after another.

A *fold* is a split of the whole cohort, as `vitrail.data.split.make_split` makes one. Its test part
is what it holds out; its validation part, which chooses epochs and thresholds, is taken out of the
rest. Where the data's makers gave a test part, every fold keeps it, and the folds hold out the
other cases in turn as their validation parts: the models of all folds predict the given test cases
together (the mean of their probabilities).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vitrail.data.split import partition
from vitrail.errors import DataError, InputError, LeakageError
from vitrail.records import Cohort, SplitName

Fold = dict[str, SplitName]
"""The part of each case id."""

VALIDATION_SHARE = 0.2
"""Share of the cases that are not held out which chooses epochs and thresholds."""

_log = logging.getLogger("vitrail")
_PARTS: tuple[SplitName, SplitName] = ("train", "validation")


def make_folds(
    cohort: Cohort, *, groups: Mapping[str, str], folds: int, repeats: int = 1, seed: int = 0
) -> tuple[Fold, ...]:
    """Deal whole clusters into folds, stratified by class.

    Args:
        cohort: The cases. Those whose given part is test are test in every fold; other given parts
            are dealt anew.
        groups: Cluster of each case id, from `vitrail.data.split.clusters`.
        folds: How many; each holds another part of the cases out.
        repeats: How often the cases are dealt, each time in another way.
        seed: The same seed gives the same folds, whatever the order of the cases.

    Returns:
        ``folds * repeats`` splits; those of the first deal come first.

    Raises:
        InputError: If there are fewer than two folds.
        DataError: If a class has fewer clusters than there are folds.
    """
    if folds < 2 or repeats < 1:
        raise InputError(
            "folds",
            f"{folds} folds, {repeats} times",
            "cross-validation holds out at least two parts in turn",
            "pass --folds 5, or leave it out for one split",
        )
    given = {case.case_id: case.split for case in cohort if case.split == "test"}
    dealt = {case.case_id: case.label for case in cohort if case.case_id not in given}
    _require_clusters(dealt, groups, folds=folds)
    if any(case.split in _PARTS for case in cohort):
        _log.warning("the given train and validation parts are dealt into folds anew")
    made: list[Fold] = []
    for repeat in range(repeats):
        parts = partition(dealt, groups, fractions=[1 / folds] * folds, seed=_seed(seed, repeat))
        for number in range(folds):
            held = {case_id for case_id, part in parts.items() if part == number}
            rest = {name: label for name, label in dealt.items() if name not in held}
            if given:
                fold: Fold = {**given, **_all(held, "validation"), **_all(rest, "train")}
            else:
                fold = _all(held, "test")
                fold |= _without(rest, groups, seed=_seed(seed, repeat, number))
            made.append(_checked(fold, cohort, name=f"fold {number}"))
    return tuple(made)


def hold_out_sites(
    cohort: Cohort, *, groups: Mapping[str, str], sites: Sequence[str] = (), seed: int = 0
) -> tuple[Fold, ...]:
    """Hold out whole sites: what a model is worth where it was not trained.

    Args:
        cohort: The cases, each with its site.
        groups: Cluster of each case id.
        sites: The sites to hold out, one after another; none given means each of them.
        seed: Of the validation part.

    Returns:
        One split a site, its test part the cases of that site.

    Raises:
        DataError: If a case has no site, or there are not two sites.
        InputError: If no case is of a wanted site, or the data come with a split of their own.
        LeakageError: If a patient, group or near-duplicate stands at two sites.
    """
    known = sorted({case.site for case in cohort})
    _require_sites(cohort, known, wanted=sites)
    made = []
    for site in sites or known:
        held = {case.case_id for case in cohort if case.site == site}
        torn = sorted(
            {groups[name] for name in held}
            & {groups[case.case_id] for case in cohort if case.case_id not in held}
        )
        if torn:
            raise LeakageError(
                "site",
                f"{len(torn)} patients, groups or near-duplicates stand at {site} and elsewhere, "
                f"{torn[0]} for one",
                "what belongs together is on one side of a split",
                "correct the sites, or merge the sites that share them",
            )
        rest = {case.case_id: case.label for case in cohort if case.case_id not in held}
        fold = _all(held, "test") | _without(rest, groups, seed=_seed(seed))
        made.append(_checked(fold, cohort, name=f"site {site} held out"))
    return tuple(made)


def pooled(folds: Sequence[Mapping[str, SplitName]]) -> Fold:
    """Say as what each case is measured over all folds: test, else validation, else train."""
    parts = {case_id: {fold[case_id] for fold in folds} for case_id in folds[0]}
    order: tuple[SplitName, ...] = ("test", "validation", "train")
    return {
        case_id: next(part for part in order if part in found) for case_id, found in parts.items()
    }


def splits_final(folds: Sequence[Mapping[str, SplitName]]) -> list[dict[str, list[str]]]:
    """Write folds as nnU-Net's ``splits_final.json``: ``train`` and ``val`` of each.

    ``val`` is what the fold alone holds out; ``train`` all other cases, the part that chooses
    epochs among them. Cases that are test in every fold belong to neither.

    Source:
        isensee2021; the file's form is that of nnU-Net v2's documentation.
    """
    every = {name for name in folds[0] if all(fold[name] == "test" for fold in folds)}
    written = []
    for fold in folds:
        held = {name for name, part in fold.items() if part == "test"} - every
        held = held or {name for name, part in fold.items() if part == "validation"}
        written.append({"train": sorted(set(fold) - every - held), "val": sorted(held)})
    return written


def _without(rest: Mapping[str, str], groups: Mapping[str, str], *, seed: int) -> Fold:
    """Deal the cases that are not held out into train and validation."""
    shares = (1 - VALIDATION_SHARE, VALIDATION_SHARE)
    parts = partition(rest, groups, fractions=shares, seed=seed)
    return {case_id: _PARTS[part] for case_id, part in parts.items()}


def _all(case_ids: Iterable[str], part: SplitName) -> Fold:
    return dict.fromkeys(case_ids, part)


def _seed(*place: int) -> int:
    """Mix a seed with a place (repeat, fold) into one."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])


def _checked(fold: Fold, cohort: Cohort, *, name: str) -> Fold:
    """Put a fold into the cohort's order; refuse one that cannot train every class."""
    trained = {name for case in cohort if fold[case.case_id] == "train" for name in case.labels}
    held = {part for part in fold.values() if part != "train"}
    lacking = sorted({name for case in cohort for name in case.labels} - trained)
    if lacking or not held:
        raise DataError(
            name,
            f"no case of class {lacking[0]!r} in train" if lacking else "nothing is held out",
            "every fold trains on every class, and patients, groups and near-duplicates stay "
            "together",
            "choose fewer folds, or add patients (or groups)",
        )
    if "validation" not in held:
        _log.warning("%s: no case is left for validation", name)
    return {case.case_id: fold[case.case_id] for case in cohort}


def _require_clusters(labels: Mapping[str, str], groups: Mapping[str, str], *, folds: int) -> None:
    """Refuse more folds than a class has patients or groups."""
    for label in sorted(set(labels.values())):
        count = len({groups[case_id] for case_id, own in labels.items() if own == label})
        if count < folds:
            raise DataError(
                "folds",
                f"{folds} folds, but class {label!r} has {count} patients (or groups)",
                "each fold holds out every class, and what belongs together stays together",
                f"pass --folds {count}" if count > 1 else "add patients of this class",
            )


def _require_sites(cohort: Cohort, known: Sequence[str], *, wanted: Sequence[str]) -> None:
    """Refuse to hold a site out where sites are not known, or a split was given."""
    nameless = sum(not case.site for case in cohort)
    if nameless or len(known) < 2:
        raise DataError(
            "site",
            f"{nameless} cases have none" if nameless else f"{len(known)} in all",
            "a site is held out where every case has one and there are two",
            "fill the manifest's column site",
        )
    for site in wanted:
        if site not in known:
            rule = f"the sites are {', '.join(known)}"
            raise InputError("--hold-out-site", repr(site), rule, "name one of them")
    if any(case.split for case in cohort):
        raise InputError(
            "--hold-out-site",
            "the data come with a split of their own",
            "a given split is respected, so no site can be held out",
            "leave the manifest's column split out",
        )
