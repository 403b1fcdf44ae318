"""The plan: every choice of a run with its value, its reason and its cost, as a file people edit.

``plan.yaml`` is one mapping. Each key holds ``value`` and ``reason`` (and ``minutes`` where the
choice costs time). A person changes a ``value`` and runs on; ``vitrail`` reads it back, refuses
what it does not know by naming the nearest key, and never overwrites it.
"""

import difflib
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitrail.data.window import find_window
from vitrail.errors import PlanError
from vitrail.records import Preprocessing, VolumeView
from vitrail.runfolder import write_text

T = TypeVar("T")

Mode = Literal["head", "finetune", "scratch"]
HeadKind = Literal["linear", "mlp", "knn"]

_HEADER = """\
# The plan of this run. Change any `value` and run the same command again before the training has
# begun; a reason is a note for people and may be changed at any time.
"""

Pixels = Annotated[int, Field(ge=16, le=2048)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(gt=0)]


class Choice(BaseModel, Generic[T]):
    """One choice.

    Attributes:
        value: What is done.
        reason: The rule and the evidence that made it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: T
    reason: str = ""


LIMITS = ("most_minutes", "baseline_most_minutes", "pretrain_most_minutes")
"""Choices that end a training in time; what is trained stays the same."""


class Plan(BaseModel):
    """Every choice of a run, in the order of the file.

    Attributes:
        data: Fingerprint of the cases that the plan was made for; not to be edited.
        seed: First seed of the split, the weights and the order of the cases.
        seeds: Number of trainings of each model, with seeds ``seed, seed + 1, …``.
        folds: Number of folds of ``split.csv``, each trained with every seed; 1 is a single split.
        budget_minutes: Time that the user gave; None where none was given.
        model: ``vit`` (a timm ``VisionTransformer`` from scratch) or a timm model's name.
        model_parameters: Keyword arguments of the architecture.
        guided: Network of the second stage that is shown the model's map beside the picture, for
            volumes: a timm name, or ``plan`` for the baseline's; None for no second stage.
        mode: What is trained of the model: its ``head`` on frozen features, all of it from weights
            (``finetune``), or all of it from nothing (``scratch``). The baseline is always trained
            from scratch.
        head: Which head is trained alone, in mode ``head``.
        views: Views of each training picture that a frozen backbone sees, in mode ``head``: 1 is
            the picture as it is, more are augmented ones.
        weights: File of local safetensors weights, or None.
        pretrained: Whether the model starts from its published weights, which are downloaded.
        pretrain: How the model learns before it sees labels: ``mae`` fills in hidden patches of the
            training pictures, ``none`` begins at once.
        unlabeled: Folder of further pictures for that, or None.
        pretrain_epochs: Passes over those pictures.
        pretrain_most_minutes: Time of them all, as ``most_minutes``.
        pretrain_learning_rate: Peak of their schedule.
        mask_ratio: Share of the patches that is hidden.
        baseline: timm name of the convolutional network trained beside it.
        baseline_parameters: Keyword arguments of the baseline's architecture.
        image_size: (rows, columns) of the input in pixels.
        channels: 1 (grey) or 3 (color).
        fit: ``squash`` or ``pad``, see :class:`vitrail.records.Preprocessing`.
        mean: Per channel, of training pixels in [0, 1].
        std: Per channel, of training pixels in [0, 1].
        volume: How a volume becomes the picture, see :class:`vitrail.records.VolumeView`; None
            where the cases are pictures.
        intensity_range: Stored values mapped to 0 and 1, for pictures of more than 8 bits.
        augmentation: Which family of random changes the training pictures get.
        batch_size: Pictures a step.
        epochs: Passes over the training cases, for the model.
        learning_rate: Peak of the model's schedule.
        baseline_epochs: Passes over the training cases, for the baseline.
        baseline_learning_rate: Peak of the baseline's schedule.
        most_minutes: Time of one training of the model; on a machine that got slower there will be
            fewer epochs, so as to end within it. None for no limit.
        baseline_most_minutes: The same of the baseline.
        optimizer: Name of one of timm's.
        weight_decay: On matrices only, never on biases, norms and embeddings.
        layer_decay: Factor on the model's learning rate for each layer further from its head;
            None for one rate everywhere.
        lora_rank: Rank of the products that learn beside the model's resting attention matrices;
            None trains every weight.
        unfreezing: Share of the epochs over which the model's layers are set free one after
            another, the head first; 0 trains all from the first epoch.
        clip_norm: Largest norm of a step's gradient; None for no limit.
        label_smoothing: Share of the target spread over all classes.
        mixup: Parameter of the beta distribution that pictures are blended by; 0 for none.
        cutmix: The same for pasted boxes; 0 for none.
        ema_decay: Of the moving average of the weights that is kept; None for none.
        accumulation: Passes that a batch is cut into, so that less has to fit into memory.
        patience: Epochs without a better one after which training stops; None trains them all.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: Whether the training step is compiled by ``torch.compile``.
        tracker: Which tracker gets the curves beside ``log.jsonl``: ``tensorboard``, ``mlflow``,
            ``wandb`` or another that accelerate knows; None for none.
        balance: How classes of unequal size are made to count alike: by class ``weights`` in the
            loss, by ``sampling``, or ``none``.
        workers: Processes that decode pictures.
        explanation: How the maps of the model are made. ``rollout`` tells where attention flows,
            whatever the class; ``grad_cam`` and ``relevance`` what speaks for the predicted class,
            and for each positive label where a case can have several.
        accept_leakage: Why a leak across the split was accepted; empty where none was.
        expected_minutes: Estimated minutes of each stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Choice[str]
    seed: Choice[Annotated[int, Field(ge=0)]]
    seeds: Choice[Annotated[int, Field(ge=1, le=100)]]
    folds: Choice[Annotated[int, Field(ge=1, le=1000)]]
    budget_minutes: Choice[Minutes | None]
    model: Choice[str]
    model_parameters: Choice[dict[str, Any]]
    guided: Choice[str | None] = Choice(value=None)
    mode: Choice[Mode]
    head: Choice[HeadKind]
    views: Choice[Annotated[int, Field(ge=1, le=1000)]]
    weights: Choice[str | None]
    pretrained: Choice[bool]
    pretrain: Choice[Literal["none", "mae"]]
    unlabeled: Choice[str | None]
    pretrain_epochs: Choice[Count]
    pretrain_most_minutes: Choice[Minutes | None] = Choice(value=None)
    pretrain_learning_rate: Choice[Rate]
    mask_ratio: Choice[Annotated[float, Field(gt=0, lt=1)]]
    baseline: Choice[str]
    baseline_parameters: Choice[dict[str, Any]]
    image_size: Choice[tuple[Pixels, Pixels]]
    channels: Choice[Literal[1, 3]]
    fit: Choice[Literal["squash", "pad"]]
    mean: Choice[tuple[float, ...]]
    std: Choice[tuple[Annotated[float, Field(gt=0)], ...]]
    volume: Choice[VolumeView | None] = Choice(value=None)
    intensity_range: Choice[tuple[float, float] | None]
    augmentation: Choice[Literal["ct", "histology", "xray", "photo", "none"]]
    batch_size: Choice[Annotated[int, Field(ge=1, le=4096)]]
    epochs: Choice[Count]
    learning_rate: Choice[Rate]
    baseline_epochs: Choice[Count]
    baseline_learning_rate: Choice[Rate]
    most_minutes: Choice[Minutes | None] = Choice(value=None)
    baseline_most_minutes: Choice[Minutes | None] = Choice(value=None)
    optimizer: Choice[str]
    weight_decay: Choice[Share]
    layer_decay: Choice[Rate | None]
    lora_rank: Choice[Annotated[int, Field(ge=1, le=1024)] | None]
    unfreezing: Choice[Share]
    clip_norm: Choice[Annotated[float, Field(gt=0)] | None]
    label_smoothing: Choice[Annotated[float, Field(ge=0, le=0.9)]]
    mixup: Choice[Annotated[float, Field(ge=0, le=100)]]
    cutmix: Choice[Annotated[float, Field(ge=0, le=100)]]
    ema_decay: Choice[Annotated[float, Field(gt=0, lt=1)] | None]
    accumulation: Choice[Annotated[int, Field(ge=1, le=4096)]]
    patience: Choice[Count | None]
    precision: Choice[Literal["auto", "fp32", "bf16", "fp16"]]
    compile: Choice[bool]
    tracker: Choice[str | None]
    balance: Choice[Literal["none", "weights", "sampling"]]
    workers: Choice[Annotated[int, Field(ge=0, le=64)]]
    explanation: Choice[Literal["rollout", "grad_cam", "relevance"]]
    accept_leakage: Choice[str]
    expected_minutes: Choice[dict[str, float]]

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> "Plan":
        """Check what two choices say together."""
        for name in ("mean", "std"):
            count = len(getattr(self, name).value)
            if count != self.channels.value:
                message = f"{name} has {count} numbers for {self.channels.value} channels"
                raise ValueError(message)
        if (self.mode.value == "scratch") == (
            self.weights.value is not None or self.pretrained.value
        ):
            there = "there are weights" if self.mode.value == "scratch" else "there are no weights"
            message = f"mode is {self.mode.value}, but {there} to start from"
            raise ValueError(message)
        view = self.volume.value
        if view is not None:
            if view.mode == "channels" and self.channels.value != 3:
                message = "the volume's mode channels needs channels: 3"
                raise ValueError(message)
            find_window(np.zeros(1), view.window)
        return self

    def values(self) -> dict[str, Any]:
        """Return the value of every choice."""
        return {name: getattr(self, name).value for name in type(self).model_fields}

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes an input."""
        return Preprocessing(
            image_size=self.image_size.value,
            channels=self.channels.value,
            fit=self.fit.value,
            mean=self.mean.value,
            std=self.std.value,
            intensity_range=self.intensity_range.value,
            volume=self.volume.value,
        )

    @property
    def seed_values(self) -> range:
        """The seeds of the trainings."""
        return range(self.seed.value, self.seed.value + self.seeds.value)

    def fingerprint(self, *, without: tuple[str, ...] = ()) -> str:
        """Hash the values that change what is trained (no reasons, no times, no maps)."""
        left_out = {
            "budget_minutes",
            *LIMITS,
            "expected_minutes",
            "explanation",
            "workers",
            "tracker",
            "guided",
            *without,
        }
        values = {
            name: choice["value"]
            for name, choice in self.model_dump(mode="json").items()
            if name not in left_out
        }
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_plan(path: Path, plan: Plan) -> None:
    """Write ``plan.yaml``."""
    content = plan.model_dump(mode="json")
    lines = [
        yaml.safe_dump({key: choice}, sort_keys=False, allow_unicode=True, width=96)
        for key, choice in content.items()
    ]
    write_text(path, _HEADER + "\n" + "\n".join(lines))


def read_plan(path: Path) -> Plan:
    """Read ``plan.yaml`` as a person may have edited it.

    Raises:
        PlanError: If the file is not YAML, a key is unknown or missing, or a value is impossible.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise PlanError(
            str(path), f"not YAML ({problem})", "it is a YAML mapping", "undo the last edit"
        ) from error
    if not isinstance(content, Mapping):
        raise PlanError(
            str(path),
            f"a {type(content).__name__}",
            "it is a YAML mapping of choices",
            "delete it and run `vitrail plan`",
        )
    return parse_plan(content, name=str(path))


