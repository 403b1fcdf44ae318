"""See, and change, what a model calls, without touching it.

A ``TorchFunctionMode`` sees every call of a torch function made inside a ``with`` block, whoever
makes it, and leaves nothing behind: no hook, no flag, no patched class. Everything in this package
that watches a forward pass or makes another one of it is such a mode.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

_plain_multi_head_attention = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda _: False},
    "multi_head_attention_forward",
    F.multi_head_attention_forward.__defaults__,
)
"""A private copy that never asks for overrides: torch's own would call the mode back for ever."""


class Intercept(TorchFunctionMode):
    """A mode that sees every call by name, also inside torch's own multi-head attention.

    Attributes:
        num_heads: Heads of the multi-head attention whose inside is being called (tokens come
            before the batch there); None outside.
    """

    num_heads: int | None = None

    def __torch_function__(  # noqa: PLR0917 (torch's signature)
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Hand the call to :meth:`call`, with torch's first two operands by place."""
        kwargs = dict(kwargs or {})
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        if len(args) == 1 and "other" in kwargs:
            args = (*args, kwargs.pop("other"))
        if func is not F.multi_head_attention_forward:
            return self.call(func, getattr(func, "__name__", ""), args=args, kwargs=kwargs)
        self.num_heads = kwargs["num_heads"] if len(args) <= 4 else args[4]
        try:
            with self:
                return _plain_multi_head_attention(*args, **kwargs)
        finally:
            self.num_heads = None

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call, or another one in its place."""
        raise NotImplementedError


def constant_parameters(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call's arguments with parameters as constants: what needs a gradient is an image's.

    The parameters themselves, and their ``requires_grad``, stay as they are.
    """

    def constant(part: Any) -> Any:
        return part.detach() if isinstance(part, nn.Parameter) else part

    return tuple(map(constant, args)), {name: constant(part) for name, part in kwargs.items()}


class _LaidOut(Intercept):
    """Gives each batch norm its gradient in the layout of its output.

    On a CPU, torch's backward of a batch norm in eval mode misreads the gradient of a single image
    whose channels come last, as behind ``flatten(2).transpose(1, 2)`` (seen in torch 2.15).
    """

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call, and put the gradient of a batch norm in order."""
        result = func(*args, **kwargs)
        if name == "batch_norm" and result.requires_grad and result.is_contiguous():
            result.register_hook(Tensor.contiguous)
        return result


@contextmanager
def entered(model: nn.Module, *modes: TorchFunctionMode) -> Iterator[None]:
    """Enter modes, the last one innermost (it sees calls first); compiled models run eagerly."""
    with ExitStack() as stack:
        if _is_compiled(model):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(isinstance(part, _BatchNorm) for part in model.modules()):
            stack.enter_context(_LaidOut())
        for mode in modes:
            stack.enter_context(mode)
        yield


def _is_compiled(model: nn.Module) -> bool:
    """Tell whether any part of the model was given to ``torch.compile``."""
    return any(
        "_orig_mod" in vars(module).get("_modules", {})
        or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
