"""The one call: check the question, run the method, put its scores on the patch grid."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import InputError, MethodError, VitrailError
from vitrail.explain.anatomy import Anatomy, image_size
from vitrail.explain.attribution import Attribution
from vitrail.explain.batches import in_batches, is_out_of_memory
from vitrail.explain.registry import Method, Scores, find_method
from vitrail.explain.request import Request, Shared
from vitrail.explain.rollout import attention_of
from vitrail.explain.target import Selection, Target, plain_target

logger = logging.getLogger("vitrail")


def explain(
    model: nn.Module,
    images: Tensor,
    *,
    method: str = "relevance",
    target: Target = "predicted",
    versus: int | None = None,
    anatomy: Anatomy | None = None,
    shared: Shared | None = None,
    **parameters: Any,
) -> Attribution:
    """Explain a model's answer about images; the model is left as it was.

    Args:
        model: Any classifier in eval mode; attention methods need a Vision Transformer.
        images: Floats [batch, channel, height, width], normalized as the model expects; taken to
            its device and type.
        method: Name in :func:`~vitrail.explain.registry.methods`.
        target: ``"predicted"``, ``"all"`` (a leading class axis), a class, one class an image, or a
            callable from the model's output to one number an image.
        versus: A class whose score is subtracted: why ``target`` rather than this.
        anatomy: The model's layout, where it cannot be found.
        shared: One for several methods asked about the same model and images: they then share the
            passes that they can, and their maps stay the same.
        **parameters: The method's own; unknown ones are refused.

    Returns:
        Raw maps on the patch grid.

    Raises:
        InputError: If images, target or model cannot be used (MethodError, AnatomyError for what
            concerns method and layout).
        CaptureError: If the model's attention cannot be recorded.
        NumericalError: If the model's answer is not finite.

    Example:
        >>> import torch
        >>> from vitrail.explain import Anatomy, explain
        >>> encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> class Tiny(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.patches = torch.nn.Conv2d(1, 8, 4, 4)
        ...         self.encoder, self.head = encoder, torch.nn.Linear(8, 2)
        ...     def forward(self, x):
        ...         return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))
        >>> explain(Tiny().eval(), torch.ones(1, 1, 8, 12), method="rollout").values.shape
        torch.Size([1, 2, 3])
    """
    chosen = find_method(method)
    settled = chosen.settle(parameters)
    _check_model(model)
    target = plain_target(target)
    _check_question(chosen, target, versus=versus)
    _check_shared(shared, model, images=images)
    images = _as_input(model, images)
    every = isinstance(target, str) and target == "all"
    selection = Selection(target, versus)
    whole = Request(model=model, images=images, selection=selection, given_anatomy=anatomy)

    def run(start: int, stop: int) -> tuple[Scores, Selection]:
        request = _of_part(whole, (start, stop), shared=shared, specific=chosen.class_specific)
        return chosen.function(request, **settled), request.selection

    _check_target_length(target, len(images))
    given = settled.get("generator")
    generator = given if isinstance(given, torch.Generator) else None
    with _refusal_in_words(model, images), torch.autocast(images.device.type, enabled=False):
        parts = in_batches(run, len(images), generator=generator)
        scores = _joined([scores for scores, _ in parts])
        tensors = _on_grid(scores, whole)
    known = [one.classes for _, one in parts if chosen.class_specific and one.classes is not None]
    if known:
        tensors["classes"] = torch.cat(known, dim=1)
    if not every:
        tensors = {name: tensor[0] for name, tensor in tensors.items()}
    return Attribution(
        **tensors,
        method=method,
        target=_in_words(target, versus) if chosen.class_specific else "any",
        parameters={name: _plain(value) for name, value in settled.items()},
        image_size=(images.shape[-2], images.shape[-1]),
        signed=chosen.signed,
        class_specific=chosen.class_specific,
    )


def attention_maps(
    model: nn.Module,
    images: Tensor,
    *,
    anatomy: Anatomy | None = None,
) -> Float[Tensor, "layer batch head row column"]:
    """Return the read-out row's attention to the patches in every layer and head: just show me.

    Raises:
        InputError: As :func:`explain`.
        CaptureError: As :func:`explain`.
    """
    request = question(model, images, anatomy=anatomy)
    with _refusal_in_words(model, request.images):
        return attention_of(request.record())


def question(
    model: nn.Module,
    images: Tensor,
    *,
    target: Target | None = None,
    anatomy: Anatomy | None = None,
) -> Request:
    """Check model and images, for a view that is not a method's map.

    Args:
        model: As for :func:`explain`.
        images: As for :func:`explain`.
        target: The explained score; None where the view knows no class.
        anatomy: The model's layout, where it cannot be found.

    Raises:
        InputError: As :func:`explain`.
    """
    _check_model(model)
    asked = (lambda _: torch.zeros(len(images))) if target is None else plain_target(target)
    return Request(
        model=model,
        images=_as_input(model, images),
        selection=Selection(asked),
        given_anatomy=anatomy,
    )


def _check_model(model: nn.Module) -> None:
    """Refuse a model whose answer may be random or depend on the rest of the batch."""
    for name, module in model.named_modules():
        if module.training:
            raise InputError(
                "model",
                f"{name or 'it'} ({type(module).__name__}) is in train mode",
                "an explanation is of one function, the same at every call",
                "call model.eval() first",
            )


def _check_question(method: Method, target: Target, *, versus: int | None) -> None:
    """Refuse questions that the method cannot answer."""
    if method.needs == "gradient" and torch.is_inference_mode_enabled():
        raise MethodError(
            "method",
            f"{method.name!r} inside torch.inference_mode()",
            "it differentiates the model",
            "call it outside, or take a method that needs no gradient",
        )
    if method.class_specific:
        return
    asks_all = isinstance(target, str) and target == "all"
    if asks_all or versus is not None:
        raise MethodError(
            "target" if asks_all else "versus",
            repr(target if asks_all else versus),
            f"the map of {method.name!r} is the same for every class",
            "leave it out, or take a class-specific method such as 'relevance'",
        )
    if not (isinstance(target, str) and target == "predicted"):
        logger.warning("target changes nothing: the map of %r knows no class", method.name)


def _check_shared(shared: Shared | None, model: nn.Module, *, images: Tensor) -> None:
    """Refuse to share passes with another model or other images."""
    if shared is not None:
        shared.check(model, images)


def _of_part(
    whole: Request, part: tuple[int, int], *, shared: Shared | None, specific: bool
) -> Request:
    """Return the question about some of the images, with what was kept of it."""
    selection, kept = whole.selection.part(*part), None
    if shared is not None:
        kept = shared.kept(selection, part=part, specific=specific)
        selection = kept.selection
    return replace(whole, images=whole.images[slice(*part)], selection=selection, kept=kept)


def _check_target_length(target: Target, batch: int) -> None:
    """Refuse a sequence of classes that is not one class an image."""
    if isinstance(target, (str, int, float, np.integer)) or callable(target):
        return
    if len(target) != batch:
        raise InputError(
            "target",
            f"{len(target)} classes for {batch} images",
            "it must be one class, or one class an image",
            "pass an int or a sequence as long as the batch",
        )


def _as_input(model: nn.Module, images: Tensor) -> Float[Tensor, "batch channel height width"]:
    """Return the images on the model's device in its type, or say what is wrong with them."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        came = f"{tuple(images.shape)} of {images.dtype}" if isinstance(images, Tensor) else images
        raise InputError(
            "images",
            str(came),
            "they must be a floating-point tensor [batch, channel, height, width]",
            "add the batch axis with images[None], scale and normalize 8-bit pictures",
        )
    if 0 in images.shape:
        raise InputError(
            "images", f"{tuple(images.shape)}", "there must be at least one", "pass a batch"
        )
    parameter = next(model.parameters(), images)
    return images.detach().to(parameter.device, parameter.dtype)


