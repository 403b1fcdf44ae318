"""Ask a Vision Transformer about pictures without some of their tokens, as cheaply as is exact.

Masking tokens as keys everywhere and leaving them out of pooling is exact for every encoder that
attends from all tokens to all tokens, but costs a whole pass. On models with absolute positions
the tokens can really be left out: the call whose result is the first block's input is found by
watching one pass, and its result is cut there in later ones. Whether that is the same is not
assumed: both ways are tried on the first picture, and the cheap one is used only if they agree.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import MethodError, VitrailError
from vitrail.explain.occlusion import Dropped
from vitrail.explain.request import Request
from vitrail.explain.target import Selection, logits_of
from vitrail.explain.tokens import Intercept, TokenWatch, entered

_AGREE = 1e-4


class TokenDropper:
    """A model that can be asked without some tokens.

    Args:
        model: In eval mode; its attention must be of all tokens to all tokens.
        images: The pictures.
        batch_size: Variants a pass.
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
        batch_size: int = 64,
        shorten: bool = True,
    ) -> None:
        self._model, self._images, self._batch = model, images, batch_size
        first = Request(model=model, images=images[:1], selection=Selection(0))
        self._layout = first.record().anatomy
        self.grid_size = self._layout.grid_size
        self._cut = _first_block(model, images[:1]) if shorten else None
        self.is_shortened = self._cut is not None and self._agrees()

    def logits(
        self, cases: Int[Tensor, " variant"], hidden: Bool[Tensor, "variant row column"]
    ) -> Float[Tensor, "variant class"]:
        """Return the logits of pictures without their hidden patches, at least one of which stays.

        Args:
            cases: Place of each variant's picture.
            hidden: Which patches are left out.
        """
        kept = ~hidden.flatten(1)
        if not bool(kept.any(dim=1).all()):
            raise MethodError(
                "hidden", "every patch", "one token at least must stay", "hide fewer patches"
            )
        run = self._shortened if self.is_shortened else self._masked
        counts = kept.sum(dim=1) if self.is_shortened else torch.zeros(len(kept), dtype=torch.long)
        order = counts.argsort(stable=True)
        found = []
        _, sizes = torch.unique_consecutive(counts[order], return_counts=True)
        for group in torch.split(order, sizes.tolist()):
            found += [run(cases[part], kept[part]) for part in torch.split(group, self._batch)]
        logits = torch.cat(found)
        back = torch.empty_like(logits)
        back[order.to(logits.device)] = logits
        return back.double()

    def _masked(
        self, cases: Int[Tensor, " variant"], kept: Bool[Tensor, "variant patch"]
    ) -> Float[Tensor, "variant class"]:
        """Mask the hidden tokens in every layer and leave them out of pooling."""
        images = self._images[cases]
        mode = Dropped(self._with_prefix(kept).to(images.device), self._layout)
        with torch.no_grad(), entered(self._model, mode):
            logits = logits_of(self._model(images))
        pools = self._layout.readout in {"patch_mean", "token_mean", "cls_and_patch_mean"}
        if not mode.masked or (pools and not mode.pooled):
            raise MethodError(
                "model",
                f"{mode.masked} attention calls and {mode.pooled} poolings were masked",
                "every token must be left out of attention and of pooling",
                "use another imputer, such as 'blur'",
            )
        return logits

    def _shortened(
        self, cases: Int[Tensor, " variant"], kept: Bool[Tensor, "variant patch"]
    ) -> Float[Tensor, "variant class"]:
        """Leave the hidden tokens out of the sequence; all variants keep equally many."""
        assert self._cut is not None  # noqa: S101 (is_shortened says so)
        images = self._images[cases]
        places = self._with_prefix(kept).nonzero()[:, 1].view(len(kept), -1).to(images.device)
        mode = _Shorter(self._cut, places)
        with torch.no_grad(), entered(self._model, mode):
            return logits_of(self._model(images))

    def _with_prefix(self, kept: Bool[Tensor, "variant patch"]) -> Bool[Tensor, "variant token"]:
        """Return which tokens stay: all prefix tokens, and the kept patches."""
        prefix = torch.ones(len(kept), self._layout.num_prefix_tokens, dtype=torch.bool)
        return torch.cat([prefix, kept.cpu()], dim=1)

    def _agrees(self) -> bool:
        """Tell whether leaving tokens out equals masking them, on the first picture."""
        patches = self._layout.num_patches
        kept = torch.arange(patches).remainder(3).ne(1).unsqueeze(0)
        kept[0, 0] = True
        one = torch.zeros(1, dtype=torch.long)
        masked = self._masked(one, kept)
        try:
            short = self._shortened(one, kept)
        except VitrailError:
            return False
        except Exception:  # noqa: BLE001 (a model may do anything with a length it never saw)
            return False
        scale = masked.abs().amax().clamp_min(1e-6)
        return bool(((short - masked).abs() / scale < _AGREE).all())


class _Shorter(Intercept):
    """Cuts the tokens where the first block's input is made.

    Args:
        at: Number of the call that makes it.
        places: Tokens that stay, of each variant.
    """

    def __init__(self, at: int, places: Int[Tensor, "variant token"]) -> None:
        super().__init__()
        self._left, self._places = at, places

    def call(
        self,
        func: Callable[..., Any],
        name: str,  # noqa: ARG002 (calls are told by their number)
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call; cut its result if it is the one."""
        result = func(*args, **kwargs)
        self._left -= 1
        if self._left == 0:
            places = self._places.unsqueeze(2).expand(-1, -1, result.shape[2])
            return result.gather(1, places)
        return result


class _Numbered(Intercept):
    """Remembers the results of all calls, to find which made a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Any] = []

    def call(
        self,
        func: Callable[..., Any],
        name: str,  # noqa: ARG002 (calls are told by their number)
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call and keep its result."""
        result = func(*args, **kwargs)
        self.results.append(result)
        return result


def _first_block(model: nn.Module, image: Float[Tensor, "1 channel height width"]) -> int | None:
    """Return the number (from 1) of the call that makes the first block's input, None if unseen."""
    watch, numbered = TokenWatch(), _Numbered()
    with torch.no_grad(), entered(model, watch, numbered):
        model(image)
    if not watch.norms:
        return None
    start = watch.norms[0].input
    made = [number for number, result in enumerate(numbered.results, 1) if result is start]
    return made[0] if made else None
