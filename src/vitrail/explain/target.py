"""What is explained: one number an image, chosen from the model's output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.errors import InputError, NumericalError

Target = str | int | Sequence[int] | Tensor | np.integer | np.ndarray | Callable[..., Any]
"""``"predicted"``, ``"all"``, a class, one class an image, or a callable: output → [batch]."""


def plain_target(target: Target) -> Target:
    """Return the target with numpy's and torch's single numbers as int, arrays as tensors."""
    if isinstance(target, np.ndarray):
        return torch.from_numpy(target)
    if isinstance(target, np.integer) or (isinstance(target, Tensor) and target.ndim == 0):
        return int(target)
    return target


def logits_of(output: object) -> Float[Tensor, "batch class"]:
    """Return the logits of a model's output.

    Args:
        output: A tensor [batch, class], an object with ``.logits``, a mapping with ``"logits"``.

    Raises:
        InputError: If the output is none of these.
        NumericalError: If a logit is NaN or infinite.
    """
    logits = getattr(output, "logits", output)
    if isinstance(logits, dict) and "logits" in logits:
        logits = logits["logits"]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise InputError(
            "model",
            f"its output is {came}",
            "a class target needs logits [batch, class] or an object with .logits",
            "pass target=a callable that makes one number an image of the output",
        )
    if not bool(torch.isfinite(logits).all()):
        raise NumericalError(
            "model",
            "its logits hold NaN or infinity",
            "a score must be finite to be explained",
            "check the images (are they normalized?) and the weights",
        )
    return logits


@dataclass
class Selection:
    """The numbers to explain, with the classes they stand for.

    ``"predicted"`` is settled by the first output that is seen and stays so: show it the output of
    the untouched images first.

    Attributes:
        target: What the caller asked for.
        versus: A class to subtract, or None.
        classes: Class of each explained number, [target, batch]; None before the first output
            and for callables.
    """

    target: Target = "predicted"
    versus: int | None = None
    classes: Int[Tensor, "target batch"] | None = field(default=None, init=False)

    def scores(self, output: object) -> Float[Tensor, "target batch"]:
        """Return the numbers to explain: one target, or all classes, of each image.

        Raises:
            InputError: If the target does not fit the output.
            NumericalError: If a logit or score is not finite.
        """
        if callable(self.target):
            return self._called(self.target, output)
        logits = logits_of(output)
        if self.classes is None:
            self.classes = self._classes(logits.detach())
        chosen = logits.T.gather(0, self.classes.to(logits.device))
        return chosen if self.versus is None else chosen - logits[:, self.versus]

    def part(self, start: int, stop: int) -> "Selection":
        """Return the selection of the images ``start`` to ``stop``, end exclusive."""
        target = self.target
        if isinstance(target, (Sequence, Tensor)) and not isinstance(target, str):
            target = target[start:stop]
        return Selection(target, self.versus)

    def _called(
        self, function: Callable[..., Any], output: object
    ) -> Float[Tensor, "target batch"]:
        """Return a callable's numbers, checked."""
        scores = function(output)
        given = getattr(output, "logits", output)
        batch = f" for {len(given)} images" if isinstance(given, Tensor) and given.ndim else ""
        if (
            not isinstance(scores, Tensor)
            or scores.ndim != 1
            or (batch and isinstance(given, Tensor) and len(scores) != len(given))
        ):
            came = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(
                "target",
                f"the callable returned {came}{batch}",
                "it must return one number an image: a tensor [batch]",
                "return for example output[:, 1] - output[:, 0]",
            )
        if not bool(torch.isfinite(scores).all()):
            raise NumericalError(
                "target",
                "the callable returned NaN or infinity",
                "a score must be finite to be explained",
                "check the images and the callable",
            )
        return scores.unsqueeze(0)

    def _classes(self, logits: Float[Tensor, "batch class"]) -> Int[Tensor, "target batch"]:
        """Return the class of each number to explain."""
        batch, num_classes = logits.shape
        if self.versus is not None:
            _check_range("versus", torch.tensor([self.versus]), num_classes=num_classes)
        if isinstance(self.target, str):
            if self.target == "predicted":
                return logits.argmax(dim=1).unsqueeze(0)
            if self.target == "all":
                every = torch.arange(num_classes, device=logits.device)
                return every.unsqueeze(1).expand(num_classes, batch)
            raise InputError(
                "target",
                repr(self.target),
                "it must be 'predicted', 'all', a class, one class an image, or a callable",
                "pass target='predicted'",
            )
        chosen = torch.as_tensor(self.target)
        if chosen.is_floating_point() or chosen.dtype == torch.bool:
            raise InputError(
                "target", f"{chosen.dtype} values", "classes are whole numbers", "pass integers"
            )
        if chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != batch):
            raise InputError(
                "target",
                f"{tuple(chosen.shape)} classes for {batch} images",
                "it must be one class, or one class an image",
                "pass an int or a sequence as long as the batch",
            )
        _check_range("target", chosen, num_classes=num_classes)
        return chosen.to(logits.device, torch.long).expand(batch).unsqueeze(0)


def _check_range(argument: str, classes: Tensor, *, num_classes: int) -> None:
    """Refuse classes that the model does not have."""
    wrong = classes[(classes < 0) | (classes >= num_classes)]
    if wrong.numel():
        raise InputError(
            argument,
            str(int(wrong.flatten()[0])),
            f"the model has classes 0 to {num_classes - 1}",
            "pass one of them",
        )
