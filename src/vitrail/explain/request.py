"""What a method gets: the model, the images and the question, and ways to run them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import InputError, MethodError
from vitrail.explain.anatomy import Anatomy, Encoder, anatomy, fit_trace, patch_size
from vitrail.explain.intercept import entered
from vitrail.explain.target import Selection
from vitrail.explain.trace import AttentionLayer, accumulation_dtype, capture


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """One recorded forward pass that fits the model's anatomy.

    Attributes:
        anatomy: Tokens, grid, read-out.
        layers: Self-attention layers, nearest the input first.
        pool: Attention pooling after them, or None.
        scores: The explained numbers; they carry the graph if gradients were asked for.
        images: The tensor that went in (a leaf that requires grad if gradients were asked for).
        with_images: Whether :meth:`image_gradient` will be asked for, too.
    """

    anatomy: Anatomy
    layers: tuple[AttentionLayer, ...]
    pool: AttentionLayer | None
    scores: Float[Tensor, "target batch"]
    images: Float[Tensor, "batch channel height width"]
    with_images: bool = False

    def output_gradients(self) -> tuple[Float[Tensor, "target *output"], ...]:
        """Return dy/dO of each layer (the pool's last, if there is one), of all targets at once.

        Turn it into rows of dy/dA by ``layer.attention_gradient``.
        """
        return self._gradients[:-1] if self.with_images else self._gradients

    def image_gradient(self) -> Float[Tensor, "target batch channel height width"]:
        """Return dy/dx, of the same backward pass; only of a recording ``with_images``."""
        return self._gradients[-1]

    @cached_property
    def _gradients(self) -> tuple[Float[Tensor, "target *input"], ...]:
        parts = self.layers if self.pool is None else (*self.layers, self.pool)
        wanted = [part.output for part in parts if part.output is not None]
        return gradients(self.scores, [*wanted, self.images] if self.with_images else wanted)

    def first_row(self) -> Float[Tensor, "batch token"]:
        """Return the read-out's weights over the last layer's output tokens; rows sum to one.

        Under attention pooling: the pool's attention, mean over heads (and over its queries).
        """
        batch = self.images.shape[0]
        if self.pool is None:
            value = self.layers[-1].value
            row = self.anatomy.readout_row(value.new_empty(0, dtype=accumulation_dtype(value)))
            return row.expand(batch, -1)
        row = self.pool.attention().mean(dim=(1, 2))
        return nn.functional.pad(row, (self.anatomy.num_tokens - row.shape[1], 0))


@dataclass(eq=False)
class Kept:
    """What methods that are asked one question about the same images leave for each other.

    Attributes:
        selection: The numbers to explain.
        recording: The pass with its graph, once a method has made it.
        slopes: dy/dx under other rules of the backward pass, by their name.
    """

    selection: Selection
    recording: Recording | None = None
    slopes: dict[Hashable, Tensor] = field(default_factory=dict)


class Shared:
    """Passes that several methods use together: the same maps as each by itself, for less.

    Hand one to some calls of :func:`~vitrail.explain.engine.explain` about the same model and
    images, and let go of it after them: it holds their graphs. Methods that use attention as a row
    first, those without a class last, share most.
    """

    def __init__(self) -> None:
        self._about: tuple[nn.Module, Tensor] | None = None
        self._kept: dict[tuple[int, int, str], Kept] = {}

    def check(self, model: nn.Module, images: Tensor) -> None:
        """Refuse another model and other images than those of the first call.

        Raises:
            InputError: If they are others.
        """
        self._about = self._about or (model, images)
        if self._about[0] is not model or self._about[1] is not images:
            raise InputError(
                "shared",
                "another model or other images",
                "passes are shared about the same ones",
                "make a new Shared() for them",
            )

    def kept(self, selection: Selection, *, part: tuple[int, int], specific: bool) -> Kept:
        """Return what is kept for a question about some of the images.

        Args:
            selection: The question, if it is a new one.
            part: Which images, end exclusive.
            specific: Whether the class matters; attention alone serves whatever was asked.
        """
        if not specific:
            found = (kept for key, kept in self._kept.items() if key[:2] == part and kept.recording)
            return next(found, Kept(selection))
        target = selection.target
        if callable(target):
            return Kept(selection)
        words = target if isinstance(target, str) else torch.as_tensor(target).tolist()
        question = f"{words} versus {selection.versus}"
        return self._kept.setdefault((*part, question), Kept(selection))


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """One question to one model about one batch.

    Attributes:
        model: In eval mode (checked).
        images: [batch, channel, height, width], detached.
        selection: The numbers to explain.
        anatomy: The caller's own, or None to find it.
        kept: What other methods left, if the passes of several are shared.
        found: The model's own anatomy, once it has been looked for.
    """

    model: nn.Module
    images: Float[Tensor, "batch channel height width"]
    selection: Selection
    given_anatomy: Anatomy | None = None
    kept: Kept | None = None
    found: list[Anatomy] = field(default_factory=list)

    def anatomy(self) -> Anatomy:
        """Return the caller's anatomy, or the model's."""
        if self.given_anatomy is not None:
            return self.given_anatomy
        if not self.found:
            self.found.append(anatomy(self.model, self.images))
        return self.found[0]

    def patch(self) -> tuple[int, int] | None:
        """Return rows and columns in pixels of one patch: the caller's, the model's, or None."""
        if self.given_anatomy is None:
            return patch_size(self.model)
        rows, columns = self.given_anatomy.grid_size
        return self.images.shape[-2] // rows, self.images.shape[-1] // columns

    def record(self, *, gradients: bool = False) -> Recording:
        """Run the images once and record the attention, or take the pass that was kept.

        Args:
            gradients: Whether to keep the graph, for :meth:`Recording.output_gradients`.
        """
        if self.kept is None:
            return self._run(gradients=gradients)
        if self.kept.recording is None and gradients:
            self.kept.recording = self._run(gradients=True)
        return self.kept.recording or self._run(gradients=False)

    def _run(self, *, gradients: bool) -> Recording:
        """Run the images once and record the attention."""
        layout = self.anatomy()
        images = self.images.detach().clone().requires_grad_() if gradients else self.images
        several = (
            self.selection.target == "all" if isinstance(self.selection.target, str) else False
        )
        with (
            torch.set_grad_enabled(gradients),
            capture(self.model, keep_output=gradients, fold_targets=gradients and several) as trace,
        ):
            output = self.model(images)
        encoder: Encoder = fit_trace(trace, layout, batch=len(images))
        return Recording(
            anatomy=layout,
            layers=encoder.layers,
            pool=encoder.pool,
            scores=self.selection.scores(output),
            images=images,
            with_images=self.kept is not None and gradients,
        )

    def scores(self, images: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Run the model on other images (perturbed, interpolated) and return [target, batch].

        Show it ``self.images`` first: ``target="predicted"`` is settled by the first output.
        Gradients flow where ``images`` requires them; wrap in ``torch.no_grad()`` for black boxes.
        """
        with entered(self.model):
            output = self.model(images)
        return self.selection.scores(output)


def gradients(
    scores: Float[Tensor, "target batch"], inputs: Sequence[Tensor]
) -> tuple[Float[Tensor, "target *input"], ...]:
    """Return d(scores[t].sum())/d(input) for each target t: one backward pass, batched if several.

    Raises:
        MethodError: If the scores carry no graph.
    """
    if not (scores.requires_grad and all(part.requires_grad for part in inputs)):
        raise _no_graph()
    totals = scores.sum(dim=1)
    eye = torch.eye(len(totals), dtype=totals.dtype, device=totals.device)
    several = len(totals) > 1
    try:
        found = torch.autograd.grad(
            totals if several else totals[0],
            inputs,
            grad_outputs=eye if several else None,
            is_grads_batched=several,
            allow_unused=True,
        )
    except RuntimeError as error:
        if "torch.utils.checkpoint" not in str(error):
            raise
        raise MethodError(
            "model",
            "it checkpoints its activations",
            "what is recomputed in the backward pass is recomputed by other rules",
            "turn checkpointing off (timm: model.set_grad_checkpointing(False))",
        ) from error
    if all(part is None for part in found):
        raise _no_graph()
    return tuple(
        source.new_zeros(len(totals), *source.shape)
        if part is None
        else part.reshape(len(totals), *source.shape)
        for part, source in zip(found, inputs, strict=True)
    )


def _no_graph() -> MethodError:
    """Say that there is nothing to differentiate."""
    return MethodError(
        "target",
        "the score does not depend on the images through a graph",
        "gradient methods differentiate it",
        "do not detach or round it; call outside torch.inference_mode() and torch.no_grad()",
    )