def parse_plan(content: Mapping[str, Any], *, name: str) -> Plan:
    """Check a plan's content.

    Args:
        content: The mapping of the file.
        name: How messages call the file.

    Raises:
        PlanError: If a key is unknown or missing, or a value is impossible.
    """
    try:
        return Plan.model_validate(dict(content))
    except ValidationError as error:
        raise _plan_error(error, name) from error


def parse_choice(name: str, value: object) -> Any:
    """Check one value alone, as `parse_plan` would.

    Args:
        name: Of the choice.
        value: As it was read.

    Returns:
        The value in its own type.

    Raises:
        PlanError: If it is impossible.
    """
    kind = cast("type[Choice[Any]]", Plan.model_fields[name].annotation)
    try:
        return kind.model_validate({"value": value}).value
    except ValidationError as error:
        raise _plan_error(error, f"--set {name}") from error


def _plan_error(error: ValidationError, name: str) -> PlanError:
    """Say the first thing that is wrong with a plan in four parts."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = list(Choice.model_fields) if len(location) > 1 else list(Plan.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)[0]
        return PlanError(
            f"{name}: {key}",
            "an unknown key",
            f"the nearest known one is {near!r}",
            f"rename it to {near!r} or delete it",
        )
    if first["type"] == "missing":
        return PlanError(
            f"{name}: {key}",
            "missing",
            "every choice has a value",
            "put it back, or delete the plan and run `vitrail plan`",
        )
    rule = first["msg"].removeprefix("Value error, ")
    came = "the choices contradict each other" if not location else repr(first["input"])
    return PlanError(
        f"{name}: {key}" if key else name, came, rule[0].lower() + rule[1:], "change the value"
    )
