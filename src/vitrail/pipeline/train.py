"""``vitrail train``: the model and its convolutional baseline, with every seed in every fold."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vitrail.data.augment import preset
from vitrail.data.cohort import load_cohort
from vitrail.data.loader import PictureDataset
from vitrail.data.stacks import dataset_of
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline import crossvalidation, novelty
from vitrail.pipeline.augmentation import keep_grids
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.crossvalidation import Folds
from vitrail.pipeline.frozen import Frozen, train_frozen
from vitrail.pipeline.guards import (
    check_learning_rates,
    check_models,
    require_same_data,
    require_same_plan,
)
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.methods import fit_choices
from vitrail.pipeline.pretraining import pretrain_first
from vitrail.pipeline.processes import leads, meet
from vitrail.records import Case, Cohort, Progress, SplitName, no_progress
from vitrail.runfolder import RunFolder, read_json
from vitrail.training import lora
from vitrail.training.fit import FitResult, FitSettings, fit
from vitrail.training.order import smallest_pass

_log = logging.getLogger("vitrail")
_TOLD = ("plan", "epochs", "best_epoch", "metric", "seconds", "parameters", "warnings")

Name = Literal["vit", "cnn"]
"""Name of a model in the run: what the run is about, and its baseline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training that the plan asks for.

    Attributes:
        name: ``vit`` or ``cnn``.
        seed: Of the weights, the order and the augmentation.
        fold: Which of the folds holds the test cases out.
        spec: What is built.
        settings: How it is trained.
        folder: Where it lies in the run.
    """

    name: Name
    seed: int
    fold: int
    spec: ModelSpec
    settings: FitSettings
    folder: Path

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.name} seed {self.seed} fold {self.fold}"


def trainings(run: RunFolder, plan: Plan, *, classes: int) -> Iterator[Training]:
    """List the trainings of a plan, the model's before the baseline's."""
    names: tuple[Name, ...] = ("vit", "cnn")
    for name in names:
        for seed, fold in product(plan.seed_values, range(plan.folds.value)):
            yield Training(
                name=name,
                seed=seed,
                fold=fold,
                spec=_spec(plan, name, classes=classes),
                settings=_settings(plan, name, seed=seed),
                folder=run.model(name, seed=seed, fold=fold),
            )


def _spec(plan: Plan, name: Name, *, classes: int) -> ModelSpec:
    """Describe one of the two models."""
    model = ModelSpec(
        architecture=plan.model.value,
        num_classes=classes,
        img_size=plan.image_size.value,
        in_chans=plan.channels.value,
        parameters=plan.model_parameters.value,
        weights=Path(plan.weights.value) if plan.weights.value else None,
    )
    if name == "vit":
        return model
    return replace(
        model,
        architecture=plan.baseline.value,
        parameters=plan.baseline_parameters.value,
        weights=None,
    )


def _settings(plan: Plan, name: Name, *, seed: int) -> FitSettings:
    """Put the plan's choices of one model into the training's words."""
    vit = name == "vit"
    return FitSettings(
        epochs=plan.epochs.value if vit else plan.baseline_epochs.value,
        batch_size=plan.batch_size.value,
        learning_rate=plan.learning_rate.value if vit else plan.baseline_learning_rate.value,
        most_minutes=plan.most_minutes.value if vit else plan.baseline_most_minutes.value,
        balance=plan.balance.value,
        **fit_choices(plan.values(), is_model=vit),
        seed=seed,
        num_workers=plan.workers.value,
    )


def train(run: RunFolder, *, command: str = "", progress: Progress = no_progress) -> Result:
    """Train what the plan asks for; what is trained already is kept.

    Args:
        run: Holds ``plan.yaml``, ``cohort.csv`` and ``split.csv``.
        command: The exact command line.
        progress: Told of each step.

    Raises:
        PlanError: If the plan says something impossible.
        RunFolderError: If models of another plan lie in the folder.
        TrainingError: If training stopped; the message says how to go on.
    """
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    cohort = load_cohort(run.cohort)
    folds = crossvalidation.read(run, cohort, plan=plan)
    work = Work(run, plan, cohort, folds)
    wanted = list(trainings(run, plan, classes=len(cohort.classes)))
    require_same_plan((one.folder for one in wanted), plan)
    check_learning_rates(plan)
    missing = [one for one in wanted if not (one.folder / bundle.DESCRIPTION).exists()]
    specs = {
        one.name: one.spec for one in missing if one.name == "cnn" or not plan.pretrained.value
    }
    check_models(specs.values(), least=_smallest_pass(plan, folds))
    if missing:
        require_same_data(plan, cohort)
    return stage(
        "train",
        run,
        inputs=hash_of(plan.fingerprint(), run.split),
        outputs=[training.folder / bundle.DESCRIPTION for training in wanted],
        work=lambda: _train(wanted, work, progress=progress),
        command=command,
    )


def _smallest_pass(plan: Plan, folds: Folds) -> int:
    """Count the cases of the smallest pass in any fold."""
    counts = [list(fold.values()).count("train") for fold in folds.each]
    batch_size, passes = plan.batch_size.value, plan.accumulation.value
    return min(smallest_pass(max(1, count), batch_size, passes=passes) for count in counts)


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What all trainings of a run share.

    Attributes:
        ranges: Of each fold that was trained on: what its training pictures look like.
    """

    run: RunFolder
    plan: Plan
    cohort: Cohort
    folds: Folds
    ranges: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def settles(self) -> bool:
        """Whether the model's head has settings to choose among in place of epochs."""
        return self.plan.mode.value == "head" and self.plan.head.value != "mlp"

    def part(self, part: SplitName, training: Training) -> PictureDataset:
        """Return the pictures of one part of a training's fold."""
        split = self.folds.each[training.fold]
        return self.pictures(split, part, seed=training.seed)

    def pictures(
        self, split: Mapping[str, SplitName], part: SplitName | Literal["all"], *, seed: int
    ) -> PictureDataset:
        """Return the pictures of one part of a split."""
        return dataset(
            self.cohort, split, plan=self.plan, part=part, seed=seed, cache=self.run.cache
        )

    def feature_range(self, model: nn.Module, training: Training) -> dict[str, Any]:
        """Learn what the features of a trained model's own training pictures are like."""
        split = self.folds.each[training.fold]
        seen: dict[str, SplitName] = {
            name: "test" if part == "train" else "" for name, part in split.items()
        }
        plain = self.pictures(seen, "test", seed=training.seed)
        return novelty.learn_features(
            model.eval(), plain, held_out=self.part("validation", training)
        )

    def frozen(self) -> Frozen:
        """Return what heads are trained on."""
        trained: dict[str, SplitName] = {
            case.case_id: "train" if case.case_id in self.folds.trained else ""
            for case in self.cohort
        }
        plan = self.plan
        return Frozen(
            pictures=self.pictures(trained, "all", seed=0),
            augmented=self.pictures(trained, "train", seed=plan.seed.value),
            views=plan.views.value,
            head=plan.head.value,
            folder=self.run.features,
        )


