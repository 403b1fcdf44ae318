"""Figures of numbers for papers and slides: curves, counts, distances, and what was tuned."""

from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
from jaxtyping import Float, Int
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitrail.report.contents import Object
from vitrail.report.pictures import palette
from vitrail.report.plates import sheet
from vitrail.report.tuning import best_of, metric_of, ranks

Line = tuple[Sequence[int | float], Sequence[int | float]]
"""Places on both axes."""
_COLORS = ("#1f4e9c", "#c8641a", "#3b7a57", "#7a4b94")
_DASHES = ("-", "--", ":", "-.")
_QUIET = "#8b93a1"


def curves(panels: Mapping[str, Mapping[str, Sequence[Line]]]) -> Figure:
    """Draw lines by epoch, a panel a quantity.

    Args:
        panels: The lines of each name (a model) in each panel; a name has one color everywhere.
    """
    figure = sheet(3.6 * len(panels), 2.9)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for place, (quantity, named) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, lines in named.items():
            color, dash = _COLORS[names.index(name) % 4], _DASHES[names.index(name) % 4]
            for number, (x, y) in enumerate(lines):
                label = name if number == 0 else None
                style = {"color": color, "linestyle": dash, "linewidth": 1.3, "label": label}
                place.plot(x, y, marker="o" if len(x) == 1 else None, **style)
        place.set(xlabel="epoch", ylabel=quantity)
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
        place.grid(alpha=0.25)
        place.legend(frameon=False, fontsize=8)
    return figure


def confusion(counts: Int[np.ndarray, "class class"], *, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: truth downward, decision rightward, colored by share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.2, 0.55 * len(classes) + 1.6)
    figure = sheet(side + 0.6, side)
    place = figure.subplots()
    drawn = place.imshow(shares, cmap=ListedColormap(palette("sequential") / 255), vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ink = "white" if shares[row, column] < 0.6 else "black"
        place.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=ink)
    ticks = range(len(classes))
    place.set_xticks(ticks, classes, rotation=30, ha="right")
    place.set_yticks(ticks, classes)
    place.set(xlabel="decision", ylabel="truth")
    figure.colorbar(drawn, ax=place, shrink=0.8, label="share of the class")
    return figure


def distances(values: Float[np.ndarray, "layer head"], *, even: float, cases: int) -> Figure:
    """Draw how far each head looks, layer by layer.

    Args:
        values: Mean distance between a patch and what it attends to, in px of the input.
        even: The same for attention that is equal everywhere.
        cases: Pictures that it is the mean of.
    """
    layers, heads = values.shape
    figure = sheet(5.0, 3.2)
    place = figure.subplots()
    across = np.arange(1, layers + 1)
    for head in range(heads):
        place.plot(across, values[:, head], "o", color=_COLORS[0], alpha=0.55, markersize=4)
    place.plot(across, values.mean(axis=1), color=_COLORS[1], label="mean of the heads")
    place.axhline(even, color=_QUIET, linestyle=":", label="equal attention everywhere")
    place.set(
        xlabel="layer",
        ylabel="mean attention distance (px)",
        ylim=(0, 1.15 * max(even, values.max())),
    )
    place.xaxis.set_major_locator(MaxNLocator(integer=True))
    words = f"a dot a head; mean of {cases} picture{'s' * (cases > 1)}"
    place.legend(frameon=False, fontsize=8, title=words, title_fontsize=8, loc="lower right")
    return figure


def tuning_curves(study: Object) -> Figure:
    """Draw the curve of every trial, the chosen one on top."""
    figure = sheet(5.4, 3.4)
    place = figure.subplots()
    for trial in sorted(study["trials"], key=lambda one: one["number"] == study["chosen"]):
        if not trial["curve"]:
            continue
        x, y = zip(*trial["curve"], strict=True)
        if trial["number"] == study["chosen"]:
            label = ", ".join(f"{name} {value}" for name, value in trial["parameters"].items())
            place.plot(x, y, color=_COLORS[1], linewidth=2.2, label=f"chosen: {label}")
        else:
            place.plot(x, y, color=_COLORS[0], alpha=0.35, linewidth=0.9)
    place.set(xlabel="epoch", ylabel=f"{metric_of(study)}, validation")
    place.xaxis.set_major_locator(MaxNLocator(integer=True))
    place.legend(frameon=False, fontsize=8)
    place.grid(alpha=0.25)
    return figure


