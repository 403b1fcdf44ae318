"""The loop: one plain epoch after another, that a kill at any moment leaves able to go on.

Everything random in a step is drawn from (seed, epoch) or (seed, step), never from a stream that
would have to be saved: the order of the cases, augmentation, dropout, mixing. A checkpoint holds
the rest: weights, optimizer, moving average, position and history. So training that was killed
and started again ends in the same weights, bit for bit (on as many threads).

What a loop trains for is in its objective; what an epoch ends with is a subclass's matter.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import torch
from accelerate.utils import DistributedDataParallelKwargs
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitrail.errors import InputError, RunFolderError, StoppedError, TrainingError
from vitrail.records import Progress
from vitrail.runfolder import alone_in, write_text
from vitrail.training.checkpoint import load_checkpoint, save_checkpoint
from vitrail.training.interrupt import StopRequest
from vitrail.training.memory import available, estimate, passes_that_fit
from vitrail.training.order import Batches, batches, step_seed
from vitrail.training.settings import FitSettings
from vitrail.training.step import Stepper
from vitrail.training.subject import names_of, size
from vitrail.training.tracking import tracked
from vitrail.training.unfreezing import Unfreezing

_log = logging.getLogger("vitrail")
_NOTHING = {"loss": 0.0, "cases": 0.0, "seconds": 0.0, "waiting": 0.0}
_VANISHED = "DataLoader worker"
_TIMED_FROM = 2
Row = dict[str, Any]


def _has_vanished(error: Exception) -> bool:
    """Tell whether an error says that a process which loads pictures is no more.

    PyTorch raises it from a signal's handler, at any line; or a batch that the process has sent
    cannot be fetched from it.
    """
    return isinstance(error, ConnectionError | EOFError) or _VANISHED in str(error)


class Loop(ABC):
    """One training: what it is made of, and where it stands.

    Attributes:
        stage: How the progress bar calls it.
        kept: Names of the attributes that a checkpoint holds beside the stepper's state.
        draw_by: Weights that cases are drawn by; None takes each once an epoch.
        epochs_done: Whole epochs that lie behind.
        epochs: Of the whole training; fewer than asked for where the time does not do.
        batches_done: Steps of the current epoch that lie behind.
        history: A row of numbers an epoch.
    """

    stage = "train"
    kept: tuple[str, ...] = (
        "fingerprint",
        "epochs_done",
        "epochs",
        "batches_done",
        "history",
        "running",
    )

    def __init__(
        self,
        train: Dataset[Any],
        settings: FitSettings,
        *,
        folder: Path,
        fingerprint: str,
        draw_by: Float[ndarray, " case"] | None = None,
    ) -> None:
        unused = DistributedDataParallelKwargs(find_unused_parameters=bool(settings.unfreezing))
        self.accelerator = tracked(settings.tracker, folder, handler=unused)
        self.train, self.settings = train, settings
        self.folder, self.fingerprint, self.draw_by = folder, fingerprint, draw_by
        self.epoch_steps = -(-size(train) // settings.batch_size)
        if size(train) // self.epoch_steps < self.accelerator.num_processes:
            raise InputError(
                "batch_size",
                f"{settings.batch_size} for {self.accelerator.num_processes} processes",
                "every process needs a case of each batch",
                "choose a larger batch, or fewer processes",
            )
        self.epochs_done, self.epochs, self.batches_done = 0, settings.epochs, 0
        self.running = dict(_NOTHING)
        self.history: list[Row] = []
        self.stepper = self.make_stepper(settings.epochs * self.epoch_steps)
        self.unfreezing = Unfreezing(self.stepper.model, share=settings.unfreezing)

    @abstractmethod
    def make_stepper(self, steps: int) -> Stepper:
        """Return what takes a step of the training, which has so many."""

    @abstractmethod
    def close_epoch(self) -> None:
        """Do what comes after the last step of an epoch, and end with `close`."""

    @abstractmethod
    def finished(self) -> bool:
        """Tell whether no epoch is left."""

    def run(self, stop: StopRequest, progress: Progress) -> None:
        """Go on from the newest checkpoint to the end."""
        stepper, count = self.stepper, self.accelerator.num_processes
        shape = tuple(self.train[0][0].shape)
        stepper.passes = passes_that_fit(
            estimate(stepper.model, shape, settings=self.settings),
            cases=-(-self.settings.batch_size // count),
            passes=stepper.passes,
            free=available(self.accelerator.device),
        )
        leads = self.accelerator.is_main_process
        with alone_in(self.folder) if leads else nullcontext():
            self.resume()
            while not self.finished():
                self.whole_epoch(stop, progress)
        for tracker in self.accelerator.trackers:  # end_training would part the processes as well
            tracker.finish()

    def whole_epoch(self, stop: StopRequest, progress: Progress) -> None:
        """Train an epoch, and tell the trackers of it.

        Raises:
            TrainingError: If a process that loads pictures is no more.
        """
        try:
            self.epoch(stop, progress)
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not _has_vanished(error):
                raise
            said = str(error).partition("\n")[0] or type(error).__name__
            raise TrainingError(
                "num_workers",
                f"a process that loads pictures vanished ({said})",
                "the system ends such processes when memory runs out; the newest checkpoint is "
                "kept",
                "run the same command again, with workers: 0 in plan.yaml",
            ) from error
        numbers = {name: value for name, value in self.history[-1].items() if value is not None}
        self.accelerator.log(numbers, step=self.epochs_done)

    def save(self) -> None:
        """Publish a checkpoint."""
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder / "checkpoints", step=self.steps_done, state=self.state())

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds."""
        return {name: getattr(self, name) for name in self.kept} | self.stepper.state()

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            RunFolderError: If it is another training's, or in another version's format.
        """
        state = load_checkpoint(self.folder / "checkpoints", parts=self.state())
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
        for name in self.kept:
            setattr(self, name, state[name])
        if self.settings.most_minutes is None:
            self.epochs = self.settings.epochs  # waived, where a limit had cut them short
        self.stepper.steps = self.epochs * self.epoch_steps
        self.write_log()  # a kill may have come between the checkpoint and its line
        if not self.finished():
            _log.info("going on after step %d of %d", self.steps_done, self.stepper.steps)

    @property
    def steps_done(self) -> int:
        """Steps since the training began."""
        return self.epochs_done * self.epoch_steps + self.batches_done

    def epoch(self, stop: StopRequest, progress: Progress) -> None:
        """Train what is left of the current epoch, and close it."""
        plan = batches(
            size(self.train),
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=self.epochs_done,
            weights=self.draw_by,
        )[self.batches_done :]
        items = self.items(plan)
        self.unfreezing.begin(self.epochs_done, epochs=self.epochs)
        self.stepper.wrapped.train()
        every = self.settings.checkpoint_steps
        for indices in plan:
            loss = self.step(items, indices, stop=stop)
            done, total = self.steps_done, self.stepper.steps
            progress(self.stage, done=done, total=total, note=f"loss {loss:.3f}")
            if self.anyone(stop):
                self.stop(stop.name or "SIGTERM")  # else it was another process's
            if every and self.batches_done % every == 0 and self.batches_done < self.epoch_steps:
                self.save()
        self.close_epoch()

    def step(
        self, items: Iterator[list[Tensor]], indices: list[int], *, stop: StopRequest
    ) -> float:
        """Take one step, count it and return its loss."""
        number, start = self.steps_done, perf_counter()
        torch.manual_seed(step_seed(self.settings.seed, 1, number, self.accelerator.process_index))
        images, labels = self.fetch(items, stop)
        waiting = perf_counter() - start
        names = names_of(self.train, indices)
        loss = self.stepper.step(images, labels, names=names, number=number)
        self.batches_done += 1
        self.running["loss"] += loss * len(indices)
        self.running["cases"] += len(indices)
        self.running["seconds"] += perf_counter() - start
        self.running["waiting"] += waiting
        return loss

    def anyone(self, stop: StopRequest) -> bool:
        """Tell whether any of the processes was asked to stop, so that all stop together."""
        if self.accelerator.num_processes == 1:
            return bool(stop.name)
        asked = torch.tensor(float(bool(stop.name)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked) > 0)

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
        except (RuntimeError, ConnectionError, EOFError) as error:
            if stop.name:
                self.stop(stop.name)
            if _has_vanished(error):
                self.save_in_spite()
            raise
        device = self.accelerator.device
        images = images.to(device, non_blocking=True, memory_format=self.stepper.layout)
        return images, labels.to(device)

    def save_in_spite(self) -> None:
        """Publish a checkpoint; begin again if the signal of a process's end comes in between."""
        try:
            self.save()
        except RuntimeError as error:
            if not _has_vanished(error):
                raise
            self.save()

    def close(self, scores: Row) -> Row:
        """Write the row of a finished epoch and go on to the next.

        Args:
            scores: What is known of the epoch beside its training loss and its speed.

        Returns:
            The row.
        """
        running = self.running
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
        self.history.append(row)
        self.epochs_done, self.batches_done = self.epochs_done + 1, 0
        self.running = dict(_NOTHING)
        self.keep_to_time()
        return row

    def keep_to_time(self) -> None:
        """Take epochs off the end if those that are left would take longer than is allowed.

        What an epoch takes is the mean of those done, the first left out: it decodes the pictures.
        """
        if self.settings.most_minutes is None or len(self.history) < _TIMED_FROM:
            return
        took = torch.tensor(
            [row["seconds"] for row in self.history], device=self.accelerator.device
        )
        took = self.accelerator.reduce(took, reduction="mean")
        left = self.settings.most_minutes * 60 - float(took.sum())
        fitting = self.epochs_done + max(0, int(left / float(took[1:].mean())))
        if fitting < self.epochs:
            self.epochs = fitting
            self.stepper.steps = self.epochs * self.epoch_steps
            _log.warning("%s", self.shortened)

    @property
    def shortened(self) -> str:
        """Say that there are fewer epochs than were asked for; empty where there are not."""
        if self.epochs == self.settings.epochs:
            return ""
        return (
            f"{self.stage} slower than planned: {self.epochs} epochs in place of "
            f"{self.settings.epochs}, so as to end within {self.settings.most_minutes:.3g} "
            "minutes; their learning rate falls sooner (most_minutes: null in plan.yaml waives it)"
        )

    def write_log(self) -> None:
        """Write a line an epoch."""
        if self.accelerator.is_main_process:
            lines = [json.dumps(row, allow_nan=False) + "\n" for row in self.history]
            write_text(self.folder / "log.jsonl", "".join(lines))

    def stop(self, signal_name: str) -> NoReturn:
        """Save and end, saying how to go on."""
        self.save()
        raise StoppedError(
            signal_name,
            f"the training stopped in epoch {self.epochs_done + 1} of {self.epochs}",
            f"the state after step {self.batches_done} of {self.epoch_steps} is saved",
            "run the same command again to go on from there",
        )
