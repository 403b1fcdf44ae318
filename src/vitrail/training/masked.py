"""Masked autoencoding: a transformer learns from pictures without labels by filling in patches.

Most patches of a picture are hidden. The encoder sees the rest alone; a small decoder, given the
encoder's tokens and an empty token in each hidden place, predicts the hidden patches' pixels. What
is kept afterwards is the encoder; the decoder is thrown away::

    picture ─► patch_embed + pos_embed ─► visible quarter ─► blocks ─► tokens
                                                                        │  empty tokens in between
    mean squared error on hidden patches ◄─ pixels ◄─ linear ◄─ decoder ◄┘
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.data import Dataset

from vitrail.errors import InputError
from vitrail.records import Progress, no_progress
from vitrail.training.interrupt import stop_on_signal
from vitrail.training.loop import Loop, Row
from vitrail.training.objective import Objective
from vitrail.training.settings import FitSettings
from vitrail.training.step import Stepper
from vitrail.training.subject import fingerprint

_log = logging.getLogger("vitrail")
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What came of a pretraining.

    Attributes:
        history: A row of numbers an epoch, the same as in ``log.jsonl``.
        warnings: Sentences that belong beside the numbers.
    """

    history: list[Row]
    warnings: tuple[str, ...]


def pretrain(
    model: nn.Module,
    pictures: Dataset[Any],
    *,
    settings: FitSettings,
    folder: Path,
    mask_ratio: float = 0.75,
    progress: Progress = no_progress,
) -> Pretrained:
    """Teach a transformer to fill in hidden patches, or go on where an earlier call was cut off.

    Args:
        model: A timm ``VisionTransformer``; its encoder is trained in place, its head is left.
        pictures: Items begin with an image [channel, height, width] and anything in the label's
            place, which is not used.
        settings: The choices; what they say of labels and validation is not used. Where the epochs
            would take longer than ``most_minutes``, there will be fewer.
        folder: Takes ``log.jsonl`` and ``checkpoints/``.
        mask_ratio: Share of the patches that is hidden.
        progress: Told after each step.

    Returns:
        Its numbers, and whether it was cut short.

    Raises:
        InputError: If the model is no plain Vision Transformer.
        RunFolderError: If the folder's checkpoints are those of another training.
        TrainingError: If the training was stopped; the message says how to go on.

    Source:
        he2022, sections 3 and 4.1.

    Differs:
        The decoder is as wide as half the encoder and two blocks deep, for small data. The weights
        of the last epoch are kept: nothing is validated.
    """
    with torch.random.fork_rng(), stop_on_signal() as stop:
        torch.manual_seed(settings.seed)
        with _around(model, mask_ratio=mask_ratio) as autoencoder:
            training = _Pretraining(autoencoder, pictures, settings=settings, folder=folder)
            training.run(stop, progress)
            training.end()
        return Pretrained(training.history, tuple(filter(None, [training.shortened])))


