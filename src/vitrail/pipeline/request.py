"""What the user asked of a plan, and on which machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.pipeline.choices import HeadKind, Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for; None where the rules shall choose.

    Attributes:
        budget_minutes: Time for everything.
        seed: First seed.
        seeds: Trainings of each model.
        folds: Parts that are held out in turn; None takes one split.
        repeats: How often the cases are dealt into folds.
        hold_out_site: The site that is the test part.
        hold_out_sites: Whether each site is held out in turn.
        mode: What is trained of a model that starts from weights; None chooses.
        head: Which head is trained alone.
        views: Views of each training picture that a frozen backbone sees: 1 is the picture as it
            is, more are augmented ones.
        weights: Local weights to start from.
        pretrained: Whether to download the published weights of the named model.
        model: ``vit`` or a timm model's name.
        guided: Network of a second stage that is shown the model's map; None for no second stage.
        accept_leakage: Why a leak across a given split is accepted.
        pretrain: ``mae``, or ``none``.
        unlabeled: Folder of pictures without labels to pretrain on.
        choices: Values that shall stand in the plan, whatever the rules say. ``model_parameters``
            are put over the rules' own.
    """

    budget_minutes: float | None = None
    seed: int | None = None
    seeds: int | None = None
    folds: int | None = None
    repeats: int = 1
    hold_out_site: str = ""
    hold_out_sites: bool = False
    mode: Mode | None = None
    head: HeadKind = "linear"
    views: int = 1
    weights: Path | None = None
    pretrained: bool = False
    model: str | None = None
    guided: str | None = None
    accept_leakage: str = ""
    pretrain: str = "none"
    unlabeled: Path | None = None
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_weights(self) -> bool:
        """Whether the model starts from weights."""
        return self.weights is not None or self.pretrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the plan needs to know of the machine."""

    cores: int
    gpu: str | None
