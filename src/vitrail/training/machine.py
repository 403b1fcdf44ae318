"""What the machine allows: precision, memory format, memory; and how long a step takes on it."""

import math
import os
from copy import deepcopy
from time import perf_counter

import torch
from torch import nn

from vitrail.errors import InputError
from vitrail.training.predict import device_of

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def meets_on_cpu() -> bool:
    """Tell whether this is one of several processes that have no accelerator to meet on.

    accelerate takes such processes for strangers unless it is told.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and not torch.accelerator.is_available()


def half_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type that matrix products are computed in, None for plain float32.

    Args:
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        device: Where the training runs.

    Raises:
        InputError: For fp16 on a CPU, whose gradients it cannot hold.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError(
            "precision", "fp16 on a CPU", "a CPU trains in fp32 or bf16", "choose precision: auto"
        )
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def is_convolutional(model: nn.Module) -> bool:
    """Tell whether a model is a convolutional network: its convolutions outweigh its matrices."""
    size = {
        kind: sum(module.weight.numel() for module in model.modules() if isinstance(module, kind))
        for kind in (nn.Conv2d, nn.Linear)
    }
    return size[nn.Conv2d] > size[nn.Linear]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or on a CPU."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(part in text for part in _OUT_OF_MEMORY)


def seconds_a_step(  # noqa: PLR0917, the agreed seam
    model: nn.Module, batch_size: int, image_shape: tuple[int, int, int], *, steps: int = 3
) -> float:
    """Time a training step on random pictures: forward, backward and an AdamW update.

    Args:
        model: Is not changed; a copy is timed, where the model lies.
        batch_size: Cases a step.
        image_shape: (channels, rows, columns).
        steps: Timed steps, after one that is not.

    Returns:
        The shortest step's seconds; loading pictures is not in it.
    """
    device = device_of(model)
    layout = torch.channels_last if is_convolutional(model) else torch.contiguous_format
    copy = deepcopy(model).train().to(memory_format=layout)
    optimizer = torch.optim.AdamW(copy.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, *image_shape, generator=generator).to(device)
    images = images.contiguous(memory_format=layout)
    shortest = math.inf
    with torch.random.fork_rng():
        for step in range(steps + 1):
            start = perf_counter()
            copy(images).logsumexp(dim=1).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if step:
                shortest = min(shortest, perf_counter() - start)
    return shortest
