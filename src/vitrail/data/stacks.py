"""Cases that are volumes become a model's input, through their stacks of tiles.

A stack is small, so that a whole cohort of them fits into memory and into a cache on disk, and an
epoch opens no scan. In training each epoch draws another window of slices; elsewhere a dataset
shows one of the view's evaluation windows, the middle one first.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from vitrail.data.augment import Augmentation, Draw, apply
from vitrail.data.loader import MEMORY_BYTES, Item, PictureDataset, normalize, resize
from vitrail.data.montage import Stack, compose
from vitrail.data.scan import scan_stamp
from vitrail.data.survey import read_stack
from vitrail.records import Case, Preprocessing, VolumeView


class VolumeDataset(PictureDataset):
    """The volumes of some cases, ready for a model, as `PictureDataset` is for pictures.

    Args:
        cases: The cases, in the order of their indices; paths are scans.
        root: Folder that their paths are relative to.
        preprocessing: With a ``volume``.
        classes: Class names; a label is its place among them.
        augment: What to draw for each case and epoch, the window of slices too; None shows an
            evaluation window, unchanged.
        seed: Of the augmentation.
        cache_dir: Folder of the stacks on disk; None keeps none.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        root: Path,
        *,
        preprocessing: Preprocessing,
        classes: Sequence[str],
        augment: Augmentation | None = None,
        seed: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__(
            cases,
            root,
            preprocessing=preprocessing,
            classes=classes,
            augment=augment,
            seed=seed,
            cache_dir=cache_dir,
        )
        self.view = preprocessing.volume or VolumeView()
        self.cache_dir = cache_dir
        self.draws_windows = augment is not None
        self.vote = 0
        self._stacks: dict[int, Stack] = {}
        self._bytes = 0

    def votes(self) -> list["VolumeDataset"]:
        """Return the dataset once for each evaluation window, sharing what was read."""
        turned: list[VolumeDataset] = []
        for vote in range(self.view.votes):
            other = VolumeDataset(
                self.cases,
                self.root,
                preprocessing=self.preprocessing,
                classes=self.classes,
                cache_dir=self.cache_dir,
            )
            other.vote, other._stacks = vote, self._stacks
            turned.append(other)
        return turned

    def stack(self, index: int) -> Stack:
        """Return the tiles of one case, read once."""
        if index in self._stacks:
            return self._stacks[index]
        stack = self._read(self.cases[index])
        if self._bytes < MEMORY_BYTES:
            self._stacks[index] = stack
            self._bytes += stack.tiles.nbytes
        return stack

    def start(self, index: int) -> int:
        """Return the first slice of the window that a case shows now."""
        if not self.draws_windows:
            return self.stack(index).evaluation_starts()[self.vote]
        low, high = self.stack(index).starts()
        return int(self._generator(index, "window").integers(low, high + 1))

    def pixels(self, index: int) -> UInt8[np.ndarray, "channel row column"]:
        """Return one case's middle window, as the model is shown it."""
        stack = self.stack(index)
        return self._resized(stack.picture(stack.evaluation_starts()[self.vote]))

    def mask(self, index: int) -> Bool[np.ndarray, "row column"]:
        """Return where one case's mask lies in the model's input; nowhere if it has none."""
        stack = self.stack(index)
        inside = stack.mask_picture(stack.evaluation_starts()[self.vote])
        if inside is None:
            return np.zeros(self.preprocessing.image_size, dtype=bool)
        shown: Bool[np.ndarray, "row column"] = (
            self._resized(inside[None].astype(np.uint8) * 255)[0] > 127
        )
        return shown

    def __getitem__(self, index: int) -> Item:
        """Return (normalized image, label, index) of one case.

        Turns, shifts and mirrors are the same for each tile, and stay within it; brightness and
        contrast are those of the picture.

        Raises:
            UnreadableFileError: If its scan cannot be decoded.
        """
        stack, start = self.stack(index), self.start(index)
        tiles = torch.from_numpy(stack.tiles[stack.shown(start)]) / 255
        if self.augment is None:
            picture = self._resized(compose(stack.tiles[stack.shown(start)], self.view))
            image = torch.from_numpy(picture) / 255
            return normalize(image, self.preprocessing), self.labels[index], index
        draw = self.augment.draw(self._generator(index))
        tiles = torch.from_numpy(stack.tiles[stack.shown(start)]) / 255
        moved = apply(tiles, _moving(draw), fill=self.preprocessing.fill)
        picture = np.rint(compose(moved.numpy(), self.view) * 255).astype(np.uint8)
        image = torch.from_numpy(self._resized(picture)) / 255
        shown = apply(image, _coloring(draw))
        return normalize(shown, self.preprocessing), self.labels[index], index

    def _generator(self, index: int, purpose: str = "") -> np.random.Generator:
        """Seed a generator by the seed, the epoch, the case and what it is for."""
        name = self.cases[index].case_id + purpose
        identity = int.from_bytes(sha256(name.encode()).digest()[:8])
        return np.random.default_rng([self.seed, self.epoch, identity])

    def _resized(
        self, picture: UInt8[np.ndarray, "channel height width"]
    ) -> UInt8[np.ndarray, "input_channel row column"]:
        """Bring a picture to the model's size and channels."""
        if len(picture) != self.preprocessing.channels:
            picture = np.repeat(picture[:1], self.preprocessing.channels, axis=0)
        if picture.shape[1:] == self.preprocessing.image_size:
            return picture
        return resize(picture.astype(np.float32) / 255, self.preprocessing)

    def _read(self, case: Case) -> Stack:
        """Read the stack from the disk cache, filling it first where it lacks it."""
        if self._cache is None:
            return read_stack(case, self.root, view=self.view)
        key = stack_key(case, self.root, view=self.view)
        try:
            return _unpack(self._cache.get(key) or b"", self.view)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile):
            stack = read_stack(case, self.root, view=self.view)
            self._cache.put(key, _pack(stack))
            return stack


