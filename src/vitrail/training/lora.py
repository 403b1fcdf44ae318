"""Low-rank adaptation: the trained matrices rest, and a small product beside each one learns.

In place of W a layer computes W x + (a / r) B A x, with A and B of rank r. Only A, B and the head
are trained; afterwards (a / r) B A is added to W, and the model is again what it was built as, so
that nothing downstream has to know.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import nn

from vitrail.errors import InputError

ADAPTED = ("qkv", "proj")
"""Ends of the names of the attention matrices that get a product beside them."""


def adapt(model: nn.Module, *, rank: int) -> None:
    """Put a product of two matrices of low rank beside each attention matrix, in place.

    Everything else but the head rests. The model computes at first what it computed before.

    Args:
        model: A timm transformer; its attention layers are called ``attn`` and hold ``qkv`` and
            ``proj``.
        rank: r; the scale a is twice as large.

    Raises:
        InputError: If the package is missing, or the model has no such matrices.

    Source:
        hu2022, section 4.1.
    """
    if find_spec("peft") is None:
        raise InputError(
            "lora_rank",
            str(rank),
            "low-rank adaptation needs the package peft",
            'install it: pip install "vitrail[lora]"',
        )
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".attn." in name and name.endswith(ADAPTED)
    ]
    if not names:
        raise InputError(
            "lora_rank",
            f"{rank} for a {type(model).__name__}",
            "its attention must have the linear layers attn.qkv and attn.proj",
            "choose a Vision Transformer, or leave lora_rank empty and train every weight",
        )
    peft = import_module("peft")  # the extra `lora`
    peft.inject_adapter_in_model(
        peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names), model
    )
    find: Any = getattr(model, "get_classifier", None)
    head = find() if find is not None else None
    for parameter in head.parameters() if isinstance(head, nn.Module) else ():
        parameter.requires_grad = True


def merge(model: nn.Module) -> None:
    """Add each product to the matrix beside it, in place: the model is as it was built again.

    A model that was not adapted is left.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "get_base_layer"):
                adapted: Any = child
                adapted.merge()
                parent.add_module(name, adapted.get_base_layer())
    for parameter in model.parameters():
        parameter.requires_grad = True
    if hasattr(model, "peft_config"):
        del model.peft_config