class MaskedAutoencoder(nn.Module):
    """A Vision Transformer with a decoder behind it, as long as it is pretrained.

    Args:
        encoder: The transformer; ``chooser`` must stand where it drops patches.
        mask_ratio: Share of the patches that is hidden.
        depth: Blocks of the decoder.
    """

    def __init__(self, encoder: VisionTransformer, *, mask_ratio: float, depth: int = 2) -> None:
        super().__init__()
        patches = encoder.patch_embed.num_patches
        visible = round(patches * (1 - mask_ratio))
        if not 0 < visible < patches:
            raise InputError(
                "mask_ratio",
                f"{mask_ratio} of {patches} patches",
                "some patches must be hidden and some seen",
                "choose about 0.75, or a smaller patch_size",
            )
        self.encoder, self.visible = encoder, visible
        self.chooser = _KeepVisible(encoder.num_prefix_tokens)
        self.patch_size = encoder.patch_embed.patch_size
        width = max(32, encoder.embed_dim // 2 // 32 * 32)
        grid = encoder.patch_embed.grid_size
        self.embed = nn.Sequential(
            nn.LayerNorm(encoder.embed_dim), nn.Linear(encoder.embed_dim, width)
        )
        self.mask_token = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.places: Tensor
        places = build_sincos2d_pos_embed(list(grid), dim=width)
        self.register_buffer("places", places.reshape(patches, width))
        self.blocks = nn.Sequential(*(Block(width, width // 32) for _ in range(depth)))
        pixels = self.patch_size[0] * self.patch_size[1] * _channels(encoder)
        self.predict = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, pixels))

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, " batch"]:
        """Hide patches, fill them in, and return each picture's mean squared error on them.

        Which patches are hidden is drawn from PyTorch's global generator, as dropout is: the loop
        seeds it for each step.
        """
        pixels = to_patches(images, self.patch_size)
        batch, patches, _ = pixels.shape
        order = torch.rand(batch, patches, device=images.device).argsort(dim=1)
        kept = order[:, : self.visible]
        hidden = torch.ones(batch, patches, dtype=torch.bool, device=images.device)
        hidden.scatter_(1, kept, value=False)
        filled = self.fill_in(self.encode(images, kept=kept, hidden=hidden), kept=kept)
        mean = pixels.mean(dim=2, keepdim=True)
        variance = pixels.var(dim=2, keepdim=True)
        targets = (pixels - mean) / (variance + _EPSILON).sqrt()
        errors = (filled.float() - targets).square().mean(dim=2)
        return (errors * hidden).sum(dim=1) / hidden.sum(dim=1)

    def no_weight_decay(self) -> set[str]:
        """Name the encoder's embeddings, as timm's models do for its optimizers."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}

    def encode(
        self,
        images: Float[Tensor, "batch channel height width"],
        *,
        kept: Int[Tensor, "batch visible"],
        hidden: Bool[Tensor, "batch patch"],
    ) -> Float[Tensor, "batch token dim"]:
        """Return the encoder's tokens of the visible patches, prefix tokens first.

        Hidden patches are blanked before they are embedded, so that an embedding whose fields of
        view overlap (a convolutional stem) sees nothing of them either.
        """
        rows, columns = self.encoder.patch_embed.grid_size
        mask = hidden.view(-1, 1, rows, columns)
        for side, dim in zip(self.patch_size, (2, 3), strict=True):
            mask = mask.repeat_interleave(side, dim=dim)
        self.chooser.kept = kept
        tokens: Tensor = self.encoder.forward_features(images.masked_fill(mask, 0.0))
        return tokens

    def fill_in(
        self, tokens: Float[Tensor, "batch token dim"], *, kept: Int[Tensor, "batch visible"]
    ) -> Float[Tensor, "batch patch pixel"]:
        """Return the decoder's pixels of every patch."""
        prefix = self.encoder.num_prefix_tokens
        embedded: Tensor = self.embed(tokens)
        batch, _, width = embedded.shape
        everywhere = self.mask_token.to(embedded.dtype).expand(batch, len(self.places), width)
        index = kept[:, :, None].expand(-1, -1, width)
        everywhere = everywhere.scatter(1, index, embedded[:, prefix:]) + self.places
        decoded: Tensor = self.blocks(torch.cat([embedded[:, :prefix], everywhere], dim=1))
        filled: Tensor = self.predict(decoded[:, prefix:])
        return filled


def to_patches(
    images: Float[Tensor, "batch channel height width"], patch_size: tuple[int, int]
) -> Float[Tensor, "batch patch pixel"]:
    """Cut pictures into their patches, row by row; a patch's pixels lie side by side."""
    rows, columns = patch_size
    folded = nn.functional.unfold(images, kernel_size=(rows, columns), stride=(rows, columns))
    return folded.transpose(1, 2)


class _KeepVisible(nn.Module):
    """Stands in the encoder where timm drops patches, and keeps the chosen ones.

    Attributes:
        kept: Places of the patches to keep, [batch visible].
    """

    kept: Tensor

    def __init__(self, num_prefix_tokens: int) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, tokens: Float[Tensor, "batch token dim"]) -> Tensor:
        """Keep the prefix tokens and the chosen patches."""
        prefix = tokens[:, : self.num_prefix_tokens]
        patches = tokens[:, self.num_prefix_tokens :]
        index = self.kept[:, :, None].expand(-1, -1, tokens.shape[2])
        return torch.cat([prefix, patches.gather(1, index)], dim=1)


