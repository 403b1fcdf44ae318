"""Windows: the range of Hounsfield units that a picture shows, by the names that radiology uses."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vitrail.errors import InputError


@dataclass(frozen=True, slots=True)
class Window:
    """A range of values in HU: ``low_hu`` is shown black, ``high_hu`` white."""

    low_hu: float
    high_hu: float

    @property
    def window_center_hu(self) -> float:
        """Middle of the range."""
        return (self.low_hu + self.high_hu) / 2

    @property
    def window_width_hu(self) -> float:
        """Length of the range."""
        return self.high_hu - self.low_hu


WINDOWS = {
    "lung": Window(-1350.0, 150.0),
    "mediastinum": Window(-160.0, 240.0),
    "bone": Window(-450.0, 1050.0),
    "brain": Window(0.0, 80.0),
    "abdomen": Window(-150.0, 250.0),
    "parenchyma": Window(-1350.0, 150.0),
    "mediastinum_wide": Window(-115.0, 235.0),
}
"""Windows by name; ``auto`` is the range from the 0.5th to the 99.5th percentile of the values."""


def window(values: Float[np.ndarray, "*place"], name: str | Window) -> Float[np.ndarray, "*place"]:
    """Map values in HU to [0, 1] through a window; what lies outside is cut off.

    Args:
        values: In HU.
        name: A key of `WINDOWS`, ``auto``, or a window.

    Raises:
        InputError: If there is no such window, or it has no width.

    Example:
        >>> window(np.array([-2000.0, -600.0, 150.0]), "lung").tolist()
        [0.0, 0.5, 1.0]
    """
    chosen = find_window(values, name) if isinstance(name, str) else name
    if not chosen.window_width_hu > 0:
        raise InputError(
            "window", f"{chosen}", "high_hu must be above low_hu", "exchange or correct them"
        )
    shown: Float[np.ndarray, "*place"] = np.clip(
        (values - chosen.low_hu) / chosen.window_width_hu, 0, 1
    )
    return shown


def find_window(values: Float[np.ndarray, "*place"], name: str) -> Window:
    """Look a window up by its name; ``auto`` measures it.

    Args:
        values: In HU.
        name: A key of `WINDOWS` or ``auto``.

    Raises:
        InputError: If there is no such window.
    """
    if name == "auto":
        low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
        return Window(low, high if high > low else low + 1)
    if name not in WINDOWS:
        raise InputError(
            "window", repr(name), f"it is auto or one of {', '.join(WINDOWS)}", "choose one of them"
        )
    return WINDOWS[name]
