"""Ask a Vision Transformer about pictures without some of their tokens, as cheaply as is exact.

Tokens are masked as keys everywhere and left out of pooling, or, where a trial on the first picture
shows that this is the same, really left out of the sequence
(:func:`~vitrail.explain.shortening.shorter_cut`). Then a picture is embedded once, and variants
that keep equally many tokens share a pass, whatever picture they are of.
"""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import MethodError
from vitrail.explain.batches import in_batches
from vitrail.explain.request import Request
from vitrail.explain.shortening import (
    first_block_input,
    kept_tokens,
    run_shortened,
    shorter_cut,
    tokens_left_out,
)
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
        if not bool(kept.any(dim=1).all()):
            raise MethodError(
                "hidden", "every patch", "one token at least must stay", "hide fewer patches"
            )
        prefix = torch.ones(len(kept), self._layout.num_prefix_tokens, dtype=torch.bool)
        keep = torch.cat([prefix, kept], dim=1)
        owned, owners = torch.unique(cases.cpu(), return_inverse=True)
        images = self._images[owned.to(self._images.device)]
        if self._cut is None:
            return self._masked(images, owners, keep).double()
        return self._shortened(images, owners, keep, cut=self._cut).double()

    def _masked(
        self,
        images: Float[Tensor, "case channel height width"],
        owners: Int[Tensor, " variant"],
        keep: Bool[Tensor, "variant token"],
    ) -> Float[Tensor, "variant class"]:
        """Ask about all variants, the tokens masked that are not kept."""

        def ask(start: int, stop: int) -> Float[Tensor, "some class"]:
            some = slice(start, stop)
            output = tokens_left_out(
                self._model, images, keep=keep[some], layout=self._layout, owners=owners[some]
            )
            return logits_of(output)

        return torch.cat(in_batches(ask, len(keep), batch_size=self._batch))

    def _shortened(
        self,
        images: Float[Tensor, "case channel height width"],
        owners: Int[Tensor, " variant"],
        keep: Bool[Tensor, "variant token"],
        *,
        cut: int,
    ) -> Float[Tensor, "variant class"]:
        """Embed each picture once, and ask about all variants of one length together."""

        def embed(start: int, stop: int) -> Float[Tensor, "some token feature"]:
            return first_block_input(self._model, images[start:stop], cut=cut)

        def ask(
            start: int, stop: int, *, group: Int[Tensor, " same"]
        ) -> Float[Tensor, "some class"]:
            some = group[start:stop]
            short = kept_tokens(tokens, keep[some], owners=owners[some])
            return logits_of(run_shortened(self._model, images, tokens=short, cut=cut))

        tokens = torch.cat(in_batches(embed, len(images), batch_size=self._batch))
        counts = keep.sum(dim=1)
        order = counts.argsort(stable=True)
        lengths, sizes = torch.unique_consecutive(counts[order], return_counts=True)
        found = []
        for length, group in zip(lengths.tolist(), torch.split(order, sizes.tolist()), strict=True):
            at_once = self._batch * self._layout.num_tokens // length
            found += in_batches(partial(ask, group=group), len(group), batch_size=at_once)
        logits = torch.cat(found)
        back = torch.empty_like(logits)
        back[order.to(logits.device)] = logits
        return back