def _moving(draw: Draw) -> Draw:
    """Keep what moves pixels."""
    return replace(draw, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0)


def _coloring(draw: Draw) -> Draw:
    """Keep what changes their values."""
    return replace(draw, mirror=False, quarter_turns=0, angle_deg=0.0, shift=(0.0, 0.0), scale=1.0)


def dataset_of(preprocessing: Preprocessing) -> type[PictureDataset]:
    """Return what makes datasets of the cases that a preprocessing is for: pictures or volumes."""
    return PictureDataset if preprocessing.volume is None else VolumeDataset


def stack_key(case: Case, root: Path, *, view: VolumeView) -> str:
    """Name a stack by the state of its files and by what is done to them."""
    stamps = [scan_stamp(root / path) for path in (case.path, case.mask) if path]
    return sha256(repr((stamps, sorted(asdict(view).items()))).encode()).hexdigest()


def _pack(stack: Stack) -> bytes:
    """Write a stack as bytes."""
    content = BytesIO()
    arrays: dict[str, Any] = {} if stack.mask is None else {"mask": stack.mask}
    np.savez(
        content,
        tiles=stack.tiles,
        span=np.array(stack.span),
        affine=stack.affine,
        grid_shape=np.array(stack.grid_shape),
        grid_affine=stack.grid_affine,
        **arrays,
    )
    return content.getvalue()


def _unpack(kept: bytes | bytearray, view: VolumeView) -> Stack:
    """Read a stack back."""
    with np.load(BytesIO(kept)) as content:
        first, last = content["span"].tolist()
        slices, rows, columns = content["grid_shape"].tolist()
        return Stack(
            tiles=content["tiles"],
            mask=content.get("mask"),
            span=(first, last),
            affine=content["affine"],
            view=view,
            grid_shape=(slices, rows, columns),
            grid_affine=content["grid_affine"],
        )