def _train(wanted: list[Training], work: Work, *, progress: Progress) -> Result:
    """Train what is not there yet."""
    if leads():
        keep_grids(work.run, work.plan, cohort=work.cohort, folds=work.folds)
    results = []
    for training in wanted:
        if not (training.folder / bundle.DESCRIPTION).exists():
            told = _one_bar(training, wanted, progress=progress)
            _train_one(training, work, progress=told)
        else:
            _log.info("train: %s is trained, kept", training)
        content: Any = read_json(training.folder / bundle.DESCRIPTION)
        known = {name: value for name, value in content["extra"].items() if name in _TOLD}
        at = {"model": training.name, "seed": training.seed, "fold": training.fold}
        results.append(at | known)
    unit = {"vit": "setting" if work.settles else "epoch"}
    said = [
        f"{one['model']} seed {one['seed']} fold {one['fold']}: "
        f"{unit.get(one['model'], 'epoch')} {one['best_epoch']} of "
        f"{one['epochs']} is best by validation; {one['seconds'] / 60:.1f} minutes"
        for one in results
    ]
    return {"trainings": results, "summary": said}


def _one_bar(training: Training, wanted: Sequence[Training], *, progress: Progress) -> Progress:
    """Show all trainings of a model as one bar, so that its time left is that of all."""
    alike = [one for one in wanted if one.name == training.name]
    before = alike.index(training)
    at = f"seed {training.seed} fold {training.fold}, " if len(alike) > 1 else ""

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        if stage == "features":
            progress(stage, done=done, total=total, note=note)
            return
        steps = {"done": before * total + done, "total": len(alike) * total}
        progress(f"{stage} {training.name}", **steps, note=at + note)

    return told


