"""The loop: one plain epoch after another, that a kill at any moment leaves able to go on.

Everything random in a step is drawn from (seed, epoch) or (seed, step), never from a stream that
would have to be saved: the order of the cases, augmentation, dropout, mixing. A checkpoint holds
the rest: weights, optimizer, moving average, best epoch so far, position and history. So training
that was killed and started again ends in the same weights, bit for bit (on as many threads).
"""

import json
import logging
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitrail.errors import RunFolderError, TrainingError
from vitrail.records import Progress, no_progress
from vitrail.runfolder import write_text
from vitrail.training.checkpoint import load_checkpoint, save_checkpoint
from vitrail.training.interrupt import StopRequest, stop_on_signal
from vitrail.training.machine import seconds_a_step
from vitrail.training.order import Batches, batches, step_seed
from vitrail.training.predict import predict
from vitrail.training.settings import FitResult, FitSettings
from vitrail.training.step import Stepper
from vitrail.training.subject import (
    balance,
    fingerprint,
    labels_of,
    names_of,
    num_classes_of,
    size,
)
from vitrail.training.validation import Scores, rank, suspicions, validation_scores

__all__ = ["FitResult", "FitSettings", "fit", "predict", "seconds_a_step"]

_log = logging.getLogger("vitrail")
_KEPT = ("fingerprint", "epochs_done", "batches_done", "best_epoch", "best", "history", "running")


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
            ``cases`` are used where they are.
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
        training.resume()
        while not training.finished():
            training.epoch(stop, progress)
        return training.result()


