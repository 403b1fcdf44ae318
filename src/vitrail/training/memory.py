"""How much memory a training will need, asked before it starts.

Weights, their gradients, the optimizer's two numbers a weight and the moving average are counted.
What a forward pass keeps for its backward pass is measured on two pictures and grows with them.
"""

import logging
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import psutil
import torch
from torch import Tensor, UntypedStorage, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.func import functional_call

from vitrail.errors import TrainingError
from vitrail.training.machine import half_precision
from vitrail.training.predict import device_of
from vitrail.training.settings import FitSettings

_log = logging.getLogger("vitrail")
_MEASURED = 2
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """What a training needs.

    Attributes:
        fixed: Bytes of weights, gradients, optimizer and averages.
        a_case: Bytes that each picture of a pass adds.
    """

    fixed: int
    a_case: int

    def of(self, cases: int) -> int:
        """Return the bytes of a pass over so many pictures."""
        return self.fixed + cases * self.a_case


def estimate(
    model: nn.Module, image_shape: tuple[int, ...], *, settings: FitSettings
) -> MemoryEstimate:
    """Estimate the memory of a training.

    Args:
        model: As it will be trained, where it will be trained; it is left as it is.
        image_shape: Of one item: (channels, rows, columns), or the length of its features.
        settings: Its choices.

    Returns:
        An estimate within a factor of two for transformers and convolutional networks; a test
        compares it with the process's measured peak.
    """
    tensors = [*model.parameters(), *model.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    trained = sum(
        parameter.numel() * parameter.element_size()
        for parameter in model.parameters()
        if parameter.requires_grad
    )
    best = weights if device_of(model).type == "cpu" else 0
    average = weights if settings.ema_decay else 0
    kept = _kept_for_backward(model, image_shape, precision=settings.precision)
    return MemoryEstimate(
        fixed=weights + 3 * trained + best + average, a_case=ceil(kept / _MEASURED)
    )


def _kept_for_backward(model: nn.Module, image_shape: tuple[int, ...], *, precision: str) -> int:
    """Count the bytes that a forward pass of two pictures keeps, and the pictures themselves.

    The pass goes through the shapes alone: nothing is computed, and no memory is taken that the
    process would hold on to. A model that goes by the values of its tensors is run for real.
    """
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    was_training = model.training
    model.eval()
    try:
        with FakeTensorMode() as shapes:
            alike: dict[str, Tensor] = {
                name: shapes.from_tensor(tensor) for name, tensor in tensors.items()
            }
            return _bytes_kept(model, alike, image_shape, precision=precision)
    except (DataDependentOutputException, DynamicOutputShapeException):
        return _bytes_kept(model, tensors, image_shape, precision=precision)
    finally:
        model.train(was_training)


def _bytes_kept(
    model: nn.Module, tensors: dict[str, Tensor], image_shape: tuple[int, ...], *, precision: str
) -> int:
    """Run the model with these weights and buffers; views of one storage are counted once."""
    device = device_of(model)
    half = half_precision(precision, device)
    kept: dict[int, UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # noqa: SLF001, shapes have no address to tell them apart by
        return tensor

    images = torch.zeros(_MEASURED, *image_shape, device=device)
    with (
        torch.enable_grad(),
        torch.compiler.set_stance("force_eager"),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, half, enabled=half is not None),
    ):
        outputs = functional_call(model, tensors, (images,))
    keep(images)
    keep(outputs)
    for tensor in tensors.values():
        kept.pop(tensor.untyped_storage()._cdata, None)  # noqa: SLF001, as above
    return sum(storage.nbytes() for storage in kept.values())


def available(device: torch.device) -> int:
    """Return the bytes that are free where a training runs, within the container's limit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except OSError:  # no container, or another system
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def passes_that_fit(needed: MemoryEstimate, *, cases: int, passes: int, free: int) -> int:
    """Cut a batch into as many passes as the free memory asks for.

    Args:
        needed: What the training needs.
        cases: This process's part of a batch.
        passes: What was asked for.
        free: Bytes.

    Returns:
        The number of passes, at least ``passes``.

    Raises:
        TrainingError: If not even one picture fits.
    """
    if needed.of(ceil(cases / passes)) <= free:
        return passes
    if needed.of(1) > free:
        raise TrainingError(
            "memory",
            f"a picture at a time needs {needed.of(1) / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "weights, gradients, optimizer and one picture's layers must fit",
            "choose a smaller model or image_size, or end other programs",
        )
    most = (free - needed.fixed) // max(1, needed.a_case)
    fitting = ceil(cases / most)
    _log.warning(
        "a batch of %d needs about %.1f GB, %.1f GB are free: it is cut into %d passes",
        cases,
        needed.of(cases) / 1e9,
        free / 1e9,
        fitting,
    )
    return max(passes, fitting)