def _train_one(training: Training, work: Work, *, progress: Progress) -> None:
    """Train one model and keep it."""
    model, spec, result = fit_one(training, work, progress=progress)
    if leads():
        _keep(training, work, model=model, spec=spec, result=result)
    meet()


def _keep(
    training: Training, work: Work, *, model: nn.Module, spec: ModelSpec, result: FitResult
) -> None:
    """Write the folder of a trained model."""
    if training.fold not in work.ranges:
        train, validation = work.part("train", training), work.part("validation", training)
        work.ranges[training.fold] = novelty.learn(train, validation)
    bundle.save(
        training.folder,
        model=model,
        spec=spec,
        classes=work.cohort.classes,
        preprocessing=work.plan.preprocessing,
        extra={
            "plan": work.plan.fingerprint(),
            "multi_label": work.cohort.multi_label,
            **_told(result, model),
            "training_range": work.ranges[training.fold],
            "feature_range": work.feature_range(model, training),
        },
    )


def fit_one(
    training: Training, work: Work, *, progress: Progress
) -> tuple[nn.Module, ModelSpec, FitResult]:
    """Train one model; its log, checkpoints and cached features are written, and nothing else.

    Returns:
        The model with its best weights, what was built, and how it went.
    """
    plan, spec, cohort = work.plan, training.spec, work.cohort
    split = work.folds.each[training.fold]
    train, validation = work.part("train", training), work.part("validation", training)
    held_out = [case for case in cohort if split[case.case_id] != "train"]
    model, warnings = _start(training, plan, train=train, held_out=held_out, progress=progress)
    how: Any = {
        "settings": replace(training.settings, multi_label=cohort.multi_label),
        "folder": training.folder,
        "progress": progress,
    }
    if training.name == "vit" and plan.mode.value == "head":
        spec, result = train_frozen(work.frozen(), model, spec=spec, split=split, **how)
    else:
        result = fit(model, train, validation, **how)
        lora.merge(model)
    return model, spec, replace(result, warnings=(*warnings, *result.warnings))


def _start(
    training: Training,
    plan: Plan,
    *,
    train: PictureDataset,
    held_out: Sequence[Case],
    progress: Progress,
) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a model as it is before its training: new, from weights, or pretrained here.

    Returns:
        The model, and what its pretraining has to say beside the numbers.
    """
    warnings: tuple[str, ...] = ()
    is_model = training.name == "vit"
    model = build(training.spec, seed=training.seed, pretrained=is_model and plan.pretrained.value)
    if is_model and plan.pretrain.value == "mae":
        warnings = pretrain_first(
            model,
            train,
            plan=plan,
            settings=training.settings,
            held_out=held_out,
            folder=training.folder,
            progress=progress,
        )
    if is_model and plan.lora_rank.value and plan.mode.value != "head":
        lora.adapt(model, rank=plan.lora_rank.value)
    return model, warnings


def _told(result: FitResult, model: nn.Module) -> dict[str, object]:
    """Return what is kept of a training beside its weights."""
    return {
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "metric": result.metric,
        "seconds": round(result.seconds, 1),
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
        "warnings": list(result.warnings),
    }


def dataset(
    cohort: Cohort,
    split: Mapping[str, SplitName],
    *,
    plan: Plan,
    part: SplitName | Literal["all"],
    seed: int = 0,
    cache: Path | None = None,
) -> PictureDataset:
    """Make the dataset of one part of the split; training pictures are augmented.

    Args:
        cohort: The cases.
        split: The part of each case.
        plan: Says how pictures are prepared.
        part: Which part.
        seed: Of the augmentation.
        cache: Folder that keeps decoded pictures; None keeps none on disk.
    """
    kind = dataset_of(plan.preprocessing)
    return kind(
        [case for case in cohort if part in ("all", split[case.case_id])],
        cohort.root,
        preprocessing=plan.preprocessing,
        classes=cohort.classes,
        augment=preset(plan.augmentation.value) if part == "train" else None,
        seed=seed,
        cache_dir=cache,
    )
