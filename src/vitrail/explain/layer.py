"""One recorded attention call: its queries, keys and values, and its rows on demand."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import CaptureError


def accumulation_dtype(tensor: Tensor) -> torch.dtype:
    """Return the type to sum in: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


@dataclass(frozen=True, eq=False, kw_only=True)
class AttentionLayer:
    """One recorded attention call; leading axes are ``[batch, head]``.

    Attributes:
        query: Before scaling; None where the model wrote its softmax out.
        key: As ``query``; shared keys of grouped heads are repeated.
        value: What attention averages.
        output: The tensor that the model goes on with: differentiate with respect to it. None
            where the capture was told not to keep it.
        mask: Boolean (True = may attend) or added to the scores; broadcasts to them.
        scale: Factor of the scores.
        is_causal: Whether query i sees only keys up to i.
        matrix: The attention itself, where the model wrote its softmax out and so made it anyway.
    """

    query: Float[Tensor, "batch head query dim"] | None
    key: Float[Tensor, "batch head key dim"] | None
    value: Float[Tensor, "batch head key value_dim"]
    output: Tensor | None
    mask: Tensor | None = None
    scale: float = 1.0
    is_causal: bool = False
    matrix: Float[Tensor, "batch head query key"] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Batch, heads, queries, keys."""
        rows = self.matrix if self.matrix is not None else self.query
        assert rows is not None  # noqa: S101 (one of the two is always recorded)
        return rows.shape[0], rows.shape[1], rows.shape[2], self.value.shape[2]

    @property
    def kept_output(self) -> Tensor:
        """The output, for differentiation.

        Raises:
            CaptureError: If the capture was told not to keep it.
        """
        if self.output is None:
            raise CaptureError(
                "keep_output",
                "False",
                "gradients are taken with respect to the kept outputs",
                "capture with keep_output=True",
            )
        return self.output

    def attention(
        self, start: int = 0, stop: int | None = None
    ) -> Float[Tensor, "batch head query key"]:
        """Return the attention rows of queries ``start`` to ``stop``, end exclusive.

        Returns:
            At least float32; each row sums to one (to zero where the mask hides every key).
        """
        if self.matrix is not None:
            rows = self.matrix[:, :, start:stop]
            return rows.to(accumulation_dtype(rows))
        assert self.query is not None  # noqa: S101 (see shape)
        assert self.key is not None  # noqa: S101
        dtype = accumulation_dtype(self.query)
        query = self.query[:, :, start:stop].to(dtype) * self.scale
        scores = query @ self.key.to(dtype).transpose(-2, -1)
        if self.mask is None and not self.is_causal:
            return scores.softmax(dim=-1)
        scores = scores + self._bias(scores, start)
        return scores.softmax(dim=-1).nan_to_num(nan=0.0)

    def blocks(
        self, max_entries: int = 2**22, *, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Yield ranges of the queries from ``start`` to ``stop``, small enough for a cache.

        Args:
            max_entries: How many numbers the attention rows of one range may hold.
            start: First query.
            stop: Last query, exclusive; None is all.
        """
        batch, heads, queries, keys = self.shape
        stop = queries if stop is None else stop
        step = max(1, max_entries // (batch * heads * keys))
        for low in range(start, stop, step):
            yield low, min(low + step, stop)

    def by_head(
        self, output_gradient: Float[Tensor, "*any"]
    ) -> Float[Tensor, "*target batch head query value_dim"]:
        """Give dy/dO the axes of the heads, whatever the shape in which the model holds O.

        Args:
            output_gradient: Gradient with respect to ``output``, any leading target axes before.
        """
        batch, heads, queries, _ = self.shape
        leading = output_gradient.shape[: output_gradient.ndim - self.kept_output.ndim]
        return output_gradient.reshape(*leading, batch, heads, queries, -1)

    def attention_gradient(
        self, output_gradient: Float[Tensor, "*any"], *, start: int = 0, stop: int | None = None
    ) -> Float[Tensor, "*target batch head query key"]:
        """Turn dy/dO into dy/dA = (dy/dO) Vᵀ for the rows ``start`` to ``stop``.

        Args:
            output_gradient: Gradient with respect to ``output``, any leading target axes before.
            start: First query.
            stop: Last query, exclusive.
        """
        dtype = accumulation_dtype(output_gradient)
        rows = self.by_head(output_gradient)[..., start:stop, :].to(dtype)
        return rows @ self.value.detach().to(dtype).mT

    def images(self, start: int, stop: int) -> "AttentionLayer":
        """Return the same call for the images ``start`` to ``stop`` alone, without its output."""
        mask = self.mask
        if mask is not None and mask.ndim == 4 and mask.shape[0] > 1:
            mask = mask[start:stop]
        return replace(
            self,
            query=None if self.query is None else self.query[start:stop],
            key=None if self.key is None else self.key[start:stop],
            value=self.value[start:stop],
            output=None,
            mask=mask,
            matrix=None if self.matrix is None else self.matrix[start:stop],
        )

    def _bias(self, scores: Tensor, start: int) -> Tensor:
        """Return what mask and causality add to ``scores``, whose first query is ``start``."""
        bias = torch.zeros_like(scores[:1, :1])
        queries, keys = scores.shape[-2:]
        if self.is_causal:
            ones = torch.ones(start + queries, keys, dtype=torch.bool, device=scores.device)
            bias = bias.masked_fill(~ones.tril()[start:], float("-inf"))
        if self.mask is None:
            return bias
        mask = self.mask
        if mask.ndim >= 2 and mask.shape[-2] > 1:
            mask = mask[..., start : start + queries, :]
        if mask.dtype == torch.bool:
            return bias.masked_fill(~mask, float("-inf"))
        return bias + mask.to(scores.dtype)


@dataclass(eq=False)
class AttentionTrace:
    """The attention calls of one forward pass.

    Attributes:
        layers: The calls; the first is nearest the input.
        side_by_side: Whether two of them in a row begin with a norm of the same tokens.
    """

    layers: list[AttentionLayer] = field(default_factory=list)
    side_by_side: bool = False

    def __len__(self) -> int:
        """Count the recorded calls."""
        return len(self.layers)

    def summary(self) -> str:
        """Name what was seen, for error messages."""
        if not self.layers:
            return "no attention call"
        shapes = [
            f"{heads} heads {queries}x{keys} (batch {batch})"
            for batch, heads, queries, keys in (layer.shape for layer in self.layers)
        ]
        kinds = ", ".join(dict.fromkeys(shapes))
        return f"{len(shapes)} attention calls: {kinds}"
