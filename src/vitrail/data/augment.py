"""Augmentation: what is drawn for a picture apart from how it is applied.

An `Augmentation` holds ranges; `Augmentation.draw` draws from a generator that the caller seeds;
`apply` changes the pixels by torchvision's functions. So a case looks the same in an epoch
whatever the workers, the batch or the order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from vitrail.errors import InputError

Kind = Literal["ct", "histology", "xray", "photo", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What one picture gets.

    Attributes:
        mirror: Whether left and right are exchanged.
        quarter_turns: Turns by 90 degrees, counter-clockwise.
        angle_deg: Rotation, counter-clockwise.
        shift: Translation (rows, columns) as a fraction of the picture.
        scale: Enlargement about the center.
        brightness: Factor of every value.
        contrast: Factor of the distance from the mean.
        saturation: Factor of the distance from grey; color only.
        hue: Turn of the color circle, a fraction of it; color only.
    """

    mirror: bool
    quarter_turns: int
    angle_deg: float
    shift: tuple[float, float]
    scale: float
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """The ranges that `draw` draws from, each uniform and symmetric about "unchanged".

    Attributes:
        name: The preset's name.
        reason: Why these ranges suit this kind of picture, for ``plan.yaml`` and the report.
        mirror: Whether left and right may be exchanged (half of the time).
        quarter_turns: Whether turns by 90 degrees are drawn.
        rotation_deg: Largest rotation.
        shift: Largest translation, a fraction of the picture.
        scale: Largest enlargement or shrinking, as a fraction.
        brightness: Largest change of brightness, as a fraction.
        contrast: Largest change of contrast, as a fraction.
        saturation: Largest change of saturation, as a fraction.
        hue: Largest turn of the color circle.
    """

    name: Kind
    reason: str
    mirror: bool = False
    quarter_turns: bool = False
    rotation_deg: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def draw(self, generator: np.random.Generator) -> Draw:
        """Draw for one picture; the generator moves on by the same amount for every preset."""
        unit = generator.uniform(-1.0, 1.0, size=10).tolist()
        return Draw(
            mirror=self.mirror and bool(unit[0] > 0),
            quarter_turns=int(2 * (unit[1] + 1)) % 4 if self.quarter_turns else 0,
            angle_deg=self.rotation_deg * unit[2],
            shift=(self.shift * unit[3], self.shift * unit[4]),
            scale=1 + self.scale * unit[5],
            brightness=1 + self.brightness * unit[6],
            contrast=1 + self.contrast * unit[7],
            saturation=1 + self.saturation * unit[8],
            hue=self.hue * unit[9],
        )


_PRESETS: dict[str, Augmentation] = {
    preset.name: preset
    for preset in (
        Augmentation(
            name="ct",
            reason="slices are stored in both left-right conventions, and patients lie a little "
            "turned and off center; windows differ slightly",
            mirror=True,
            rotation_deg=10.0,
            shift=0.06,
            scale=0.1,
            brightness=0.1,
            contrast=0.1,
        ),
        Augmentation(
            name="histology",
            reason="tissue has no up and no left; stains differ between laboratories",
            mirror=True,
            quarter_turns=True,
            scale=0.1,
            brightness=0.15,
            contrast=0.15,
            saturation=0.2,
            hue=0.03,
        ),
        Augmentation(
            name="xray",
            reason="left and right differ (the heart's side), so nothing is mirrored; exposure and "
            "position differ",
            rotation_deg=7.0,
            shift=0.05,
            scale=0.1,
            brightness=0.15,
            contrast=0.15,
        ),
        Augmentation(
            name="photo",
            reason="photographs are taken from either side, at different distances and in "
            "different light",
            mirror=True,
            rotation_deg=15.0,
            shift=0.1,
            scale=0.2,
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
            hue=0.02,
        ),
        Augmentation(name="none", reason="every epoch sees the pictures as they are"),
    )
}


KINDS = tuple(_PRESETS)
"""Names of all presets."""


def preset(kind: str) -> Augmentation:
    """Return the augmentation for a kind of picture.

    Args:
        kind: ``ct``, ``histology``, ``xray``, ``photo`` or ``none``.

    Raises:
        InputError: If there is no such preset.

    Example:
        >>> preset("xray").mirror
        False
    """
    if kind not in _PRESETS:
        raise InputError(
            "augmentation", repr(kind), f"it is one of {', '.join(_PRESETS)}", "choose one of them"
        )
    return _PRESETS[kind]


def apply(
    image: Float[Tensor, "channel height width"], draw: Draw, *, fill: float = 0.0
) -> Float[Tensor, "channel height width"]:
    """Change a picture as drawn.

    Args:
        image: Values in [0, 1], before normalization.
        draw: What to do.
        fill: Value of the corners that a rotation or translation uncovers.

    Returns:
        Values in [0, 1], of the same size.
    """
    if draw.mirror:
        image = functional.horizontal_flip(image)
    if draw.quarter_turns and (image.shape[1] == image.shape[2] or draw.quarter_turns == 2):
        image = torch.rot90(image, draw.quarter_turns, dims=(1, 2))
    if draw.angle_deg or draw.scale != 1 or draw.shift != (0.0, 0.0):
        rows, columns = image.shape[1:]
        image = functional.affine(
            image,
            angle=-draw.angle_deg,
            translate=[draw.shift[1] * columns, draw.shift[0] * rows],
            scale=draw.scale,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
            fill=[fill],
        )
    if draw.brightness != 1:
        image = functional.adjust_brightness(image, draw.brightness)
    if draw.contrast != 1:
        image = functional.adjust_contrast(image, draw.contrast)
    if len(image) == 3 and (draw.saturation != 1 or draw.hue):
        image = functional.adjust_hue(
            functional.adjust_saturation(image, draw.saturation), draw.hue
        )
    return image.clamp(0, 1)
