"""One step of the optimizer: targets, passes, gradients, update, moving average."""

import logging
from copy import deepcopy
from difflib import get_close_matches
from math import isfinite
from typing import Any

import torch
from accelerate import Accelerator
from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]
from torch import Tensor, nn

from vitrail.errors import InputError, NumericalError, TrainingError
from vitrail.training.machine import half_precision, is_convolutional, is_out_of_memory
from vitrail.training.objective import Objective
from vitrail.training.schedule import learning_rate, set_learning_rate
from vitrail.training.settings import FitSettings

_log = logging.getLogger("vitrail")
_SKIPS = 3


class Stepper:
    """The model, its optimizer and its moving average, and how one step changes them.

    Attributes:
        model: Trained in place, on the accelerator's device.
        average: The moving average of its weights, None without one.
        layout: Memory format of the pictures.
        passes: Into how many parts a batch is cut; grows when memory runs out.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: FitSettings,
        *,
        steps: int,
        objective: Objective,
        accelerator: Accelerator,
    ) -> None:
        device = accelerator.device
        self.settings, self.steps, self.objective = settings, steps, objective
        self.accelerator = accelerator
        channels_last = settings.channels_last
        if channels_last is None:
            channels_last = is_convolutional(model)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self.layout)
        self.half = half_precision(settings.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half is torch.float16)
        self.average = deepcopy(self.model).eval() if settings.ema_decay else None
        _require_known(settings.optimizer)
        fused: dict[str, Any] = {"fused": True} if settings.optimizer == "adamw" else {}
        self.optimizer = create_optimizer_v2(
            self.model,
            opt=settings.optimizer,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            layer_decay=settings.layer_decay,
            **fused,
        )
        if settings.compile:
            self.model.compile()
        self.wrapped = accelerator.prepare_model(self.model)
        self.passes = settings.accumulation
        self.skipped = 0

    @property
    def shown(self) -> nn.Module:
        """The model that is validated and kept: the average where there is one."""
        return self.average or self.model

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "passes": self.passes,
            "skipped": self.skipped,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.passes, self.skipped = max(self.passes, state["passes"]), state["skipped"]

    def step(self, images: Tensor, labels: Tensor, *, names: list[str], number: int) -> float:
        """Take one step and return the loss; cut the batch smaller if memory runs out.

        Args:
            images: This process's part of the batch.
            labels: Its labels.
            names: Of all cases of the batch, over all processes.
            number: Of the step in the whole training, from 0.
        """
        settings = self.settings
        images, targets = self.objective.prepare(images, labels, number=number)
        rate = learning_rate(
            number,
            self.steps,
            peak=settings.learning_rate,
            warmup=settings.warmup,
            final_share=settings.final_share,
        )
        set_learning_rate(self.optimizer, rate)
        loss = None
        while loss is None:
            self.optimizer.zero_grad()
            try:
                loss = self._backward(images, targets, of=len(names))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.passes >= len(images) or self.accelerator.num_processes > 1:
                    raise _too_large(self.passes) from error
                self.passes *= 2
                _log.warning("out of memory: each batch is now cut into %d passes", self.passes)
        self._update(loss, names, number=number)
        self.optimizer.zero_grad()  # their memory is free for what comes between steps
        return loss

    def _backward(self, images: Tensor, targets: Tensor, *, of: int) -> float:
        """Add up the gradients of the parts of one batch of ``of`` cases over all processes."""
        total = torch.zeros((), device=images.device)
        # Of several processes one may have a case more; all of them take as many passes.
        passes = min(self.passes, of // self.accelerator.num_processes)
        parts = zip(images.tensor_split(passes), targets.tensor_split(passes), strict=True)
        for part, aim in parts:
            with torch.autocast(part.device.type, self.half, enabled=self.half is not None):
                outputs = self.wrapped(part)
            losses = self.objective.losses(outputs, aim)
            loss = losses.sum() * (self.accelerator.num_processes / of)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        return float(self.accelerator.reduce(total, reduction="mean"))

    def _update(self, loss: float, names: list[str], *, number: int) -> None:
        """Clip and apply the gradients, unless they are not finite.

        Raises:
            NumericalError: If they were not for the third step on end.
        """
        self.scaler.unscale_(self.optimizer)
        largest = self.settings.clip_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), largest))
        if isfinite(norm) or (self.scaler.is_enabled() and isfinite(loss)):
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.skipped = 0
            if self.average and self.settings.ema_decay:
                decay = min(self.settings.ema_decay, (1 + number) / (10 + number))
                follow(self.average, self.model, decay=decay)
            return
        self.scaler.update()  # it takes no second gradient before
        self.skipped += 1
        cases = ", ".join(names)
        _log.warning("step %d skipped: loss %s, gradient %s; cases %s", number, loss, norm, cases)
        if self.skipped >= _SKIPS:
            raise NumericalError(
                "loss",
                f"{loss} (gradient {norm}) in {_SKIPS} steps on end, last with the cases {cases}",
                "a step needs finite numbers; the last good checkpoint is kept",
                "look at these cases, lower the learning rate, or set precision: fp32",
            )


def _require_known(optimizer: str) -> None:
    """Check the name of an optimizer.

    Raises:
        InputError: If timm has none of that name; names the nearest.
    """
    known = [str(name) for name in list_optimizers()]
    if optimizer not in known:
        near = get_close_matches(optimizer, known, n=3, cutoff=0.0)
        raise InputError(
            "optimizer",
            repr(optimizer),
            "it is the name of one of timm's optimizers",
            f"perhaps {', '.join(near)}",
        )


def _too_large(passes: int) -> TrainingError:
    """Say that memory ran out where the loop cannot help itself."""
    return TrainingError(
        "memory",
        f"it ran out with each batch in {passes} passes",
        "a pass must fit; several processes cannot cut their batches apart from each other",
        f"set accumulation: {2 * passes}, or a smaller batch_size, image_size or model",
    )


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Move an average of weights: decay times itself plus (1 - decay) times the model's.

    Source:
        tarvainen2017, section 2; the warm-up of ``decay`` is the caller's.
    """
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])
