"""Watch the token tensors of a forward pass: block inputs, their norms, the last norm and head.

The blocks of a model have no common name, but pre-norm Vision Transformers make the same calls in
the same order: a norm of the tokens, then attention. A ``TorchFunctionMode`` that notes both knows
the input of every block without a hook and without a name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import MethodError
from vitrail.explain.anatomy import Anatomy
from vitrail.explain.intercept import Intercept

_NORMS = frozenset({"layer_norm", "rms_norm"})


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """One noted call of a linear layer or norm."""

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor
    sequence_first: bool

    @property
    def input(self) -> Tensor:
        """What went in."""
        found: Tensor = self.args[0]
        return found

    @property
    def bias(self) -> Tensor | None:
        """What the call adds, or None."""
        place = {"linear": 2, "layer_norm": 3}.get(self.name, len(self.args))
        given = self.args[place] if len(self.args) > place else self.kwargs.get("bias")
        return given if isinstance(given, Tensor) else None

    def again(self, other: Tensor) -> Tensor:
        """Make the same call on another input."""
        result: Tensor = self.function(other, *self.args[1:], **self.kwargs)
        return result

    def by_token(
        self, values: Float[Tensor, "*any"], readout: Float[Tensor, " token"], *, batch: int
    ) -> Float[Tensor, "target batch token"]:
        """Lay numbers, one an output vector, out on the tokens.

        Args:
            values: [target, *output without its last axis].
            readout: Weights over which numbers that belong to no token (after pooling) are spread.
            batch: How many images.
        """
        if self.sequence_first:
            values = values.reshape(len(values), -1, batch).transpose(1, 2)
        if values.shape[2:] == readout.shape:
            return values
        return values.reshape(*values.shape[:2], -1).sum(dim=2, keepdim=True) * readout


class TokenWatch(Intercept):
    """Notes the calls that tell where blocks begin and how the answer is read.

    Attributes:
        calls: Every linear layer and norm, in order.
        norms: Of each self-attention call, the norm of the tokens before it; its input is the
            block's input.
        last: The last tensor shaped like the tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.norms: list[Call] = []
        self.last: Tensor | None = None
        self._norm: Call | None = None
        self._attentions = 0
        self._pooled = 0

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call and note it."""
        result = func(*args, **kwargs)
        if name in _NORMS or name == "linear":
            noted = Call(
                function=func,
                name=name,
                args=args,
                kwargs=kwargs,
                output=result,
                sequence_first=self.num_heads is not None,
            )
            self.calls.append(noted)
            if name in _NORMS and result.ndim == 3:
                self._norm = noted
        elif _is_pooled_attention(func, args=args, kwargs=kwargs):
            self._pooled += 1
        elif _is_self_attention(func, name, args=args, kwargs=kwargs):
            self._attentions += 1 + self._pooled  # a pool at the very end alone is not counted
            self._pooled = 0
            if self._norm is not None:
                self.norms.append(self._norm)
            self._norm = None
        if self.norms and isinstance(result, Tensor) and self.num_heads is None:
            self.last = result if result.shape == self.norms[0].output.shape else self.last
        return result

    @property
    def is_plain(self) -> bool:
        """Whether each self-attention has its own norm before it, all of tensors of one shape."""
        shapes = {norm.input.shape for norm in self.norms}
        return len(shapes) == 1 and self._attentions == len(self.norms)

    def blocks(self, anatomy: Anatomy, batch: int) -> list[Call]:
        """Return the norm at the head of each block, checked.

        Raises:
            MethodError: If the blocks do not normalize all tokens before attention.
        """
        seen = {tuple(norm.input.shape) for norm in self.norms}
        if not self.is_plain or {shape[:2] for shape in seen} != {(batch, anatomy.num_tokens)}:
            raise MethodError(
                "model",
                f"{self._attentions} self-attention calls, norms before them of {sorted(seen)}",
                f"each block must normalize all tokens, [{batch}, {anatomy.num_tokens}, dim], "
                "before attention, so that the block's input is known",
                "use a method on pixels, such as 'cp_lrp' or 'integrated_gradients'",
            )
        return self.norms

    def since_first_block(self) -> list[Call]:
        """Return the linear layers and norms from the first block's norm on."""
        return self.calls[self.calls.index(self.norms[0]) :]

    def last_norm(self) -> Call | None:
        """Return the norm after the last block, before or after pooling, or None."""
        norms = [call for call in self.calls if call.name in _NORMS]
        final = norms[-1]
        return final if final.output is self.last or final.output.ndim == 2 else None

    def last_tokens(self) -> Tensor:
        """Return the output of the last block."""
        final = self.last_norm()
        if final is not None and final.output is self.last:
            return final.input
        assert self.last is not None  # noqa: S101 (blocks() has checked that attention was seen)
        return self.last

    def heads(self, width: int) -> list[Call]:
        """Return the linear layers that turn one pooled token into logits.

        Raises:
            MethodError: If there is none, or one follows another.
        """
        final = self.last_norm()
        after = self.calls if final is None else self.calls[self.calls.index(final) + 1 :]
        linear = [call for call in after if call.name == "linear" and call.output.ndim == 2]
        linear = linear if final is not None else linear[-1:]
        kinds = {(call.input.shape[-1], call.output.shape[-1]) for call in linear}
        if len(kinds) == 1 and linear[0].input.shape[-1] in {width, 2 * width}:
            return linear
        shapes = [tuple(call.input.shape) for call in linear]
        raise MethodError(
            "model",
            f"after its last norm come linear layers on {shapes or 'nothing'}",
            f"one linear head must read one or two pooled tokens of {width} numbers",
            "use another method, such as 'relevance'",
        )


def _is_pooled_attention(
    func: Callable[..., Any], *, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Tell whether a call makes tokens attend to another number of tokens."""
    if func is not F.scaled_dot_product_attention:
        return False
    query, key = (
        args[place] if len(args) > place else kwargs[word]
        for place, word in enumerate(("query", "key"))
    )
    return bool(query.shape[-2] != key.shape[-2])


def _is_self_attention(
    func: Callable[..., Any], name: str, *, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Tell whether a call makes tokens attend to as many tokens."""
    if func is F.scaled_dot_product_attention:
        return not _is_pooled_attention(func, args=args, kwargs=kwargs)
    return name == "softmax" and args[0].ndim >= 3 and args[0].shape[-1] == args[0].shape[-2]