@contextmanager
def _refusal_in_words(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Say it in our words where a model by itself refuses the images."""
    try:
        yield
    except Exception as error:
        if isinstance(error, VitrailError) or is_out_of_memory(error):
            raise
        try:
            with torch.no_grad():
                model(images)
        except Exception as own:  # noqa: BLE001 (whatever a model raises at what it cannot take)
            raise _refused(model, images, words=str(own)) from error
        raise


def _refused(model: nn.Module, images: Tensor, *, words: str) -> InputError:
    """Tell what of the images' shape is not the model's own."""
    came, rule = f"{tuple(images.shape)}", f"the model refused them: {words}"
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    own, size = image_size(model), (images.shape[-2], images.shape[-1])
    if first is not None and first.in_channels != images.shape[1]:
        came, rule = f"{images.shape[1]} channels", f"the model takes {first.in_channels}"
    elif own is not None and own != size:
        came = f"{size[0]}x{size[1]} px"
        rule = f"the model takes {own[0]} x {own[1]} px and refused: {words}"
    return InputError(
        "images", came, rule, "resize them, or build the model for this shape, as in training"
    )


def _joined(parts: list[Scores]) -> Scores:
    """Put the batches of images together again."""
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for name in ("tokens", "pixels", "grid", "residual"):
        tensors = [getattr(part, name) for part in parts]
        if tensors[0] is not None:
            joined[name] = torch.cat(tensors, dim=1)
    return Scores(**joined)


def _on_grid(scores: Scores, request: Request) -> dict[str, Any]:
    """Return ``values`` on the patch grid, with what else the method found."""
    found: dict[str, Any] = {}
    if scores.residual is not None:
        found["residual"] = scores.residual.detach()
    if scores.tokens is not None:
        tokens = scores.tokens.detach()
        layout = request.anatomy()
        prefix = layout.num_prefix_tokens
        found["prefix"] = tokens[..., :prefix]
        found["values"] = tokens[..., prefix:].reshape(*tokens.shape[:2], *layout.grid_size)
    elif scores.pixels is not None:
        pixels = scores.pixels.detach()
        found["pixels"] = pixels
        found["values"] = patch_sums(pixels, request.patch() or (1, 1))
    elif scores.grid is not None:
        found["values"] = scores.grid.detach()
    return found


def patch_sums(
    pixels: Float[Tensor, "target batch channel height width"], patch: tuple[int, int]
) -> Float[Tensor, "target batch row column"]:
    """Sum over channels and the pixels of each patch; pixels past the last whole one are left."""
    height, width = pixels.shape[-2:]
    rows, columns = height // patch[0], width // patch[1]
    inner = pixels.sum(dim=2)[..., : rows * patch[0], : columns * patch[1]]
    tiles = inner.reshape(*inner.shape[:2], rows, patch[0], columns, patch[1])
    return tiles.sum(dim=(-3, -1))


def _in_words(target: Target, versus: int | None) -> str:
    """Name the target for the record."""
    if callable(target):
        words = getattr(target, "__name__", "callable")
    elif isinstance(target, str):
        words = target
    else:
        words = f"class {torch.as_tensor(target).tolist()}"
    return words if versus is None else f"{words} versus class {versus}"


def _plain(value: object) -> object:
    """Return a parameter as JSON can hold it."""
    if isinstance(value, torch.Generator):
        return f"generator seeded {value.initial_seed()}"
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= 16 else f"tensor {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return getattr(value, "__name__", type(value).__name__)