class _Training:
    """One training: what it is made of, and where it stands."""

    def __init__(
        self,
        model: nn.Module,
        train: Dataset[Any],
        *,
        validation: Dataset[Any],
        settings: FitSettings,
        folder: Path,
    ) -> None:
        self.accelerator = Accelerator()
        self.settings, self.folder = settings, folder
        self.train, self.validation = train, validation
        self.fingerprint = fingerprint(model, train=train, validation=validation, settings=settings)
        self.y_true = labels_of(validation)
        self.num_classes = num_classes_of(model, train, settings=settings)
        self.draw_by, weights = balance(train, settings, num_classes=self.num_classes)
        self.epoch_steps = -(-size(train) // settings.batch_size)
        self.stepper = Stepper(
            model,
            settings,
            steps=settings.epochs * self.epoch_steps,
            num_classes=self.num_classes,
            class_weights=None if weights is None else torch.tensor(weights).float(),
            accelerator=self.accelerator,
        )
        self.epochs_done = self.batches_done = self.best_epoch = 0
        self.running = {"loss": 0.0, "cases": 0.0, "seconds": 0.0, "waiting": 0.0}
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}

    def save(self) -> None:
        """Publish a checkpoint."""
        if self.accelerator.is_main_process:
            state = {name: getattr(self, name) for name in _KEPT} | self.stepper.state()
            save_checkpoint(self.folder / "checkpoints", step=self.steps_done, state=state)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            RunFolderError: If it is another training's.
        """
        state = load_checkpoint(self.folder / "checkpoints")
        if state is None:
            return
        if state["fingerprint"] != self.fingerprint:
            raise RunFolderError(
                str(self.folder / "checkpoints"),
                "they are another training's (other settings, cases or starting weights)",
                "a training goes on only with what it began with",
                "choose another folder, or remove these checkpoints to start again",
            )
        self.stepper.restore(state)
        for name in _KEPT:
            setattr(self, name, state[name])
        _log.info("going on after step %d of %d", self.steps_done, self.stepper.steps)

    @property
    def steps_done(self) -> int:
        """Steps since the training began."""
        return self.epochs_done * self.epoch_steps + self.batches_done

    def finished(self) -> bool:
        """Tell whether all epochs are done, or patience is at its end."""
        patience = self.settings.patience or self.settings.epochs
        waited = self.epochs_done - self.best_epoch
        return self.epochs_done >= self.settings.epochs or waited >= patience

    def epoch(self, stop: StopRequest, progress: Progress) -> None:
        """Train what is left of the current epoch, validate, and publish a checkpoint."""
        plan = batches(
            size(self.train),
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=self.epochs_done,
            weights=self.draw_by,
        )[self.batches_done :]
        items = self.items(plan)
        self.stepper.wrapped.train()
        every = self.settings.checkpoint_steps
        for indices in plan:
            number, start = self.steps_done, perf_counter()
            torch.manual_seed(
                step_seed(self.settings.seed, 1, number, self.accelerator.process_index)
            )
            images, labels = self.fetch(items, stop)
            waiting = perf_counter() - start
            names = names_of(self.train, indices)
            loss = self.stepper.step(images, labels, names=names, number=number)
            self.batches_done += 1
            self.running["loss"] += loss * len(indices)
            self.running["cases"] += len(indices)
            self.running["seconds"] += perf_counter() - start
            self.running["waiting"] += waiting
            progress("train", done=number + 1, total=self.stepper.steps, note=f"loss {loss:.3f}")
            if stop.name:
                self.stop(stop.name)
            if every and self.batches_done % every == 0 and self.batches_done < self.epoch_steps:
                self.save()
        self.close_epoch()

    def items(self, plan: Batches) -> Iterator[list[Tensor]]:
        """Load this process's part of each batch."""
        if hasattr(self.train, "set_epoch"):
            self.train.set_epoch(self.epochs_done)
        accelerator = self.accelerator
        share = slice(accelerator.process_index, None, accelerator.num_processes)
        loader = DataLoader(
            self.train,
            batch_sampler=[batch[share] for batch in plan],
            num_workers=self.settings.num_workers,
            generator=torch.Generator().manual_seed(self.settings.seed),
            pin_memory=accelerator.device.type == "cuda",
        )
        return iter(loader)

    def fetch(self, items: Iterator[list[Tensor]], stop: StopRequest) -> tuple[Tensor, Tensor]:
        """Take the next batch and bring it to the device."""
        try:
            images, labels = next(items)[:2]
        except RuntimeError as error:
            if stop.name:
                self.stop(stop.name)
            if "DataLoader worker" not in str(error):
                raise
            self.save()
            raise TrainingError(
                "num_workers",
                f"a process that loads pictures vanished ({str(error).splitlines()[0]})",
                "the system ends such processes when memory runs out; the state is saved",
                "run the same command again, with num_workers: 0",
            ) from error
        device = self.accelerator.device
        images = images.to(device, non_blocking=True, memory_format=self.stepper.layout)
        return images, labels.to(device)

    def close_epoch(self) -> None:
        """Validate, write the log, keep the weights if they are the best so far, and save."""
        settings, running = self.settings, self.running
        shown = self.stepper.shown
        probabilities = predict(
            shown,
            self.validation,
            batch_size=max(1, settings.batch_size // self.stepper.passes),
            num_workers=settings.num_workers,
            multi_label=settings.multi_label,
        )
        scores = validation_scores(self.y_true, probabilities)
        metric = self.metric(scores)
        row = {
            "epoch": self.epochs_done + 1,
            "train_loss": running["loss"] / running["cases"],
            **scores,
            "learning_rate": max(group["lr"] for group in self.stepper.optimizer.param_groups),
            "images_per_s": running["cases"] / running["seconds"],
            "seconds": running["seconds"],
            "waiting_share": running["waiting"] / running["seconds"],
        }
        row = {name: value if isfinite(value or 0) else None for name, value in row.items()}
        before = self.history[self.best_epoch - 1] if self.best_epoch else None
        self.history.append(row)
        self.epochs_done, self.batches_done = self.epochs_done + 1, 0
        self.running = dict.fromkeys(running, 0.0)
        if before is None or rank(row, metric) > rank(before, metric):
            self.best_epoch = self.epochs_done
            self.best = {
                name: value.detach().cpu().clone() for name, value in shown.state_dict().items()
            }
        self.save()
        if self.accelerator.is_main_process:
            lines = [json.dumps(row, allow_nan=False) + "\n" for row in self.history]
            write_text(self.folder / "log.jsonl", "".join(lines))

    def metric(self, scores: Scores) -> str:
        """Return what the best epoch is chosen by."""
        if self.settings.metric != "auto":
            return self.settings.metric
        return "loss" if scores["roc_auc_score"] is None else "roc_auc_score"

    def stop(self, signal_name: str) -> NoReturn:
        """Save and end, saying how to go on."""
        self.save()
        raise TrainingError(
            "training",
            f"stopped by {signal_name} in epoch {self.epochs_done + 1} of {self.settings.epochs}",
            f"the state after step {self.batches_done} of {self.epoch_steps} is saved",
            "run the same command again to go on from there",
        )

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
            warnings=tuple(warnings),
        )
