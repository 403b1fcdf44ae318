"""Record the attention of any model without touching it.

:func:`capture` opens a ``TorchFunctionMode`` for the length of a ``with`` block. The mode sees
every call of ``scaled_dot_product_attention``, of ``multi_head_attention_forward`` and of a
written-out ``softmax(Q Kᵀ) V``, whoever makes it, and leaves nothing behind: no hook, no flag, no
patched class. Fused attention stays fused; rows of attention are recomputed from the queries and
keys on demand.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from torch import Tensor, nn

from vitrail.errors import CaptureError
from vitrail.explain.folded import folded_attention
from vitrail.explain.intercept import Intercept, entered
from vitrail.explain.layer import AttentionLayer, AttentionTrace, accumulation_dtype

__all__ = ["AttentionLayer", "AttentionTrace", "accumulation_dtype", "capture"]

_SOFTMAX = frozenset({"softmax", "_softmax"})
_KEEPS_ATTENTION = frozenset({"dropout", "to", "type", "type_as", "float", "contiguous", "clone"})
_PROJECTIONS = frozenset({"linear", "conv1d", "conv2d"})
_NORMS = frozenset({"layer_norm", "rms_norm"})
_PRODUCT = frozenset({"matmul", "__matmul__", "bmm", "einsum"})
_FOREIGN = ("flash_attn", "flash_attention", "flex_attention", "efficient_attention", "sageattn")


@contextmanager
def capture(
    model: nn.Module,
    *,
    keep_output: bool = True,
    fold_targets: bool = False,
    keep_graph: bool = False,
) -> Iterator[AttentionTrace]:
    """Record every attention call made inside the ``with`` block.

    Args:
        model: The model that will be called; compiled parts of it run eagerly inside the block.
        keep_output: Whether to keep each call's output (gradient methods need it).
        fold_targets: Whether gradients of several targets will be asked for in one batched
            backward pass (``is_grads_batched=True``): fused attention then gets a backward that
            folds the target axis into the batch.
        keep_graph: Whether the recorded queries and keys keep their graph, so that rows of
            attention can be differentiated by the weights.

    Yields:
        The trace; filled when the model has been called.

    Raises:
        CaptureError: If nothing was seen, a layer was seen twice, dropout was on, or the attention
            was computed by something that cannot be seen.

    Example:
        >>> import torch
        >>> encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        >>> with capture(encoder) as trace:
        ...     output = encoder(torch.zeros(1, 5, 8))
        >>> trace.layers[0].attention().shape
        torch.Size([1, 2, 5, 5])
    """
    recorder = _Recorder(
        model, keep_output=keep_output, fold_targets=fold_targets, keep_graph=keep_graph
    )
    with entered(model, recorder):
        try:
            yield recorder.trace
        except RuntimeError as error:
            # Flex attention compiles itself, and dynamo wraps the refusal raised inside it.
            if isinstance(error, CaptureError) or "flex_attention" not in str(error):
                raise
            raise _foreign("flex_attention") from error
    recorder.finish()


class _Recorder(Intercept):
    """The mode itself: it calls every function as it came and notes the attention among them."""

    def __init__(
        self, model: nn.Module, *, keep_output: bool, fold_targets: bool, keep_graph: bool
    ) -> None:
        super().__init__()
        self.trace = AttentionTrace()
        self._model = model
        self._keep_output = keep_output
        self._fold_targets = fold_targets
        self._keep_graph = keep_graph
        self._matrices: dict[int, Tensor] = {}
        self._projection: Tensor | None = None
        self._normed: Tensor | None = None
        self._normed_before: Tensor | None = None
        self._seen: set[int] = set()

    def call(
        self,
        func: Callable[..., Any],
        name: str,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call and note what it was."""
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if type(func).__module__.startswith(("torch._ops", "torch._higher_order_ops")) and any(
            kernel in str(func) for kernel in _FOREIGN
        ):
            raise _foreign(str(func))
        result = func(*args, **kwargs)
        self._watch(name, args, kwargs=kwargs, result=result)
        return result

    def _watch(
        self, name: str, args: tuple[Any, ...], *, kwargs: dict[str, Any], result: Any
    ) -> None:
        """Note projections, and follow a softmax to its product with the values."""
        if name in _PROJECTIONS:
            self._projection = args[1] if len(args) > 1 else kwargs["weight"]
        elif name in _SOFTMAX:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if result.ndim >= 3 and axis in {-1, result.ndim - 1}:
                self._matrices[id(result)] = result
        elif name in _NORMS and result.ndim == 3:
            self._normed = args[0]
        elif not self._matrices:
            return
        elif name in _KEEPS_ATTENTION and id(args[0]) in self._matrices:
            if name == "dropout":
                _refuse_dropout(*args[1:], **kwargs)
            del self._matrices[id(args[0])]
            self._matrices[id(result)] = result
        elif name in _PRODUCT:
            self._product(name, args, result=result)

    def _product(self, name: str, args: tuple[Any, ...], *, result: Tensor) -> None:
        """Record a written-out layer if ``args`` are attention and values."""
        equation, operands = (args[0], args[1:]) if name == "einsum" else (None, args)
        if len(operands) != 2 or id(operands[0]) not in self._matrices:
            return
        matrix, value = operands
        if equation is not None and not _averages_values(equation):
            return
        del self._matrices[id(matrix)]
        if not self._keep_graph:
            matrix, value = matrix.detach(), value.detach()
        if matrix.ndim == 3:
            heads = self.num_heads or 1
            matrix, value = (part.unflatten(0, (-1, heads)) for part in (matrix, value))
        self._add(
            AttentionLayer(
                query=None,
                key=None,
                value=value.flatten(0, -4),
                output=result if self._keep_output else None,
                matrix=matrix.flatten(0, -4),
            )
        )

    def _fused(  # noqa: PLR0917 (torch's signature)
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,  # noqa: FBT001, FBT002
        scale: float | None = None,
        enable_gqa: bool = False,  # noqa: FBT001, FBT002
    ) -> Tensor:
        """Call fused attention and record it."""
        _refuse_dropout(dropout_p)
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = (part.repeat_interleave(groups, dim=-3) for part in (key, value))
        attend = folded_attention if self._fold_targets else F.scaled_dot_product_attention
        output = attend(query, key, value, attn_mask=attn_mask, is_causal=is_causal, scale=scale)
        if query.ndim == 3:
            query, key, value = (part.unsqueeze(1) for part in (query, key, value))
            attn_mask = (
                attn_mask.unsqueeze(1)
                if attn_mask is not None and attn_mask.ndim == 3
                else attn_mask
            )
        if attn_mask is not None and query.ndim > 4 and attn_mask.ndim > 3:
            attn_mask = attn_mask.expand(*query.shape[:-3], *attn_mask.shape[-3:]).flatten(0, -4)
        if not self._keep_graph:
            query, key, value = (part.detach() for part in (query, key, value))
        self._add(
            AttentionLayer(
                query=query.flatten(0, -4),
                key=key.flatten(0, -4),
                value=value.flatten(0, -4),
                output=output if self._keep_output else None,
                mask=None if attn_mask is None else attn_mask.detach(),
                scale=query.shape[-1] ** -0.5 if scale is None else scale,
                is_causal=is_causal,
            )
        )
        return output

    def _add(self, layer: AttentionLayer) -> None:
        """Append a layer, refusing one whose projection fed another before."""
        weight = self._projection
        if weight is not None and id(weight) in self._seen:
            names = [name for name, part in self._model.named_parameters() if part is weight]
            raise CaptureError(
                "capture",
                f"{names[0] if names else 'one projection'} fed two attention calls",
                "each layer is recorded once, so that layers can be told apart",
                "call the model once inside the block; models that share modules between layers "
                "cannot be explained by attention (use a gradient or black-box method)",
            )
        if weight is not None:
            self._seen.add(id(weight))
        if self._normed is not None:
            self.trace.side_by_side |= self._normed is self._normed_before
            self._normed_before, self._normed = self._normed, None
        self.trace.layers.append(layer)

    def finish(self) -> None:
        """Check that something was seen, and nothing half seen."""
        lost = [tuple(matrix.shape) for matrix in self._matrices.values()]
        self._matrices.clear()
        if self.trace.layers and not any(len(shape) > 3 for shape in lost):
            return
        seen = self.trace.summary()
        if lost:
            seen += f", and a softmax of shape {lost[0]} that no product with values followed"
        raise CaptureError(
            "model",
            f"{seen} was seen",
            "attention must run through scaled_dot_product_attention, multi_head_attention_forward "
            "or softmax(QKᵀ) @ V inside the block",
            "call the model inside the block; for a model without such attention use a gradient or "
            "black-box method (see vitrail.explain.methods())",
        )


def _foreign(kernel: str) -> CaptureError:
    """Name a kernel that cannot be recorded."""
    return CaptureError(
        "model",
        f"it computes attention with {kernel}",
        "only PyTorch's own attention can be recorded",
        "build the model with scaled_dot_product_attention (for Hugging Face: "
        "attn_implementation='sdpa')",
    )


def _refuse_dropout(p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> None:  # noqa: FBT001, FBT002, PLR0917 (torch's signature)
    """Refuse attention whose weights are dropped at random."""
    if p > 0.0 and training:
        raise CaptureError(
            "model",
            f"attention dropout is on (p={p})",
            "a trace is of one function, not of a random draw",
            "call model.eval() first",
        )


def _averages_values(equation: str) -> bool:
    """Tell whether an einsum is attention times values with the axes in their usual places.

    Example:
        >>> _averages_values("bhij, bhjd -> bhid"), _averages_values("bhij,hbjd->bhid")
        (True, False)
    """
    inputs, _, output = equation.replace(" ", "").partition("->")
    attention, _, value = inputs.partition(",")
    return value[:-1] == attention[:-2] + attention[-1] and output == attention[:-1] + value[-1]
