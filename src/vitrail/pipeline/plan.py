"""``vitrail plan``: the split, and every choice with its reason."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from vitrail.data.audit import from_json
from vitrail.data.cohort import load_cohort
from vitrail.data.split import clusters
from vitrail.data.stacks import dataset_of
from vitrail.errors import AnatomyError, CaptureError, MethodError, RunFolderError
from vitrail.explain import explain
from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan, read_plan, write_plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.environment import usable_cores
from vitrail.pipeline.facts import Facts, data_fingerprint, gather
from vitrail.pipeline.guards import require_same_data
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.pixels import intensity_range, mean_and_std
from vitrail.pipeline.pretraining import count_pictures
from vitrail.pipeline.request import Machine, Request
from vitrail.pipeline.rules import choose
from vitrail.pipeline.wishes import checked, stands_for
from vitrail.records import Case, Cohort, Progress, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json
from vitrail.training.fit import seconds_a_step

_log = logging.getLogger("vitrail")


def plan(
    run: RunFolder,
    request: Request | None = None,
    *,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Split the cohort and write ``plan.yaml``; a plan that is there already is kept.

    Args:
        run: Holds ``cohort.csv`` and ``audit.json``.
        request: What the user asked for.
        command: The exact command line.
        progress: Told of each timed model.

    Raises:
        LeakageError: If the given split leaks and no reason was given to go on.
        PlanError: If the budget is too small, or an edited plan says something impossible.
        RunFolderError: If the plan is another one's.
    """
    require_run(run)
    request = request or Request()
    if run.plan.exists():
        kept = read_plan(run.plan)
        _refuse_other(run, kept, request=request)
        if run.split.exists():
            crossvalidation.require_sites(run, load_cohort(run.cohort), request=request)
            _log.info("plan: %s is there and kept; edit it to change a choice", run.plan)
            return {**_result(kept), "stage": "plan", "skipped": True, "seconds": 0.0}
    return stage(
        "plan",
        run,
        inputs=hash_of(run.cohort, run.audit),
        outputs=(run.plan, run.split),
        work=lambda: _plan(run, request, progress=progress),
        command=command,
    )


def _plan(run: RunFolder, request: Request, *, progress: Progress) -> Result:
    """Split if there is no split yet, choose if there is no plan yet."""
    cohort = load_cohort(run.cohort)
    if not run.split.exists():
        _split(run, request)
    folds = crossvalidation.read(run, cohort)
    if not run.plan.exists():
        chosen = choose(
            _facts(run, cohort, folds, request=request, progress=progress),
            request,
            machine=Machine(
                cores=usable_cores(),
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            ),
            data=data_fingerprint(cohort),
            cost=_Timer(progress, gpu=torch.cuda.is_available()),
            attends=_attends,
            measure=lambda preprocessing: mean_and_std(
                dataset_of(preprocessing)(
                    _trained(cohort, folds),
                    cohort.root,
                    preprocessing=preprocessing,
                    classes=cohort.classes,
                    cache_dir=run.cache,
                ),
                progress=progress,
            ),
        )
        write_plan(run.plan, chosen)
    return _result(read_plan(run.plan))


def _facts(
    run: RunFolder, cohort: Cohort, folds: Folds, *, request: Request, progress: Progress
) -> Facts:
    """Gather what the rules look at; of pixels, what the training part alone tells."""
    fingerprint = cast("Mapping[str, Any]", read_json(run.audit))["fingerprint"]
    facts = gather(cohort, folds.each[0], fingerprint=fingerprint, folds=len(folds.each))
    deep = facts.bits > 8
    return replace(
        facts,
        unlabeled=count_pictures(request.unlabeled),
        intensity_range=intensity_range(_trained(cohort, folds), cohort.root, progress=progress)
        if deep
        else None,
    )


def _trained(cohort: Cohort, folds: Folds) -> list[Case]:
    """List the cases that some fold trains on."""
    return [case for case in cohort if case.case_id in folds.trained]


