"""What the second stage is shown: a picture's channels and a map channel, pixel on pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from vitrail.data.augment import Augmentation, Draw, apply
from vitrail.data.loader import PictureDataset, normalize
from vitrail.guided.columns import with_planes

Item = tuple[Float[Tensor, "channel height width"], int, int]


@dataclass(frozen=True, slots=True)
class MapScale:
    """How raw map values become the map channel: fixed on training cases, then applied to all.

    Attributes:
        low: 0.5th percentile of the training maps; it becomes 0.
        high: Their 99.5th percentile; it becomes 1.
        mean: Of the training maps, then.
        std: Their standard deviation, then; 1 where all values are alike.
    """

    low: float
    high: float
    mean: float
    std: float

    @classmethod
    def learn(cls, maps: Float[np.ndarray, "case window row column"] | None) -> "MapScale":
        """Measure the maps of the training cases; without maps nothing is scaled."""
        if maps is None:
            return cls(0.0, 1.0, 0.0, 1.0)
        low, high = (float(value) for value in np.percentile(maps, [0.5, 99.5]))
        unit = cls(low, high, 0.0, 1.0).to_unit(torch.from_numpy(maps))
        std = float(unit.std(correction=0))
        return cls(low, high, float(unit.mean()), std if std > 1e-6 else 1.0)

    def to_unit(self, values: Float[Tensor, "*place"]) -> Float[Tensor, "*place"]:
        """Bring raw values to [0, 1]; all to 0 where the training maps held one value."""
        if self.high <= self.low:
            return torch.zeros_like(values)
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1)

    def normalize(self, unit: Float[Tensor, "*place"]) -> Float[Tensor, "*place"]:
        """Center and scale values in [0, 1] as the training maps ask for."""
        return (unit - self.mean) / self.std


class GuidedDataset(Dataset[Item]):
    """Pictures with their maps as a further channel, and columns of the cases behind them.

    A map lies on the patch grid of stage one and is stretched to its picture's pixels, linearly
    between the patches' centers. In training one of the windows is drawn for each case and epoch,
    and what moves the picture moves the map: tile by tile, so that slices stay slices.

    Args:
        windows: The same cases through each of their windows.
        maps: Raw, one a case and window; None shows the picture alone.
        scale: From the maps of the training cases.
        numbers: What is joined to the last layer, see `vitrail.guided.columns`.
        augment: What to draw for each case and epoch; None shows ``window`` as it is.
        window: Which window is shown without augmentation.
        seed: Of the augmentation.
    """

    def __init__(
        self,
        windows: Sequence[PictureDataset],
        maps: Float[np.ndarray, "case window row column"] | None,
        *,
        scale: MapScale,
        numbers: Float[np.ndarray, "case number"] | None = None,
        augment: Augmentation | None = None,
        window: int = 0,
        seed: int = 0,
    ) -> None:
        self.windows, self.maps, self.scale = tuple(windows), maps, scale
        self.numbers = numbers
        self.cases, self.labels = windows[0].cases, windows[0].labels
        self.preprocessing = windows[0].preprocessing
        view = self.preprocessing.volume
        self.tiles = view.grid if view is not None and view.mode == "montage" else 1
        self.augment, self.window, self.seed = augment, window, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, from 0."""
        self._epoch = epoch

    def through(self, window: int) -> "GuidedDataset":
        """Return the same cases through one of their windows, without augmentation."""
        return GuidedDataset(
            self.windows, self.maps, scale=self.scale, numbers=self.numbers, window=window
        )

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.cases)

    def __getitem__(self, index: int) -> Item:
        """Return (normalized picture and map, label, index) of one case."""
        if self.augment is None:
            picture, guide = self._pair(index, self.window)
        else:
            name = self.cases[index].case_id.encode()
            identity = int.from_bytes(sha256(name).digest()[:8])
            generator = np.random.default_rng([self.seed, self._epoch, identity])
            draw = self.augment.draw(generator)
            picture, guide = self._pair(index, int(generator.integers(len(self.windows))))
            picture, guide = self._moved(picture, guide, draw)
        shown = normalize(picture, self.preprocessing)
        if self.maps is not None:
            shown = torch.cat([shown, self.scale.normalize(guide)])
        if self.numbers is not None:
            shown = with_planes(shown, self.numbers[index])
        return shown, int(self.labels[index]), index

    def _pair(
        self, index: int, window: int
    ) -> tuple[Float[Tensor, "channel height width"], Float[Tensor, "1 height width"]]:
        """Return picture and map of one window, both in [0, 1], on the same pixels."""
        picture = torch.from_numpy(self.windows[window].pixels(index)) / 255
        if self.maps is None:
            return picture, torch.zeros_like(picture[:1])
        raw = torch.from_numpy(self.maps[index, window])[None, None]
        size = [picture.shape[1], picture.shape[2]]
        guide = interpolate(raw, size=size, mode="bilinear", align_corners=False)[0]
        return picture, self.scale.to_unit(guide)

    def _moved(
        self,
        picture: Float[Tensor, "channel height width"],
        guide: Float[Tensor, "1 height width"],
        draw: Draw,
    ) -> tuple[Float[Tensor, "channel height width"], Float[Tensor, "1 height width"]]:
        """Change both alike in place, and the picture alone in brightness and contrast."""
        still = replace(draw, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0)
        both = torch.cat([picture, guide])
        channels, height, width = both.shape
        count = self.tiles if height % self.tiles == 0 and width % self.tiles == 0 else 1
        split = (channels, count, height // count, count, width // count)
        tiles = both.reshape(split).transpose(2, 3).reshape(-1, height // count, width // count)
        moved = apply(tiles, still).reshape(channels, count, count, height // count, -1)
        both = moved.transpose(2, 3).reshape(channels, height, width)
        colored = replace(
            draw, mirror=False, quarter_turns=0, angle_deg=0.0, shift=(0.0, 0.0), scale=1.0
        )
        return apply(both[:-1], colored), both[-1:]
