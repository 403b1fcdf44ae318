"""Ask a Vision Transformer about pictures without some of their tokens, as cheaply as is exact.

Tokens are masked as keys everywhere and left out of pooling, or, where a trial on the first picture
shows that this is the same, really left out of the sequence
(:func:`~vitrail.explain.shortening.shorter_cut`). Variants that keep equally many tokens share a
pass, whatever picture they are of.
"""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import MethodError
from vitrail.explain.batches import in_batches
from vitrail.explain.request import Request
from vitrail.explain.shortening import shorter_cut, tokens_left_out
from vitrail.explain.target import Selection, logits_of


class TokenDropper:
    """A model that can be asked without some tokens.

    Args:
        model: In eval mode; its attention must be of all tokens to all tokens.
        images: The pictures.
        batch_size: Whole pictures a pass; of shorter sequences as many as have the same tokens.
        shorten: Whether tokens may really be left out where that is exact.

    Raises:
        MethodError: If attention or pooling cannot be masked.
        CaptureError: If no attention is seen.
        AnatomyError: If attention is windowed.

    Attributes:
        grid_size: The model's own patch grid.
        is_shortened: Whether tokens are really left out.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Float[Tensor, "case channel height width"],
        *,
        batch_size: int = 16,
        shorten: bool = True,
    ) -> None:
        self._model, self._images, self._batch = model, images, batch_size
        first = Request(model=model, images=images[:1], selection=Selection(0))
        self._layout = first.record().anatomy
        self._cut = shorter_cut(first, self._layout) if shorten else None
        self.grid_size = self._layout.grid_size
        self.is_shortened = self._cut is not None

    def logits(
        self, cases: Int[Tensor, " variant"], hidden: Bool[Tensor, "variant row column"]
    ) -> Float[Tensor, "variant class"]:
        """Return the logits of pictures without their hidden patches, at least one of which stays.

        Args:
            cases: Place of each variant's picture.
            hidden: Which patches are left out.
        """
        kept = ~hidden.flatten(1).cpu()
        counts = kept.sum(dim=1)
        if not bool(counts.all()):
            raise MethodError(
                "hidden", "every patch", "one token at least must stay", "hide fewer patches"
            )
        order = counts.argsort(stable=True) if self.is_shortened else torch.arange(len(kept))
        sizes = [len(kept)]
        if self.is_shortened:
            sizes = torch.unique_consecutive(counts[order], return_counts=True)[1].tolist()
        found = []
        for group in torch.split(order, sizes):
            ask = partial(self._ask, cases[group], kept[group])
            found += in_batches(ask, len(group), batch_size=self._pictures(counts[group]))
        logits = torch.cat(found)
        back = torch.empty_like(logits)
        back[order.to(logits.device)] = logits
        return back.double()

    def _pictures(self, counts: Int[Tensor, " some"]) -> int:
        """Return how many variants a pass takes."""
        prefix = self._layout.num_prefix_tokens
        tokens = int(counts[0]) + prefix if self.is_shortened else self._layout.num_tokens
        return self._batch * self._layout.num_tokens // tokens

    def _ask(
        self,
        cases: Int[Tensor, " variant"],
        kept: Bool[Tensor, "variant patch"],
        start: int,
        stop: int,
    ) -> Float[Tensor, "some class"]:
        """Ask about some variants in one pass; prefix tokens always stay."""
        cases, kept = cases[start:stop], kept[start:stop]
        prefix = torch.ones(len(kept), self._layout.num_prefix_tokens, dtype=torch.bool)
        keep = torch.cat([prefix, kept], dim=1)
        images = self._images[cases]
        return logits_of(
            tokens_left_out(self._model, images, keep=keep, layout=self._layout, cut=self._cut)
        )