def tuning_map(study: Object) -> Figure | None:
    """Draw the best value over the first two lists of values, a panel a value of the third.

    Returns:
        None where fewer than two parameters have a list of values.
    """
    axes = [axis for axis in study["axes"] if len(axis["values"]) > 1]
    if len(axes) < 2:
        return None
    down, across, *others = axes
    thirds = [{others[0]["name"]: value} for value in others[0]["values"]] if others else [{}]
    known = [one for one in study["trials"] if one["value"] is not None and not one["given_up"]]
    ends = [float(one["value"]) for one in known] or [0.0]
    count = len(thirds)
    figure = sheet(1.2 + count * 0.62 * len(across["values"]), 1.1 + 0.5 * len(down["values"]))
    places = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for place, third in zip(places, thirds, strict=True):
        values = np.array(
            [
                [
                    best_of(known, {down["name"]: a, across["name"]: b, **third})
                    for b in across["values"]
                ]
                for a in down["values"]
            ]
        )
        colors = ListedColormap(palette("sequential") / 255)
        drawn = place.imshow(values, cmap=colors, vmin=min(ends), vmax=max(ends), aspect="auto")
        middle = (min(ends) + max(ends)) / 2
        for row, column in np.ndindex(*values.shape):
            value = values[row, column]
            ink = "black" if isnan(value) or value > middle else "white"
            words = "\N{EN DASH}" if isnan(value) else f"{value:.3f}".lstrip("0")
            place.text(column, row, words, ha="center", va="center", color=ink, fontsize=8)
        place.set_xticks(range(len(across["values"])), across["values"])
        place.set_yticks(range(len(down["values"])), down["values"])
        place.set(xlabel=across["name"], title=" ".join(map(str, *third.items())) if third else "")
    places[0].set_ylabel(down["name"])
    figure.colorbar(drawn, ax=places, label=metric_of(study))
    return figure


def tuning_parallel(study: Object) -> Figure:
    """Draw every trial as a line over its parameters to its value."""
    known = [one for one in study["trials"] if one["value"] is not None]
    names = [axis["name"] for axis in study["axes"]]
    scales = {name: ranks([one["parameters"][name] for one in known]) for name in names}
    ends = [float(one["value"]) for one in known] or [0.0, 1.0]
    low, high = min(ends), max(*ends, min(ends) + 1e-9)
    figure = sheet(1.5 * (len(names) + 1), 3.0)
    place = figure.subplots()
    for one in sorted(known, key=lambda one: (one["number"] == study["chosen"], one["value"])):
        share = (float(one["value"]) - low) / (high - low)
        heights = [*(scales[name][one["parameters"][name]] for name in names), share]
        wide = 2.6 if one["number"] == study["chosen"] else 0.9
        color = palette("sequential")[round(share * 255)] / 255
        place.plot(range(len(heights)), heights, color=color, linewidth=wide)
    for across, name in enumerate(names):
        place.axvline(across, color=_QUIET, linewidth=0.8)
        for value, height in scales[name].items():
            place.text(across, height, f" {value}", fontsize=8, backgroundcolor="#ffffffb0")
    place.axvline(len(names), color=_QUIET, linewidth=0.8)
    for height, value in ((0, low), (1, high)):
        place.text(len(names), height, f" {value:.3f}", fontsize=7)
    place.set_xticks(range(len(names) + 1), [*names, metric_of(study)])
    place.set_yticks([])
    for side in ("left", "bottom"):
        place.spines[side].set_visible(False)
    return figure


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
