"""Weights from a local file into a model: read without executing anything, adapted, checked.

Adapted are the position embeddings and the patch size (by timm's filter of that architecture) and
the number of input channels; a head of another size is left out, and the log says so. What does
not fit otherwise is an error that names the first keys that differ.
"""

import logging
from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError
from re import search
from sys import modules

import torch
from safetensors import SafetensorError
from timm.models import adapt_input_conv, load_state_dict
from torch import Tensor, nn

from vitrail.errors import DataError, InputError

_log = logging.getLogger("vitrail")
_NAMED_KEYS = 4
_UNREADABLE = (
    *(SafetensorError, RuntimeError, EOFError, OSError),
    *(ValueError, KeyError, AttributeError, TypeError),
)
"""What PyTorch and timm raise where a file is broken, or no table of tensors."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill a model with the weights of a local file.

    Args:
        model: Any model; a timm model's own filter renames and resizes what it knows.
        path: A ``.safetensors`` file, or a ``.pth``, ``.pt`` or ``.bin`` of tensors alone.

    Raises:
        DataError: If the file is missing, cannot be read or would have to execute code to be read.
        InputError: If the weights are those of another architecture.
    """
    weights = _filtered(read_weights(path), model)
    weights = _with_channels(weights, model)
    head = _head_prefixes(model)
    own = model.state_dict()
    kept = {
        name: value
        for name, value in weights.items()
        if not name.startswith(head) or (name in own and own[name].shape == value.shape)
    }
    dropped = sorted(weights.keys() - kept.keys())
    missing = [name for name in own if name not in kept and not name.startswith(head)]
    unknown = [name for name in kept if name not in own]
    misshapen = [
        f"{name} {list(kept[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in kept and kept[name].shape != own[name].shape
    ]
    if missing or unknown or misshapen:
        raise InputError(
            str(path),
            "; ".join(
                f"{what} {', '.join(names[:_NAMED_KEYS])}{_and_more(names)}"
                for what, names in (
                    ("it lacks", missing),
                    ("it also holds", unknown),
                    ("of another shape are", misshapen),
                )
                if names
            ),
            "the weights must be of the model's own architecture",
            "name the architecture that they were trained with"
            if not any(".patch_embeddings." in name for name in unknown)
            else "their names are those of Hugging Face's transformers: take timm's file of that "
            "model, or rename them",
        )
    model.load_state_dict(own | kept)
    if dropped or any(name.startswith(head) and name not in kept for name in own):
        blank_head(model, kept=kept)
        _log.info(
            "%s: its head does not fit %s classes and is left out; the new one starts at zero",
            path.name,
            getattr(model, "num_classes", "these"),
        )


def blank_head(model: nn.Module, *, kept: Collection[str] = ()) -> None:
    """Set the new classifier of a trained model to zero.

    A random one can be far from it (timm draws an EfficientNet's ever larger the fewer the
    classes): the first gradients then undo what the weights know.

    Args:
        model: Any model.
        kept: Names of parameters that are left as they are.

    Source:
        dosovitskiy2021image, section 3.2.
    """
    head = _head_prefixes(model)
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and f"{prefix}.".startswith(head):
            for name, parameter in module.named_parameters():
                if f"{prefix}.{name}" not in kept:
                    nn.init.zeros_(parameter)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a table of tensors; nothing in the file is executed.

    Raises:
        DataError: If that cannot be done.
    """
    if not path.is_file():
        raise DataError(str(path), "no such file", "weights must be a local file", "check the path")
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except _UNREADABLE as error:
        if isinstance(error.__cause__, UnpicklingError):
            raise DataError(
                str(path),
                f"damaged, or a pickle of more than weights ({_pickled(error.__cause__)})",
                "reading such objects could execute code, which vitrail never does",
                "have its maker save model.state_dict() alone, best as .safetensors",
            ) from error
        raise DataError(
            str(path),
            f"unreadable ({type(error).__name__}: {str(error).partition(chr(10))[0]})",
            "weights must be a whole .safetensors file or a .pth of tensors",
            "copy or download it again",
        ) from error
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DataError(
            str(path),
            f"no tensors under its keys {', '.join(list(map(str, weights))[:_NAMED_KEYS])}",
            "weights are a table of tensors",
            "save model.state_dict()",
        )
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise DataError(
            str(path),
            f"NaN or infinity in {', '.join(broken[:_NAMED_KEYS])}{_and_more(broken)}",
            "weights are finite",
            "take an earlier checkpoint of that training",
        )
    return tensors


def _pickled(error: BaseException) -> str:
    """Find in PyTorch's long message what the pickle holds."""
    found = search(r"GLOBAL ([\w.]+)|Unsupported operand (\d+)", str(error))
    return found[0] if found else "PyTorch does not know its content"


def _filtered(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename and resize by the filter that timm keeps beside the architecture, if it has one.

    The decoder of a masked autoencoder is left out: it is of no use to a classifier.
    """
    weights = {name: value for name, value in weights.items() if not name.startswith("decoder_")}
    checkpoint_filter = getattr(modules[type(model).__module__], "checkpoint_filter_fn", None)
    if checkpoint_filter is None:
        return weights
    try:
        with torch.no_grad():
            filtered: dict[str, Tensor] = checkpoint_filter(weights, model)
    except RuntimeError:  # what cannot be resized is named by the comparison that follows
        return weights
    return filtered


def _with_channels(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Adapt the first convolution to the model's input channels.

    From three to one the filters are summed, as if the grey picture stood in all three channels;
    from one to several they are shared out evenly, so that a grey picture gives the same answer.
    """
    name, own = next((item for item in model.named_parameters() if item[1].ndim == 4), ("", None))
    given = weights.get(name)
    if own is None or given is None or given.ndim != 4 or given.shape[1] == own.shape[1]:
        return weights
    channels = own.shape[1]
    if given.shape[1] == 1:
        adapted = given.expand(-1, channels, -1, -1) / channels
    elif given.shape[1] == 3:
        adapted = adapt_input_conv(channels, given)
    else:
        return weights
    return weights | {name: adapted.contiguous()}


def _head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return how the names of the classifier's parameters begin."""
    get_classifier = getattr(model, "get_classifier", None)
    classifier = get_classifier() if callable(get_classifier) else None
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    named = [name for name, module in model.named_modules() if any(module is h for h in heads)]
    return tuple(f"{name}." for name in named or ["head"])


def _and_more(names: list[str]) -> str:
    """Count the names that are not listed."""
    return f" and {len(names) - _NAMED_KEYS} more" if len(names) > _NAMED_KEYS else ""
