"""Folds in a run: how they are dealt, which model has not seen a case, and what folds say together.

Each fold is a training of its own. A case that a fold holds out is predicted and explained by that
fold's model. Where the data's makers gave a test part, which every fold shares, the models of all
folds predict it together: the mean of their probabilities is what the run says of a case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitrail.data.folds import Fold, hold_out_sites, make_folds, pooled, splits_final
from vitrail.data.split import load_folds, load_split, make_split, write_split
from vitrail.errors import PlanError, RunFolderError
from vitrail.pipeline.choices import Plan
from vitrail.pipeline.request import Request
from vitrail.records import Cohort, Predictions, SplitName
from vitrail.runfolder import RunFolder, write_json


@dataclass(frozen=True, slots=True)
class Folds:
    """The folds of a run; one where there is a single split.

    Attributes:
        each: The part of each case in each fold.
        groups: Cluster of each case.
    """

    each: tuple[Fold, ...]
    groups: Mapping[str, str]

    @property
    def trained(self) -> frozenset[str]:
        """Cases that some fold trains on."""
        return frozenset(name for fold in self.each for name in _of(fold, "train"))

    @property
    def tested(self) -> frozenset[str]:
        """Cases that some fold tests on."""
        return frozenset(name for fold in self.each for name in _of(fold, "test"))

    @property
    def share_test(self) -> bool:
        """Whether several folds have one test part in common."""
        return len(self.each) > 1 and all(
            self.tested == set(_of(fold, "test")) for fold in self.each
        )

    def explained(self, number: int, *, everything: bool) -> Fold:
        """Mark with ``test`` the cases that a fold's model explains, each case in one fold.

        Those are the cases (tested ones, or all of the cohort) that it is the first to hold out.
        """
        wanted = set(self.each[0]) if everything else self.tested
        return {
            name: "test" if name in wanted and self.unseen(name) == number else ""
            for name in self.each[0]
        }

    def unseen(self, case_id: str) -> int:
        """Return the first fold that tests a case, else that validates on it, else the first."""
        parts = [fold[case_id] for fold in self.each]
        return next((parts.index(part) for part in ("test", "validation") if part in parts), 0)


def _of(fold: Mapping[str, SplitName], part: SplitName) -> list[str]:
    return [case_id for case_id, own in fold.items() if own == part]


def deal(run: RunFolder, cohort: Cohort, *, request: Request, groups: Mapping[str, str]) -> None:
    """Write ``split.csv`` and nnU-Net's ``splits_final.json`` as the user asked.

    Args:
        run: Takes the files.
        cohort: The cases.
        request: Asks for folds, or for sites held out, or for neither.
        groups: Cluster of each case.

    Raises:
        PlanError: If folds and sites are asked for together.
        DataError: If the cases cannot be dealt so.
    """
    seed = request.seed or 0
    sites = request.hold_out_sites or bool(request.hold_out_site)
    if sites and request.folds:
        raise PlanError(
            "--folds",
            "together with a site held out",
            "each site held out is a fold of its own",
            "drop one of the two",
        )
    if request.repeats > 1 and not request.folds:
        raise PlanError(
            "--repeats",
            str(request.repeats),
            "folds are what is dealt again",
            "pass --folds 5 with it",
        )
    if sites:
        named = (request.hold_out_site,) if request.hold_out_site else ()
        folds = hold_out_sites(cohort, groups=groups, sites=named, seed=seed)
    elif request.folds:
        folds = make_folds(
            cohort, groups=groups, folds=request.folds, repeats=request.repeats, seed=seed
        )
    else:
        folds = (make_split(cohort, groups=groups, seed=seed),)
    several = folds if len(folds) > 1 else ()
    write_split(run.split, cohort, split=pooled(folds), groups=groups, folds=several)
    write_json(run.root / "splits_final.json", splits_final(folds))


def require_sites(run: RunFolder, cohort: Cohort, *, request: Request) -> None:
    """Check that the split that is there holds out the sites that are asked for, if any are.

    Raises:
        RunFolderError: If it does not.
    """
    site = {case.case_id: case.site for case in cohort}
    wanted = {request.hold_out_site} if request.hold_out_site else set(site.values())
    if not (request.hold_out_site or request.hold_out_sites):
        return
    held = [sorted({site[name] for name in _of(fold, "test")}) for fold in read(run, cohort).each]
    if "" in wanted or sorted(held) != sorted([one] for one in wanted):
        option = "--hold-out-site" if request.hold_out_site else "--hold-out-sites"
        raise RunFolderError(
            str(run.split),
            f"it holds out others than {option} asks for ({', '.join(sorted(wanted))})",
            "a run folder keeps one split",
            "leave the option out, or pass another --out",
        )


def read(run: RunFolder, cohort: Cohort, *, plan: Plan | None = None) -> Folds:
    """Read the folds of a run, verified against their certificate.

    Args:
        run: Holds ``split.csv``.
        cohort: The cases.
        plan: Where given, its number of folds must be that of the file.

    Raises:
        PlanError: If plan and split tell different numbers of folds.
        RunFolderError: If there is no split.
        LeakageError: If cases were moved since the split was made.
    """
    path = run.require(run.split, "plan")
    folds = load_folds(path, cohort)
    if plan is not None and plan.folds.value != len(folds):
        raise PlanError(
            f"{run.plan}: folds",
            str(plan.folds.value),
            f"split.csv holds {len(folds)}",
            "set it back, or start a new run with --folds",
        )
    return Folds(folds, load_split(path, cohort)[1])


def together(predictions: Sequence[Predictions]) -> list[Predictions]:
    """Average what the folds of each model and seed say of the same case; the fold becomes 0."""
    runs: dict[tuple[object, ...], list[Predictions]] = {}
    for said in predictions:
        runs.setdefault((said.model, said.seed, said.split), []).append(said)
    return [_averaged(own) for own in runs.values()]


def _averaged(folds: Sequence[Predictions]) -> Predictions:
    """Join the predictions of one model, seed and part over its folds."""
    rows: dict[str, list[np.ndarray]] = {}
    truth: dict[str, object] = {}
    for said in folds:
        for place, name in enumerate(said.case_ids):
            rows.setdefault(name, []).append(said.probabilities[place])
            truth[name] = said.y_true[place]
    return replace(
        folds[0],
        fold=0,
        case_ids=tuple(rows),
        y_true=np.array(list(truth.values())),
        probabilities=np.array([np.mean(own, axis=0) for own in rows.values()]),
    )
