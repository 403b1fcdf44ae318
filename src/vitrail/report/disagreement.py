"""Where runs part: the cases that they decide differently, each run's map of them side by side."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from vitrail.report.contents import Contents
from vitrail.report.gallery import Said, choose, said_of
from vitrail.report.maps import Legend, Map, legend_of, methods_of, overlays, read_maps
from vitrail.report.pictures import data_uri, outline, read_picture

MOST_CASES = 40
"""Cases that are drawn; of more, the surest of those on which runs are right and wrong. The others
stand in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What one run says and shows of a case.

    Attributes:
        run: Name of the run.
        said: What its own model said.
        overlays: Data URIs of its own map by ``<normalization>-<resampling>``; empty without one.
        method: Name of the map's method.
        even: Whether the map is even, and therefore not painted.
        closer: Address of the case in the run's own report, empty where it is not shown there.
    """

    run: str
    said: Said
    overlays: Mapping[str, str]
    method: str
    even: bool
    closer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A case that runs decide differently.

    Attributes:
        case_id: Name of the case.
        truth: Its class.
        picture: Data URI, empty where no run holds a picture of it.
        size: (width, height) of the picture on the page in px.
        outline: Data URI of the mask's border, empty where there is no mask.
        panels: One a run.
    """

    case_id: str
    truth: str
    picture: str
    size: tuple[int, int]
    outline: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """All cases on which runs part.

    Attributes:
        sentence: How often they agree, and how rightly.
        patterns: Who is right where they part, and on how many cases.
        cases: The drawn ones.
        others: Those that are only told of, as (case, truth, what each run said, its address).
        legends: The color scale of each run's own maps.
    """

    sentence: str
    patterns: tuple[tuple[str, int], ...]
    cases: tuple[Parted, ...]
    others: tuple[tuple[str, str, tuple[tuple[Said, str], ...]], ...]
    legends: Mapping[str, Legend]

    @property
    def leads(self) -> bool:
        """Whether any case leads to a report."""
        return any(panel.closer for case in self.cases for panel in case.panels)


def disagreement(runs: Mapping[str, Contents], *, folder: Path | None = None) -> Disagreement:
    """Find and draw the cases on which the runs' own models part.

    Args:
        runs: Runs on the same test cases, by the name that the page gives them.
        folder: Where the page will lie; its cases lead from there to the runs' reports.
    """
    first = next(iter(runs.values()))
    said = {
        case_id: {name: said_of(one, case_id, model=one.models[0]) for name, one in runs.items()}
        for case_id in first.truth
        if all(case_id in one.judged.get(one.models[0], {}) for one in runs.values())
    }
    parted = {
        case_id: own
        for case_id, own in said.items()
        if len({one.decision for one in own.values()}) > 1
    }
    alike = [own for case_id, own in said.items() if case_id not in parted]
    right = sum(next(iter(own.values())).right for own in alike)
    order = sorted(parted, key=lambda case_id: (_rank(parted[case_id]), case_id))
    chosen, others = order[:MOST_CASES], order[MOST_CASES:]
    maps = {name: read_own(one, chosen) for name, one in runs.items()}
    legends = {name: found[1] for name, found in maps.items() if found[1] is not None}
    closer = {name: _closer(one, folder=folder) for name, one in runs.items()}
    return Disagreement(
        sentence=(
            f"Of {len(said)} test cases the runs decide {len(alike)} alike ({right} rightly, "
            f"{len(alike) - right} wrongly) and {len(parted)} differently."
        ),
        patterns=tuple(Counter(_pattern(own) for own in parted.values()).most_common()),
        cases=tuple(
            _draw(runs, case_id, said=parted[case_id], maps=maps, legends=legends, closer=closer)
            for case_id in chosen
        ),
        others=tuple(
            (
                case_id,
                first.truth[case_id],
                tuple((one, closer[run].get(case_id, "")) for run, one in parted[case_id].items()),
            )
            for case_id in others
        ),
        legends=legends,
    )


def _closer(contents: Contents, *, folder: Path | None) -> Mapping[str, str]:
    """Address the cases that a run's own report shows, as seen from a folder."""
    report = contents.run.report
    if folder is None or not report.is_file():
        return {}
    try:
        way = os.path.relpath(report.resolve(), folder.resolve())
    except ValueError:  # another drive: no way leads there
        return {}
    page = quote(Path(way).as_posix())
    return {name: f"{page}#{urlencode({'case': name})}" for name in choose(contents)}


def _rank(said: Mapping[str, Said]) -> tuple[bool, float]:
    """Sort cases on which somebody is right first, then those that all are sure of."""
    nobody = not any(one.right for one in said.values())
    return nobody, -min(one.probabilities[0][1] for one in said.values())


def _pattern(said: Mapping[str, Said]) -> str:
    """Say who is right and who is not."""
    right = [name for name, one in said.items() if one.right]
    wrong = [name for name, one in said.items() if not one.right]
    parts = [f"right: {', '.join(right)}"] if right else []
    return "; ".join([*parts, f"wrong: {', '.join(wrong)}"] if wrong else parts)


def read_own(
    contents: Contents, case_ids: Sequence[str]
) -> tuple[Mapping[str, Map], Legend | None]:
    """Read a run's own maps of some cases, and the scale that all its maps share."""
    methods = methods_of(contents.run)
    if not methods:
        return {}, None
    found = read_maps(contents.run, contents.truth, method=methods[0])
    return {name: found[name] for name in case_ids if name in found}, legend_of([*found.values()])


def _draw(
    runs: Mapping[str, Contents],
    case_id: str,
    *,
    said: Mapping[str, Said],
    maps: Mapping[str, tuple[Mapping[str, Map], Legend | None]],
    legends: Mapping[str, Legend],
    closer: Mapping[str, Mapping[str, str]],
) -> Parted:
    """Draw one case."""
    holders = [one.run for one in runs.values() if one.run.picture(case_id).is_file()]
    picture = read_picture(holders[0].picture(case_id)) if holders else None
    masks = [run.mask(case_id) for run in holders if run.mask(case_id).is_file()]
    panels = []
    for name, contents in runs.items():
        own, legend = maps[name][0].get(case_id), legends.get(name)
        painted: Mapping[str, str] = {}
        if picture is not None and own is not None and legend is not None:
            painted = overlays(contents, own, legend=legend, shown=picture.size)
        panels.append(
            Panel(
                run=name,
                said=said[name],
                overlays=painted,
                method="" if legend is None else legend.method,
                even=own is not None and own.even,
                closer=closer[name].get(case_id, ""),
            )
        )
    return Parted(
        case_id=case_id,
        truth=next(iter(runs.values())).truth[case_id],
        picture="" if picture is None else data_uri(picture, lossless=False),
        size=(256, 256) if picture is None else picture.size,
        outline=data_uri(outline(masks[0]), lossless=True) if masks else "",
        panels=tuple(panels),
    )
