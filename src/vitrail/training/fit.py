"""Training a classifier: the loop, validated after each epoch, that keeps its best weights."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from vitrail.records import Progress, no_progress
from vitrail.training.interrupt import stop_on_signal
from vitrail.training.loop import Loop, Row
from vitrail.training.machine import seconds_a_step
from vitrail.training.objective import Classification
from vitrail.training.predict import predict
from vitrail.training.settings import FitResult, FitSettings
from vitrail.training.step import Stepper
from vitrail.training.subject import (
    balance,
    clusters_of,
    fingerprint,
    labels_of,
    num_classes_of,
    size,
)
from vitrail.training.validation import (
    Scores,
    indistinguishable_from,
    rank,
    standard_error,
    suspicions,
    validation_scores,
)

__all__ = ["FitResult", "FitSettings", "fit", "predict", "seconds_a_step"]

_log = logging.getLogger("vitrail")


def fit(  # noqa: PLR0917, the agreed seam: what is trained, on what, how
    model: nn.Module,
    train: Dataset[Any],
    validation: Dataset[Any],
    settings: FitSettings,
    *,
    folder: Path,
    progress: Progress = no_progress,
) -> FitResult:
    """Train a model, or go on where an earlier call in the same folder was cut off.

    Args:
        model: As it was built; it is trained in place and ends in eval mode, on the training's
            device, with the weights of the best epoch.
        train: Items begin with an image [channel, height, width] and a label (an index, or a row of
            zeros and ones). ``set_epoch(epoch)`` is called where there is one; ``labels`` and
            ``cases`` are used where they are, the latter for names, patients and groups.
        validation: As ``train``; chooses the best epoch and nothing else.
        settings: The choices.
        folder: Takes ``log.jsonl`` and ``checkpoints/``.
        progress: Told after each step.

    Returns:
        The history and the best epoch.

    Raises:
        InputError: If model, data and settings do not fit each other.
        RunFolderError: If the folder's checkpoints are those of another training.
        NumericalError: If three steps on end gave no finite gradient; names their cases.
        TrainingError: If a signal, memory, disk or a lost worker stopped the training; the message
            says how to go on.
    """
    with torch.random.fork_rng(), stop_on_signal() as stop:
        training = _Training(model, train, validation=validation, settings=settings, folder=folder)
        training.run(stop, progress)
        return training.result()


class _Training(Loop):
    """The training of a classifier.

    Attributes:
        best_epoch: Counted from 1; 0 before the first.
        best: The weights of that epoch.
    """

    kept = (*Loop.kept, "best_epoch", "best")

    def __init__(
        self,
        model: nn.Module,
        train: Dataset[Any],
        *,
        validation: Dataset[Any],
        settings: FitSettings,
        folder: Path,
    ) -> None:
        self.model, self.validation = model, validation
        self.y_true, self.clusters = labels_of(validation), clusters_of(validation)
        self.num_classes = num_classes_of(model, train, settings=settings)
        self.best_epoch = 0
        self.best: dict[str, Tensor] = {}
        draw_by, weights = balance(train, settings, num_classes=self.num_classes)
        self.class_weights = None if weights is None else torch.tensor(weights).float()
        super().__init__(
            train,
            settings,
            folder=folder,
            fingerprint=fingerprint(model, [train, validation], settings=settings),
            draw_by=draw_by,
        )

    def make_stepper(self, steps: int) -> Stepper:
        """Return what takes a step of the training, which has so many."""
        objective = Classification(
            self.settings, num_classes=self.num_classes, class_weights=self.class_weights
        )
        return Stepper(
            self.model,
            self.settings,
            steps=steps,
            objective=objective,
            accelerator=self.accelerator,
        )

    def finished(self) -> bool:
        """Tell whether all epochs are done, or patience is at its end."""
        patience = self.settings.patience or self.epochs
        waited = self.epochs_done - self.best_epoch
        return self.epochs_done >= self.epochs or waited >= patience

    def close_epoch(self) -> None:
        """Validate, keep the weights if they are the best so far, save, and write the log."""
        probabilities = self.validate()
        scores = validation_scores(self.y_true, probabilities)
        scores["standard_error"] = standard_error(
            self.y_true, probabilities, metric=self.metric(scores), clusters=self.clusters
        )
        row = self.close(scores)
        if self.is_best(row):
            self.best_epoch = self.epochs_done
            self.best = {
                name: value.detach().cpu().clone()
                for name, value in self.stepper.shown.state_dict().items()
            }
        self.save()
        self.write_log()

    def is_best(self, row: Row) -> bool:
        """Tell whether the newest epoch is to be kept in place of the best so far."""
        if not self.best_epoch:
            return True
        metric = self.metric(row)
        least = indistinguishable_from(self.history, metric)
        before = self.history[self.best_epoch - 1]
        return rank(row, metric, least=least) > rank(before, metric, least=least)

    def validate(self) -> Float[np.ndarray, "case class"]:
        """Return the probabilities of the validation cases; each process computes its share.

        Every case is computed once: the shares are laid together in the cases' order, and none is
        padded.
        """
        one, all_ = self.accelerator.process_index, self.accelerator.num_processes
        share = Subset(self.validation, range(one, size(self.validation), all_))
        probabilities = predict(
            self.stepper.shown,
            share if all_ > 1 else self.validation,
            batch_size=max(1, self.settings.batch_size // self.stepper.passes),
            num_workers=self.settings.num_workers,
            multi_label=self.settings.multi_label,
        )
        if all_ == 1:
            return probabilities
        whole = np.empty((size(self.validation), self.num_classes))
        for process, part in enumerate(gather_object([probabilities])):
            whole[process::all_] = part
        return whole

    def metric(self, scores: Scores) -> str:
        """Return what the best epoch is chosen by."""
        if self.settings.metric != "auto":
            return self.settings.metric
        return "loss" if scores["roc_auc_score"] is None else "roc_auc_score"

    def result(self) -> FitResult:
        """Give the model its best weights and return the history."""
        self.stepper.model.load_state_dict(self.best)
        self.stepper.model.eval()
        warnings = suspicions(self.history, self.num_classes, multi_label=self.settings.multi_label)
        for warning in warnings:
            _log.warning("%s", warning)
        return FitResult(
            best_epoch=self.best_epoch,
            metric=self.metric(self.history[self.best_epoch - 1]),
            history=self.history,
            seconds=sum(row["seconds"] for row in self.history),
            warnings=(*filter(None, [self.shortened]), *warnings),
        )
