"""One trial of ``vitrail tune``: a configuration of the plan, trained, its weights not kept."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.cohort import load_cohort
from vitrail.errors import PlanError, RunFolderError, VitrailError
from vitrail.models.zoo import build
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import LIMITS, Choice, Plan, parse_plan, read_plan
from vitrail.pipeline.ledger import require_run
from vitrail.pipeline.train import Training, Work, fit_one, trainings
from vitrail.records import Cohort
from vitrail.runfolder import RunFolder, read_json, write_json
from vitrail.training.fit import predict
from vitrail.tuning.study import GivenUp, Objective, Report

ALIASES = {
    "patch": "patch_size",
    "heads": "num_heads",
    "width": "embed_dim",
    "layers": "depth",
    "dropout": "drop_rate",
}
"""Short names of an architecture's parameters."""

_PARAMETERS = ("patch_size", "num_heads", "embed_dim", "depth", "mlp_ratio", "drop_path_rate")
_FIXED = frozenset(
    {
        *("data", "seed", "seeds", "folds", "budget_minutes", "expected_minutes", "workers"),
        *("baseline", "baseline_parameters", "baseline_epochs", "baseline_learning_rate"),
        *("model_parameters", "weights", "pretrained", "channels", "mean", "std"),
        *("explanation", "accept_leakage", *LIMITS),
        "guided",
    }
)
"""Choices of the plan that are not tuned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A run that is tuned."""

    run: RunFolder
    plan: Plan
    cohort: Cohort
    folds: crossvalidation.Folds
    place: Path

    @classmethod
    def open(cls, run: RunFolder, *, nested: bool = False) -> "Tuned":
        """Read a run, and refuse one whose test cases may have been looked at.

        Args:
            run: The run.
            nested: Whether its folds are outer ones, in each of which is tuned anew.
        """
        require_run(run)
        plan = read_plan(run.require(run.plan, "plan"))
        cohort = load_cohort(run.cohort)
        if (run.root / "models").exists():
            came, rule = "it holds trained models", "tuning comes before training"
            remedy = "tune in a new folder: vitrail tune DIR --out RUN"
            raise RunFolderError(str(run.root), came, rule, remedy)
        folds = crossvalidation.read(run, cohort, plan=plan)
        if nested and (len(folds.each) < 2 or folds.share_test):
            came = "one split" if len(folds.each) < 2 else "folds that share a given test part"
            rule = "each outer fold tests the configuration that the others' cases chose"
            raise PlanError(
                "--nested", came, rule, "plan with --folds 5, without a given test part"
            )
        if not nested and len(folds.each) > 1:
            came = f"{len(folds.each)} folds, whose validation cases are tested by other folds"
            rule = "the cases that choose a configuration test none"
            raise PlanError(
                "plan.yaml: folds", came, rule, "plan without --folds, or pass --nested"
            )
        return cls(run=run, plan=plan, cohort=cohort, folds=folds, place=run.tuning.parent)

    def outer(self, number: int) -> "Tuned":
        """Return one outer fold as a tuning of its own, whose test cases nobody looks at."""
        return replace(
            self,
            plan=self.plan.model_copy(update={"folds": Choice(value=1, reason="an outer fold")}),
            folds=crossvalidation.Folds((self.folds.each[number],), self.folds.groups),
            place=self.place / "nested" / f"fold{number}",
        )

    def training(self, parameters: Mapping[str, Any], *, folder: Path) -> tuple[Plan, Training]:
        """Make the plan of a configuration, and its training.

        Raises:
            VitrailError: If the configuration is impossible.
        """
        plan = configured(self.plan, parameters)
        first = next(trainings(self.run, plan, classes=len(self.cohort.classes)))
        return plan, replace(first, folder=folder)

    def folder(self, parameters: Mapping[str, Any], *, worker: int) -> Path:
        """Name the folder of a configuration; workers never share one."""
        known = json.dumps(dict(parameters), sort_keys=True)
        name = sha256(known.encode()).hexdigest()[:12]
        return self.place / "trials" / name / f"worker{worker}"

    def objective(self, *, worker: int) -> Objective:
        """Return the function that tries one configuration."""

        def tried(parameters: Mapping[str, Any], report: Report) -> float:
            known = self.result(parameters)
            if known is None:
                known = self._try(parameters, report, worker=worker)
            return float(known["value"])

        return tried

    def result(self, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what is known of a configuration that some worker finished."""
        place = self.folder(parameters, worker=0).parent
        done = next(iter(sorted(place.glob("worker*/result.json"))), None)
        return None if done is None else dict(read_json(done) or {})  # type: ignore[call-overload]

    def _try(self, parameters: Mapping[str, Any], report: Report, *, worker: int) -> dict[str, Any]:
        """Train one configuration and keep what it says of the validation cases."""
        folder = self.folder(parameters, worker=worker)
        try:
            plan, training = self.training(parameters, folder=folder)
            build(training.spec)
        except VitrailError as impossible:  # drawn, not listed: it ends here and is counted
            raise GivenUp from impossible
        work = Work(self.run, plan, self.cohort, self.folds)
        watch = _Watch(folder / "log.jsonl", report)
        model, _, result = fit_one(training, work, progress=watch)
        watch.catch_up()  # the last epoch, which nobody waited for
        validation = work.part("validation", training)
        said = predict(
            model,
            validation,
            batch_size=plan.batch_size.value,
            multi_label=self.cohort.multi_label,
        )
        names = [case.case_id for case in validation.cases]
        content = {
            "parameters": dict(parameters),
            "metric": result.metric,
            "value": value_of(result.history[result.best_epoch - 1], result.metric),
            "best_epoch": result.best_epoch,
            "seconds": round(result.seconds, 1),
            "cases": names,
            "y_true": np.array(validation.labels).tolist(),
            "probabilities": said.round(6).tolist(),
        }
        write_json(folder / "result.json", content)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return content


def value_of(row: Mapping[str, Any], metric: str = "") -> float:
    """Return what is to be large: the validation metric of an epoch, or minus its loss.

    Example:
        >>> value_of({"validation_loss": 0.5, "roc_auc_score": None})
        -0.5
    """
    name = metric or "roc_auc_score"
    stated = None if name == "loss" else row.get(name)
    return float(-row["validation_loss"] if stated is None else stated)


class _Watch:
    """Reports each epoch that appears in a training's log; it is the training's ``progress``."""

    def __init__(self, log: Path, report: Report) -> None:
        self.log, self.report, self.seen = log, report, 0

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Report what is new, and give up where the pruner says so."""
        del stage, done, total, note
        if self.catch_up():
            raise GivenUp

    def catch_up(self) -> bool:
        """Report what is new; tell whether the trial lags behind."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        rows = [json.loads(line) for line in lines[self.seen :]]
        self.seen = max(self.seen, len(lines))
        return any(self.report(int(row["epoch"]), value_of(row)) for row in rows)


def names(plan: Plan) -> list[str]:
    """Name what can be tuned: choices of the plan, and parameters of its architecture."""
    own = [name for name in Plan.model_fields if name not in _FIXED]
    return list(dict.fromkeys([*own, *ALIASES, *_PARAMETERS, *plan.model_parameters.value]))


def configured(plan: Plan, parameters: Mapping[str, Any]) -> Plan:
    """Change a plan by a configuration.

    Raises:
        PlanError: If a value is impossible.
    """
    content = plan.model_dump(mode="json")
    inside = dict(content["model_parameters"]["value"])
    unlimited = {"value": None, "reason": "no limit: trials are compared at equal epochs"}
    content |= dict.fromkeys(LIMITS, unlimited)
    for name, value in parameters.items():
        if name in content:
            content[name] = {"value": value, "reason": "chosen by vitrail tune"}
        else:
            inside[_parameter(plan, name)] = value
    content["model_parameters"] = {"value": inside, "reason": "chosen by vitrail tune"}
    return parse_plan(content, name="vitrail tune")


def _parameter(plan: Plan, name: str) -> str:
    """Return an architecture's own name of a parameter."""
    if name == "dropout" and plan.model.value == "vit":
        return "proj_drop_rate"
    return ALIASES.get(name, name)