def _result(made: Plan) -> Result:
    """Return the values of a plan and its sentences."""
    return {
        "plan": {name: choice["value"] for name, choice in made.model_dump(mode="json").items()},
        "summary": _sentences(made),
    }


def _split(run: RunFolder, request: Request) -> None:
    """Write ``split.csv``, or refuse a given split that leaks."""
    cohort = load_cohort(run.cohort)
    found = from_json(cast("dict[str, Any]", read_json(run.audit)))
    accepted = found.accept_leakage(request.accept_leakage)
    groups = clusters(cohort, found.duplicate_pairs())
    crossvalidation.deal(run, cohort, request=request, groups=groups)
    if accepted.accepted_leakage:
        write_json(run.audit, accepted.to_json())


_TIMED_PICTURES = 8


class _Timer:
    """Times one training step of a model, once for each model and batch size.

    On a CPU a step's time grows with its pictures, so a few of them are timed for all.
    """

    def __init__(self, progress: Progress, *, gpu: bool) -> None:
        self._progress = progress
        self._gpu = gpu
        self._known: dict[str, float] = {}

    def __call__(self, spec: ModelSpec, batch_size: int) -> float:
        """Return the seconds of a step."""
        key = f"{spec.to_json()} {batch_size}"
        if key not in self._known:
            shape = (spec.in_chans, *spec.img_size)
            timed = batch_size if self._gpu else min(batch_size, _TIMED_PICTURES)
            model = build(spec).to("cuda" if self._gpu else "cpu")
            seconds = seconds_a_step(model, timed, image_shape=shape, steps=2)
            self._known[key] = seconds * batch_size / timed
            done = len(self._known)
            self._progress("timing training steps", done=done, total=done, note=spec.architecture)
        return self._known[key]


def _attends(spec: ModelSpec) -> bool:
    """Try on an untrained model whether its attention can be rolled out."""
    image = torch.zeros(1, spec.in_chans, *spec.img_size)
    try:
        explain(build(replace(spec, weights=None)).eval(), image, method="rollout")
    except (AnatomyError, CaptureError, MethodError) as error:
        _log.info("plan: no rollout for %s: %s", spec.architecture, error.came)
        return False
    return True


def _refuse_other(run: RunFolder, kept: Plan, *, request: Request) -> None:
    """Refuse a plan made for other data, or for other wishes than those on the command line."""
    require_same_data(kept, load_cohort(run.cohort))
    default = Request()
    wishes = {
        "budget_minutes": request.budget_minutes,
        "seed": request.seed,
        "seeds": request.seeds,
        "folds": request.folds and request.folds * request.repeats,
        "model": request.model,
        "guided": request.guided,
        "mode": request.mode,
        "head": None if request.head == default.head else request.head,
        "views": None if request.views == default.views else request.views,
        "accept_leakage": request.accept_leakage or None,
        "weights": str(request.weights.resolve()) if request.weights else None,
        "pretrained": request.pretrained or None,
        "pretrain": None if request.pretrain == "none" else request.pretrain,
        "unlabeled": str(request.unlabeled.resolve()) if request.unlabeled else None,
        **checked(request.choices),
    }
    for name, wish in wishes.items():
        stands = getattr(kept, name).value
        if not (wish is None or stands_for(wish, stands)):
            raise RunFolderError(
                str(run.plan),
                f"it says {name}: {stands}, the command line says {wish}",
                "a run folder keeps one plan",
                f"edit {name} there, leave the option out, or pass another --out",
            )


def _sentences(made: Plan) -> list[str]:
    """Say the main choices."""
    rows, columns = made.image_size.value
    models = f"model {made.model.value} beside {made.baseline.value}, {rows} x {columns} px"
    epochs = f"{made.epochs.value} and {made.baseline_epochs.value} epochs"
    minutes = made.expected_minutes.value.get("total", 0.0)
    trainings = made.seeds.value * made.folds.value
    if trainings > 1:
        models = f"{models}, each trained {trainings} times"
    return [
        f"{models}, {epochs}, batches of {made.batch_size.value}",
        f"expected: {minutes:.1f} minutes; every choice stands with its reason in plan.yaml",
    ]
