"""The rule that chooses how volumes are shown to a model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitrail.data.survey import first_view
from vitrail.records import VolumeView

_GRID = VolumeView().grid
VIEW_SIZES_PX = tuple((_GRID * tile, _GRID * tile) for tile in (64, 48, 32))
"""Inputs whose patches never straddle two tiles, the largest first."""


def choose_view(seen: Mapping[str, Any] | None, *, size: int) -> tuple[VolumeView | None, str]:
    """Show volumes as a montage: around the masks where all have one, else from end to end.

    Args:
        seen: What the audit says of the volumes; None where the cases are pictures.
        size: Rows of the model's input in pixels.

    Returns:
        The view, None for pictures; and why.
    """
    if seen is None:
        return None, "the cases are pictures"
    modalities = list(seen["modalities"])
    masked = seen["masks"] == seen["cases"]
    view = replace(
        first_view(
            modalities[0] if len(modalities) == 1 else "",
            masked=masked,
            slices=int(seen["slices"]["median"]),
        ),
        tile_px=max(1, size // _GRID),
    )
    around = (
        "consecutive slices in a square around the mask, which every case has"
        if masked
        else f"every {view.stride}. slice of the whole volume, for not every case has a mask"
    )
    why = "CT: the lung window" if view.window == "lung" else "no CT: each volume's own range"
    return view, f"{view.grid} x {view.grid} slices in one picture: {around}; {why}"
