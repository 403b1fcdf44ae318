"""Cases become batches: decoded and resized once, kept as bytes, augmented and normalized.

::

    file ─ read_raster ─ resize ─► uint8, cached ─► [0, 1] ─ augment ─ normalize ─► model
           └──────── to_input: the same way for one new picture ──────────────┘

The cache is in memory while it is small, and on disk where a folder is given (`data.cache`), so
that other datasets of the same pictures, in this process or another, decode nothing again.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vitrail.data.augment import Augmentation, apply
from vitrail.data.cache import Cache, cache_key
from vitrail.data.raster import read_raster
from vitrail.errors import InputError
from vitrail.records import Case, Preprocessing

MEMORY_BYTES = 512 << 20
"""Pictures of a dataset are kept in memory if all of them fit into this."""

Item = tuple[Float[Tensor, "channel height width"], int | UInt8[np.ndarray, " class"], int]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(
    picture: Float[np.ndarray, "channel height width"], preprocessing: Preprocessing
) -> UInt8[np.ndarray, "channel row column"]:
    """Bring a picture to the model's size, as the preprocessing's ``fit`` says.

    Args:
        picture: Values in [0, 1] with ``preprocessing.channels`` channels.
        preprocessing: The size, the fit and the filter.

    Returns:
        Values 0 to 255; the picture lies in ``preprocessing.source_box``.
    """
    if len(picture) != preprocessing.channels:
        raise InputError(
            "picture",
            f"{len(picture)} channels",
            f"the preprocessing says {preprocessing.channels}",
            "read it with read_raster(path, channels=preprocessing.channels)",
        )
    rows, columns = preprocessing.image_size
    top, left, bottom, right = preprocessing.source_box(picture.shape[1], picture.shape[2])
    resized = np.full((len(picture), rows, columns), preprocessing.fill, dtype=np.float32)
    for channel, values in zip(resized, picture, strict=True):
        source = Image.fromarray(values.astype(np.float32))
        inner = source.resize((right - left, bottom - top), _FILTERS[preprocessing.interpolation])
        channel[top:bottom, left:right] = np.asarray(inner)
    pixels: UInt8[np.ndarray, "channel row column"] = np.rint(resized.clip(0, 1) * 255).astype(
        np.uint8
    )
    return pixels


def normalize(
    image: Float[Tensor, "channel row column"], preprocessing: Preprocessing
) -> Float[Tensor, "channel row column"]:
    """Subtract the mean and divide by the standard deviation of each channel."""
    mean = torch.tensor(preprocessing.mean).view(-1, 1, 1)
    std = torch.tensor(preprocessing.std).view(-1, 1, 1)
    return (image - mean) / std


def to_input(
    picture: Float[np.ndarray, "channel height width"], preprocessing: Preprocessing
) -> Float[Tensor, "channel row column"]:
    """Turn one picture into a model's input, exactly as `PictureDataset` does without augmentation.

    Args:
        picture: Values in [0, 1], from `read_raster`.
        preprocessing: The model's.

    Returns:
        The normalized input.
    """
    return normalize(torch.from_numpy(resize(picture, preprocessing)) / 255, preprocessing)


class PictureDataset(Dataset[Item]):
    """The pictures of some cases, ready for a model.

    Args:
        cases: The cases, in the order of their indices.
        root: Folder that their paths are relative to.
        preprocessing: How a picture becomes an input.
        classes: Class names; a label is its place among them, or, where a case can have several,
            a row of zeros and ones.
        augment: What to draw for each picture and epoch; None leaves the pictures as they are.
        seed: Of the augmentation.
        cache_dir: Folder of the cache on disk; None keeps none.
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
        self.cases = tuple(cases)
        self.root = root
        self.preprocessing = preprocessing
        self.classes = tuple(classes)
        self.multi_label = any("|" in case.label for case in self.cases)
        self.labels = tuple(self._label(case) for case in self.cases)
        self.augment = None if augment is None or augment.name == "none" else augment
        self.seed = seed
        self._cache = None if cache_dir is None else Cache(cache_dir)
        self._keys: dict[int, tuple[tuple[int, int], str]] = {}
        # Shared memory, so that workers which outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        rows, columns = preprocessing.image_size
        in_memory = len(self.cases) * preprocessing.channels * rows * columns <= MEMORY_BYTES
        self._memory: dict[int, UInt8[np.ndarray, "channel row column"]] | None = (
            {} if in_memory else None
        )

    def _label(self, case: Case) -> int | UInt8[np.ndarray, " class"]:
        """Return the place of a case's label, or which labels it has."""
        places = [self.classes.index(name) for name in case.labels]
        if not self.multi_label:
            return places[0]
        row = np.zeros(len(self.classes), dtype=np.uint8)
        row[places] = 1
        return row

    @property
    def epoch(self) -> int:
        """Number of the epoch that augmentation and order are drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, from 0; also heard by workers that are already running."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.cases)

    def __getitem__(self, index: int) -> Item:
        """Return (normalized image, label, index) of one case.

        Raises:
            UnreadableFileError: If its file cannot be decoded.
        """
        image = torch.from_numpy(self.pixels(index)) / 255
        if self.augment is not None:
            identity = int.from_bytes(sha256(self.cases[index].case_id.encode()).digest()[:8])
            generator = np.random.default_rng([self.seed, self.epoch, identity])
            draw = self.augment.draw(generator)
            image = apply(image, draw, fill=self.preprocessing.fill)
        return normalize(image, self.preprocessing), self.labels[index], index

    def pixels(self, index: int) -> UInt8[np.ndarray, "channel row column"]:
        """Return one case decoded and resized, from the cache where it is there."""
        if self._memory is not None and index in self._memory:
            return self._memory[index]
        path = self.root / self.cases[index].path
        pixels = self._decoded(path) if self._cache is None else self._cached(index, path)
        if self._memory is not None:
            self._memory[index] = pixels
        return pixels

    def _decoded(self, path: Path) -> UInt8[np.ndarray, "channel row column"]:
        picture = read_raster(
            path,
            channels=self.preprocessing.channels,
            intensity_range=self.preprocessing.intensity_range,
        )
        return resize(picture, self.preprocessing)

    def _cached(self, index: int, path: Path) -> UInt8[np.ndarray, "channel row column"]:
        """Read the picture from the disk cache, filling it first where it lacks it."""
        shape = (self.preprocessing.channels, *self.preprocessing.image_size)
        key = self._key(index, path)
        if self._cache is None or key is None:
            return self._decoded(path)
        kept = self._cache.get(key)
        if kept is not None and len(kept) == prod(shape):
            return np.frombuffer(kept, dtype=np.uint8).reshape(shape)
        pixels = self._decoded(path)
        self._cache.put(key, pixels.tobytes())
        return pixels

    def _key(self, index: int, path: Path) -> str | None:
        """Name a picture in the cache; its file is read once, and again when it has changed."""
        try:
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if self._keys.get(index, (None, ""))[0] != state:
                self._keys[index] = state, cache_key(path.read_bytes(), self.preprocessing)
        except OSError:  # the decoder names what is wrong with it
            return None
        return self._keys[index][1]


class EpochSampler(Sampler[int]):
    """The order of an epoch, drawn from the seed and the epoch's number alone.

    A training that is resumed at an epoch sees the order that it would have seen.
    """

    def __init__(self, dataset: PictureDataset, *, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        """Iterate over every index once."""
        generator = np.random.default_rng([self.seed, self.dataset.epoch])
        yield from generator.permutation(len(self.dataset)).tolist()


def loader(
    dataset: PictureDataset,
    *,
    batch_size: int,
    shuffle: bool,
    num_workers: int = 0,
    seed: int = 0,
) -> DataLoader[Item]:
    """Make batches of (images, labels, indices).

    Args:
        dataset: The pictures; call its ``set_epoch`` before each epoch.
        batch_size: Pictures a batch; the last batch may be smaller.
        shuffle: Whether the order is drawn anew for each epoch; else it is the dataset's.
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        seed: Of the order.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, seed=seed) if shuffle else None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )
