"""What an explanation is: raw values, and everything needed to read them honestly."""

import io
import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's own name for it)
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vitrail.color import colorize
from vitrail.errors import DataError, InputError

_TENSORS = ("values", "prefix", "pixels", "classes", "residual")
_FACTS = ("method", "target", "parameters", "signed", "class_specific")


class Overlay(NamedTuple):
    """A map drawn over its image.

    Attributes:
        picture: Red, green, blue.
        normalization: How values became colors, for the caption.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    normalization: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """Maps of one batch, by one method, for one question. Values are raw, never normalized.

    Attributes:
        values: A score a patch; a leading class axis for ``target="all"``.
        method: The method's name.
        target: What was asked, in words: ``predicted``, ``all``, ``class 3``, …
        parameters: Every parameter of the method, given or default.
        image_size: Rows and columns of the explained images in pixels.
        signed: Whether negative values mean evidence against the target.
        class_specific: Whether the map depends on the target; if not, it shows where the model
            looks, not why it decides.
        classes: The class that each map explains (minus ``versus``), where classes were asked for.
        prefix: Scores of the prefix tokens, where the method scores tokens.
        pixels: Scores of single pixels, where the method has them.
        residual: Completeness residual: the explained number (minus its baseline's) minus the sum
            of all scores, where the method promises that they add up.
    """

    values: Float[Tensor, "*target batch row column"]
    method: str
    target: str
    parameters: Mapping[str, object]
    image_size: tuple[int, int]
    signed: bool
    class_specific: bool
    classes: Int[Tensor, "*target batch"] | None = None
    prefix: Float[Tensor, "*target batch prefix"] | None = None
    pixels: Float[Tensor, "*target batch channel height width"] | None = None
    residual: Float[Tensor, "*target batch"] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of ``values``."""
        return self.values.shape[-2], self.values.shape[-1]

    @property
    def prefix_share(self) -> Float[Tensor, "*target batch"] | None:
        """Share of the absolute scores that fell on prefix tokens, in [0, 1]; 0 where all are 0."""
        if self.prefix is None:
            return None
        outside = self.prefix.abs().sum(dim=-1)
        total = outside + self.values.abs().sum(dim=(-2, -1))
        return torch.where(total > 0, outside / total, torch.zeros_like(total))

    def __len__(self) -> int:
        """Count the images."""
        return self.values.shape[-3]

    def __getitem__(self, index: int) -> "Attribution":
        """Return the maps of one image, as a batch of one."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        behind = {"values": 2, "prefix": 1, "pixels": 3, "classes": 0, "residual": 0}
        parts: dict[str, Any] = {}
        for name, axes in behind.items():
            tensor = getattr(self, name)
            if tensor is not None:
                parts[name] = tensor.narrow(tensor.ndim - axes - 1, index, 1)
        return replace(self, **parts)

    def to_pixels(
        self,
        size: tuple[int, int] | None = None,
        mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    ) -> Float[Tensor, "*target batch height width"]:
        """Stretch the patch map over the image; values stay raw.

        Args:
            size: (rows, columns) in pixels; None is the explained images' own size.
            mode: ``nearest`` shows the patches as they are, the others smooth between their
                centers.
        """
        size = size or self.image_size
        flat = self.values.reshape(-1, 1, *self.grid_size).float()
        align = None if mode == "nearest" else False
        stretched = F.interpolate(flat, size=size, mode=mode, align_corners=align)
        return stretched.reshape(*self.values.shape[:-2], *size)

    def overlay(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        *,
        opacity: float = 0.5,
        scale: float | None = None,
        mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    ) -> Overlay:
        """Draw the one map of a single image over that image.

        Args:
            image: The picture that was explained, 8 bits a channel.
            opacity: Share of the map's color, in [0, 1].
            scale: Value that gets the strongest color; None is this map's own largest absolute
                value. Give one number to maps that are to be compared.
            mode: See :meth:`to_pixels`.

        Raises:
            InputError: If this holds more than one map: take ``attribution[i]`` first.
        """
        if self.values.numel() != self.grid_size[0] * self.grid_size[1]:
            raise InputError(
                "overlay",
                f"values of shape {tuple(self.values.shape)}",
                "one map is drawn over one image",
                "take attribution[i] of a single target",
            )
        values = self.to_pixels(image.shape[:2], mode).detach().cpu().reshape(image.shape[:2])
        top = float(self.values.abs().max()) if scale is None else scale
        fractions = values.numpy() / top if top > 0 else np.zeros(image.shape[:2])
        if self.signed:
            colors = colorize(fractions / 2 + 0.5, "diverging")
            words = f"-{top:.3g} to {top:.3g}, zero in the middle"
        else:
            colors = colorize(fractions, "sequential")
            words = f"0 to {top:.3g}"
        whose = "the map's own largest value" if scale is None else "a given scale"
        mixed = (1 - opacity) * image.astype(np.float64) + opacity * colors
        return Overlay(np.rint(mixed).astype(np.uint8), f"colors span {words} ({whose})")

    def save(self, path: Path | str) -> None:
        """Write the arrays as ``.npz`` and the facts as ``.json`` beside it, each atomically.

        A single map is stored as ``values`` [row, column]; a batch keeps its axes.

        Args:
            path: Ends in ``.npz``.
        """
        path, single = Path(path), self.values.ndim == 3 and len(self) == 1
        arrays: dict[str, np.ndarray] = {
            "grid_size": np.asarray(self.grid_size),
            "image_size": np.asarray(self.image_size),
        }
        for name in _TENSORS:
            tensor = getattr(self, name)
            if tensor is not None:
                array = tensor.detach().cpu()
                array = array.float() if array.is_floating_point() else array
                arrays[name] = (array[0] if single else array).numpy()
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        facts = {name: getattr(self, name) for name in _FACTS}
        share = self.prefix_share
        checks = {
            "residual": None if self.residual is None else self.residual.tolist(),
            "prefix_share": None if share is None else share.tolist(),
            "classes": None if self.classes is None else self.classes.tolist(),
            "single": single,
        }
        text = json.dumps({**facts, **checks, "extra": dict(self.extra)}, indent=1, allow_nan=False)
        _write_whole(path, content.getvalue())
        _write_whole(path.with_suffix(".json"), f"{text}\n".encode())

    @classmethod
    def load(cls, path: Path | str) -> "Attribution":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: If the files are missing or not an attribution.
        """
        path = Path(path)
        try:
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                tensors: dict[str, Any] = {
                    name: torch.from_numpy(arrays[name][None] if facts["single"] else arrays[name])
                    for name in _TENSORS
                    if name in arrays
                }
                size = tuple(int(side) for side in arrays["image_size"])
            known = {name: facts[name] for name in _FACTS}
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(
                str(path),
                f"it cannot be read ({error})",
                "an attribution is a .npz with a .json beside it",
                "write it again with Attribution.save",
            ) from error
        return cls(**tensors, **known, image_size=(size[0], size[1]), extra=facts["extra"])


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