@contextmanager
def _around(model: nn.Module, *, mask_ratio: float) -> Iterator[MaskedAutoencoder]:
    """Lend a transformer to an autoencoder; it comes back as it was but for its weights."""
    encoder = _plain(model)
    autoencoder = MaskedAutoencoder(encoder, mask_ratio=mask_ratio)
    parts = [part for part in (encoder.head, encoder.fc_norm, encoder.attn_pool) if part]
    resting = [one for part in parts for one in part.parameters() if one.requires_grad]
    before: nn.Module = encoder.patch_drop
    for parameter in resting:
        parameter.requires_grad = False
    encoder.add_module("patch_drop", autoencoder.chooser)
    try:
        yield autoencoder
    finally:
        encoder.add_module("patch_drop", before)
        for parameter in resting:
            parameter.requires_grad = True


def _plain(model: nn.Module) -> VisionTransformer:
    """Check that a model is a Vision Transformer whose tokens are its patches, in order.

    Raises:
        InputError: If it is not.
    """
    if not isinstance(model, VisionTransformer) or model.dynamic_img_size:
        raise InputError(
            "--pretrain mae",
            f"a {type(model).__name__}",
            "hidden patches can be left out of timm's VisionTransformer alone",
            "choose --model vit or a vit_… of timm's, or leave --pretrain out",
        )
    return model


def _channels(encoder: VisionTransformer) -> int:
    """Count the channels that a transformer takes."""
    first = next(part for part in encoder.patch_embed.modules() if isinstance(part, nn.Conv2d))
    return first.in_channels


class _Reconstruction(Objective):
    """The autoencoder tells its own loss."""

    def prepare(
        self, images: Float[Tensor, "batch channel height width"], labels: Tensor, *, number: int
    ) -> tuple[Float[Tensor, "batch channel height width"], Tensor]:
        """Return the pictures; the labels' place is not used."""
        del number
        return images, labels

    def losses(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, " batch"]:
        """Return each picture's error."""
        del targets
        return outputs


class _Pretraining(Loop):
    """The pretraining of an autoencoder."""

    stage = "pretrain"

    def __init__(
        self,
        autoencoder: MaskedAutoencoder,
        pictures: Dataset[Any],
        *,
        settings: FitSettings,
        folder: Path,
    ) -> None:
        self.autoencoder = autoencoder
        settings = replace(settings, unfreezing=0.0)
        super().__init__(
            pictures,
            settings,
            folder=folder,
            fingerprint=fingerprint(autoencoder, [pictures], settings=settings),
        )

    def make_stepper(self, steps: int) -> Stepper:
        """Return what takes a step of the training, which has so many."""
        return Stepper(
            self.autoencoder,
            self.settings,
            steps=steps,
            objective=_Reconstruction(),
            accelerator=self.accelerator,
        )

    def finished(self) -> bool:
        """Tell whether all epochs are done."""
        return self.epochs_done >= self.epochs

    def close_epoch(self) -> None:
        """Save, and write the log."""
        row = self.close({})
        _log.info("pretrain: epoch %d, error %.4f", row["epoch"], row["train_loss"] or float("nan"))
        self.save()
        self.write_log()

    def end(self) -> None:
        """Leave the encoder with the weights to go on with."""
        if self.stepper.average is not None:
            self.autoencoder.load_state_dict(self.stepper.average.state_dict())
