"""One fold of the study: maps that never saw their case's label, then every arm's second stage."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from vitrail.data.augment import preset
from vitrail.data.folds import make_folds
from vitrail.data.stacks import VolumeDataset
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.explain import Attribution
from vitrail.explain.windows import explain_windows
from vitrail.guided.arms import Arm, control_maps, shuffled
from vitrail.guided.columns import Columns, WithColumns
from vitrail.guided.dataset import GuidedDataset, MapScale
from vitrail.guided.joint import EndToEnd
from vitrail.guided.maps import Maps, explained
from vitrail.models import bundle
from vitrail.models.zoo import ModelSpec, build
from vitrail.records import (
    Case,
    Cohort,
    Predictions,
    Preprocessing,
    Progress,
    SplitName,
    no_progress,
)
from vitrail.training.fit import FitSettings, fit, predict

_PARTS: tuple[SplitName, ...] = ("train", "validation", "test")
_HELD_OUT = _PARTS[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How both stages are built and trained.

    Attributes:
        vit: Stage one.
        cnn: Stage two, with as many channels as the picture; the map's is added.
        vit_fit: Training of stage one.
        cnn_fit: Training of stage two.
        preprocessing: Of the volumes.
        augmentation: Name of a preset, for both stages.
        inner_folds: Stage-one models that share the out-of-fold maps of the training cases.
        cache: Folder of decoded volumes, and of maps.
        columns: Of the cases, joined to the last layer of stage two.
    """

    vit: ModelSpec
    cnn: ModelSpec
    vit_fit: FitSettings
    cnn_fit: FitSettings
    preprocessing: Preprocessing
    augmentation: str
    inner_folds: int = 3
    cache: Path | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What both stages looked at in the test cases of a fold.

    Attributes:
        cases: The test cases.
        vit: Stage one's maps.
        cnn: Grad-CAM of stage two for the class that it predicts, with sign.
        first: The maps of stage two of the first window, with all that is known of them.
    """

    cases: VolumeDataset
    vit: Maps | None
    cnn: Float[np.ndarray, "case window cnn_row cnn_column"]
    first: Attribution


@dataclass(slots=True, kw_only=True)
class FoldStudy:
    """One fold: its cases, its stage one, and the maps that were made so far.

    Attributes:
        cohort: All cases.
        split: The part of each case.
        groups: Cluster of each case.
        number: Of the fold.
        stages: How the models are built and trained.
        outer: Stage one as it was trained on this fold's training cases.
        folder: Keeps inner models and predictions, so that a stopped study goes on.
        seconds: What each kind of work took in this sitting.
    """

    cohort: Cohort
    split: Mapping[str, SplitName]
    groups: Mapping[str, str]
    number: int
    stages: Stages
    outer: nn.Module
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    _maps: dict[tuple[str, bool, SplitName], Maps] = field(default_factory=dict)

    def run(self, arm: Arm, *, seed: int, progress: Progress) -> list[Predictions]:
        """Train one arm's second stage, or read what it said before.

        Args:
            arm: What fills the map channel.
            seed: Of the weights, the order and the augmentation.
            progress: Told of each step.

        Returns:
            What it says of the validation and the test cases, averaged over their windows.
        """
        said = self._folder(arm, seed) / "predictions.csv"
        if said.exists():
            return list(read_predictions(said))
        model, shown = self._trained(arm, seed=seed, progress=progress)
        predictions = [
            self._predictions(arm, part, model=model, shown=shown, seed=seed) for part in _HELD_OUT
        ]
        write_predictions(said, predictions)
        return predictions

    def evidence(self, arm: Arm, *, seed: int) -> Evidence:
        """Ask both stages what they looked at in the test cases.

        Args:
            arm: With a map of stage one.
            seed: Of a training that `run` has finished; its weights are read back.
        """
        model, shown = self._trained(arm, seed=seed, progress=no_progress)
        network, width = model, 0
        if isinstance(model, WithColumns):
            network, width = model.network, model.width
        windows = [
            torch.stack([one[index][0] for index in range(len(one))])
            for one in _each_window(shown["test"])
        ]
        with torch.inference_mode():
            said = model(windows[0]).argmax(dim=1).tolist()
        pictures = [images[:, : images.shape[1] - width] for images in windows]
        first, cnn = explain_windows(network, pictures, method="grad_cam", target=said)
        vit = self.maps(arm, "test", seed=seed)
        return Evidence(cases=self._windows("test")[0], vit=vit, cnn=cnn, first=first)

    def _folder(self, arm: Arm, seed: int) -> Path:
        """Return where one training lies."""
        return self.folder / arm.name.replace(" ", "-") / f"seed{seed}"

    def _trained(
        self, arm: Arm, *, seed: int, progress: Progress
    ) -> tuple[nn.Module, dict[SplitName, GuidedDataset]]:
        """Train one arm's second stage, or load it where its training is finished.

        Returns:
            The model, and the datasets that it takes.
        """
        maps = {part: self.maps(arm, part, seed=seed) for part in _PARTS}
        scale = MapScale.learn(maps["train"])
        columns = Columns.learn(
            self.stages.columns, self.cohort, training=self._windows("train")[0].cases
        )
        shown = {}
        for part in _PARTS:
            windows = self._windows(part)
            shown[part] = GuidedDataset(
                windows,
                maps[part],
                scale=scale,
                numbers=columns.encode(windows[0].cases) if columns.each else None,
                augment=preset(self.stages.augmentation) if part == "train" else None,
                seed=seed,
            )
        started = time.perf_counter()
        model = self._built(arm, columns, seed=seed)
        fit(
            model,
            shown["train"],
            validation=shown["validation"],
            settings=replace(self.stages.cnn_fit, seed=seed),
            folder=self._folder(arm, seed),
            progress=progress,
        )
        self._count("stage two", started)
        return model, shown

    def _built(self, arm: Arm, columns: Columns, *, seed: int) -> nn.Module:
        """Build the second stage as it is before its training."""
        cnn = self.stages.cnn
        model = (
            EndToEnd(self.stages.vit, cnn, seed=seed)
            if arm.source == "joint"
            else build(replace(cnn, in_chans=cnn.in_chans + 1), seed=seed)
        )
        if not columns.each:
            return model
        return WithColumns(model, width=columns.width, classes=cnn.num_classes)

    def maps(self, arm: Arm, part: SplitName, *, seed: int) -> Maps | None:
        """Return the raw maps of an arm for one part of the split; None where it makes its own."""
        if arm.source == "joint":
            return None
        windows = self._windows(part)
        names = [case.case_id for case in windows[0].cases]
        if arm.source == "method":
            return self._explained(arm, part)
        if arm.source == "shuffled":
            real = self._explained(replace(arm, method="rollout"), part)
            return shuffled(real, groups=[self.groups[name] for name in names], seed=seed)
        if arm.source == "mask":
            inside = [[one.mask(index) for one in windows] for index in range(len(names))]
            return np.array(inside, dtype=np.float32)
        rows, columns = self._explained(replace(arm, method="rollout"), part).shape[2:]
        view = self.stages.preprocessing.volume
        return control_maps(
            arm,
            (len(names), len(windows), rows, columns),
            tiles=view.grid if view is not None else 1,
            names=names,
            seed=seed,
        )

    def _explained(self, arm: Arm, part: SplitName) -> Maps:
        """Explain one part: training cases by inner models that did not see them."""
        key = (arm.method, arm.in_sample, part)
        if key not in self._maps:
            windows = self._windows(part)
            if part != "train" or arm.in_sample:
                self._maps[key] = self._by(self.outer, windows, arm.method)
            else:
                self._maps[key] = self._out_of_fold(windows, arm.method)
        return self._maps[key]

    def _out_of_fold(self, windows: Sequence[VolumeDataset], method: str) -> Maps:
        """Explain every training case by the inner model that held it out."""
        cases = windows[0].cases
        inner = Cohort(
            self.cohort.root,
            tuple(replace(case, split="") for case in cases),
            self.cohort.classes,
        )
        folds = make_folds(
            inner, groups=self.groups, folds=self.stages.inner_folds, seed=self.number
        )
        made: dict[int, Maps] = {}
        for number, fold in enumerate(folds):
            held = [place for place, case in enumerate(cases) if fold[case.case_id] == "test"]
            model = self._inner([case for case in cases if fold[case.case_id] != "test"], number)
            found = self._by(model, self._some([cases[place] for place in held]), method)
            made |= dict(zip(held, found, strict=True))
        return np.stack([made[place] for place in range(len(cases))])

    def _inner(self, training: Sequence[Case], number: int) -> nn.Module:
        """Train an inner stage one, or load it; the fold's validation cases choose its epoch."""
        folder = self.folder / "inner" / str(number)
        if (folder / bundle.DESCRIPTION).exists():
            return bundle.load(folder).model
        started = time.perf_counter()
        stages = self.stages
        model = build(stages.vit, seed=stages.vit_fit.seed)
        fit(
            model,
            VolumeDataset(
                training,
                self.cohort.root,
                preprocessing=stages.preprocessing,
                classes=self.cohort.classes,
                augment=preset(stages.augmentation),
                seed=stages.vit_fit.seed,
                cache_dir=stages.cache,
            ),
            validation=self._windows("validation")[0],
            settings=stages.vit_fit,
            folder=folder,
        )
        self._count("stage one", started)
        bundle.save(
            folder,
            model=model,
            spec=stages.vit,
            classes=self.cohort.classes,
            preprocessing=stages.preprocessing,
            extra={"fold": self.number, "inner": number},
        )
        return model

    def _by(self, model: nn.Module, windows: Sequence[VolumeDataset], method: str) -> Maps:
        """Explain every window of every case by one model."""
        started = time.perf_counter()
        found = explained(model, windows, method=method, cache=self.stages.cache)
        self._count("maps", started)
        return found

    def _windows(self, part: SplitName) -> list[VolumeDataset]:
        """Return the cases of one part through each of their windows."""
        return self._some([case for case in self.cohort if self.split[case.case_id] == part])

    def _some(self, cases: Sequence[Case]) -> list[VolumeDataset]:
        return VolumeDataset(
            cases,
            self.cohort.root,
            preprocessing=self.stages.preprocessing,
            classes=self.cohort.classes,
            cache_dir=self.stages.cache,
        ).votes()

    def _predictions(
        self,
        arm: Arm,
        part: SplitName,
        *,
        model: nn.Module,
        shown: Mapping[SplitName, GuidedDataset],
        seed: int,
    ) -> Predictions:
        """Average what a second stage says of every window."""
        cases = shown[part]
        return Predictions(
            model=arm.name,
            seed=seed,
            fold=self.number,
            split=part,
            classes=self.cohort.classes,
            case_ids=tuple(case.case_id for case in cases.cases),
            y_true=np.array(cases.labels),
            probabilities=np.mean([predict(model, one) for one in _each_window(cases)], axis=0),
        )

    def _count(self, work: str, started: float) -> None:
        self.seconds[work] = self.seconds.get(work, 0.0) + time.perf_counter() - started


def _each_window(cases: GuidedDataset) -> list[GuidedDataset]:
    """Show the same cases through each of their windows."""
    return [cases.through(window) for window in range(len(cases.windows))]
