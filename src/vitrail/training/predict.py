"""A model's probabilities for the cases of a dataset."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitrail.records import Progress, no_progress


def predict(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    batch_size: int = 32,
    num_workers: int = 0,
    multi_label: bool = False,
    progress: Progress = no_progress,
) -> Float[np.ndarray, "case class"]:
    """Run a model over a dataset, in order, and return probabilities.

    Args:
        model: Gives logits; it is run in eval mode where it lies, and left in the mode it was in.
        dataset: Items begin with the image.
        batch_size: Cases at a time; the numbers do not depend on it beyond rounding.
        num_workers: Processes that load pictures.
        multi_label: Each class by itself (a sigmoid) instead of one of them (a softmax).
        progress: Told after each batch.

    Returns:
        Float64; rows sum to one, except with ``multi_label``.
    """
    logits = predict_logits(
        model, dataset, batch_size=batch_size, num_workers=num_workers, progress=progress
    )
    probabilities = logits.sigmoid() if multi_label else logits.softmax(dim=1)
    return probabilities.numpy()


def predict_logits(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    batch_size: int = 32,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> Float[Tensor, "case class"]:
    """Run a model over a dataset, in order, and return its logits in float64 on the CPU."""
    device = device_of(model)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)
    was_training = model.training
    model.eval()
    parts = []
    try:
        with torch.inference_mode():
            for done, batch in enumerate(loader, start=1):
                parts.append(model(batch[0].to(device)).double().cpu())
                progress("predict", done=done, total=len(loader))
    finally:
        model.train(was_training)
    return torch.cat(parts).clone()


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's weights lie."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
