"""The run folder becomes ``report.html``: one file, no network, the same bytes every time."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from math import isnan
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from vitrail.color import colorize
from vitrail.records import label_names
from vitrail.report import (
    charts,
    curves,
    differences,
    figures,
    payload,
    results,
    sentences,
    subgroup,
    tables,
)
from vitrail.report import checklist as checklists
from vitrail.report import guided as guides
from vitrail.report import trust as trusts
from vitrail.report import tuning as tunings
from vitrail.report.contents import Contents, read
from vitrail.report.gallery import SAMPLES, Gallery, gallery
from vitrail.report.mosaic import mosaics
from vitrail.report.pictures import color_bar, data_uri, fractions_of, read_picture
from vitrail.report.viewer.script import fingerprint
from vitrail.runfolder import RunFolder

_HASHED = ("plan", "cohort", "split", "audit", "predictions", "evaluation")
_THUMBNAIL_PX = 160
_GALLERY = ("gallery", "Gallery")
_SECTIONS = (
    ("summary", "Summary"),
    ("cases", "Cases"),
    ("data", "Data"),
    ("plan", "Plan"),
    ("training", "Training"),
    ("results", "Results"),
    _GALLERY,
    ("trust", "Trust"),
    ("wall", "Layers and heads"),
    ("limits", "Limits"),
    ("making", "Making"),
)


def build(run: RunFolder, *, checklist: str | None = None) -> str:
    """Make the report of a run from its folder alone.

    Whatever the folder lacks is named on the page with the verb that makes it.

    Args:
        run: The run; nothing is written into it.
        checklist: Adds a pre-filled ``claim-2024``, ``tripod-ai`` or ``stard-ai``.

    Returns:
        A whole HTML page; the same folder always gives the same text.

    Raises:
        InputError: If there is no such checklist.
        RunFolderError: If the folder does not exist, or one of its files cannot be read.
    """
    contents = read(run)
    shown = gallery(contents)
    return (
        templates()
        .get_template("page.html")
        .render(
            contents=contents,
            kind="report of a run",
            source="the run folder",
            title=title(contents),
            byline=_byline(contents),
            emblem=figures.window(panes(contents, shown)),
            summary=sentences.summary(contents),
            flow=tables.flow(contents),
            samples=samples(contents),
            mosaics=mosaics(contents),
            shortcut=charts.shortcut_figure(contents),
            choices=tables.choices(contents),
            minutes=tables.minutes(contents),
            augmentation=augmentation(contents),
            training=charts.training_figures(contents),
            gallery=shown,
            **_numbers(contents),
            viewer=payload.viewer(contents, shown),
            guided=guides.study(contents, shown),
            trust=trusts.trust(contents),
            tuning=tunings.tuning(contents.study),
            limits=sentences.limits(contents),
            hashes=hashes(contents),
            sections=_sections(contents, checklist),
            checklist=checklists.checklist(contents, checklist) if checklist else None,
            wall_bar=color_bar("sequential"),
        )
    )


def _numbers(contents: Contents) -> dict[str, Any]:
    """Say how good the models are: what the page's tables, curves and sentences of it show."""
    return {
        "headline": results.headline(contents),
        "side_tables": results.side_tables(contents),
        "operating_points": results.operating_points(contents),
        "curves": curves.curve_figures(results.subjects(contents)),
        "comparisons": differences.comparisons(contents.evaluation.get("comparisons") or ()),
        "comparisons_csv": differences.comparisons_csv(
            contents.evaluation.get("comparisons") or ()
        ),
        "external": results.external_sets(contents),
        "confusions": charts.confusions(contents),
        "subgroups": subgroup.subgroups(contents.evaluation.get("subgroups") or {}),
        "openings": results.openings(contents),
        "prevalence": results.prevalence(contents),
        "deciding": results.deciding(contents),
        "by_class": results.by_class(contents),
        "doubt": results.doubt(contents),
        "shortcut_sentences": results.shortcut_sentences(contents),
    }


def _sections(contents: Contents, checklist: str | None) -> tuple[tuple[str, str], ...]:
    """List what the bar on top leads to."""
    sections = list(_SECTIONS)
    if guides.told(contents):
        sections.insert(sections.index(_GALLERY), ("guided", "Guided"))
    return (*sections, ("checklist", "Checklist")) if checklist else tuple(sections)


def templates() -> Environment:
    """Prepare the templates: everything that comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("vitrail.report", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["unit"] = sentences.unit
    environment.globals["page_script"] = page_script()
    environment.globals["allowed"] = fingerprint(page_script())
    environment.filters.update(
        number=tables.number,
        interval=tables.interval,
        metric=tables.metric_name,
        model=tables.model_name,
        plain=tables.plain,
        percent=_percent,
        small=_small,
        labels=_labels,
        share=_share,
        leak=sentences.leak,
        leak_counts=sentences.leak_counts,
        file=_file,
    )
    environment.tests["lower_is_better"] = tables.lower_is_better
    return environment


def page_script() -> Markup:
    """Read the script of every page."""
    return Markup(files("vitrail.report").joinpath("template", "page.js").read_text("utf-8"))  # noqa: S704 (our own file)


def _percent(share: float) -> str:
    """Write a share in whole percent."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _file(name: str) -> str:
    """Turn a figure's name into a file's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _labels(truth: str) -> str:
    """Write the labels of a case that can have several: ``a|b``, ``a|``, ``|``."""
    return ", ".join(filter(None, truth.split("|"))) or "none"


def _small(value: float) -> str:
    """Write a number of any size with three digits."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _share(share: float) -> str:
    """Write a share for the style sheet."""
    return "0" if isnan(share) else f"{share:.3f}"


def title(contents: Contents) -> str:
    """Name the page by what was told apart."""
    names = contents.classes
    if not names:
        return "A run without cases"
    if len(names) == 2:
        return f"{names[0]} or {names[1]}?"
    return f"{', '.join(names[:-1])} or {names[-1]}?" if len(names) < 5 else f"{len(names)} classes"


def _byline(contents: Contents) -> str:
    """Say under the title what the run is made of."""
    parts = [
        f"{tables.flow(contents).used} cases",
        " and ".join(map(tables.model_name, contents.models)) or "no model yet",
    ]
    if "vitrail" in contents.environment:
        parts.append(f"vitrail {contents.environment['vitrail']}")
    return " \N{MIDDLE DOT} ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A picture of the sample grid."""

    case_id: str
    picture: str
    size: tuple[int, int]


def samples(
    contents: Contents, *, count: int = SAMPLES
) -> tuple[tuple[str, tuple[Sample, ...]], ...]:
    """Choose pictures of each class, evenly spaced over its cases that have one.

    Returns:
        (class, pictures), in the order of the classes.
    """
    grid = []
    names = {case_id: label_names(row.get("label", "")) for case_id, row in contents.cases.items()}
    for name in sorted(set().union(*names.values())):
        there = [
            case_id
            for case_id in contents.cases
            if name in names[case_id] and contents.run.picture(case_id).is_file()
        ]
        places = np.unique(np.linspace(0, len(there) - 1, min(count, len(there))).round())
        drawn = [_sample(contents, there[int(place)]) for place in places]
        grid.append((name, tuple(drawn)))
    return tuple(grid)


def _sample(contents: Contents, case_id: str) -> Sample:
    """Read one picture of the sample grid."""
    picture = read_picture(contents.run.picture(case_id), longest=_THUMBNAIL_PX)
    return Sample(case_id=case_id, picture=data_uri(picture, lossless=False), size=picture.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What an augmentation preset makes of training pictures.

    Attributes:
        kind: Name of the preset.
        picture: The grid, as a ``data:`` address.
        size: Columns and rows of the grid in pixels.
        chosen: Whether the models were trained with it.
    """

    kind: str
    picture: str
    size: tuple[int, int]
    chosen: bool


def augmentation(contents: Contents) -> tuple[Views, ...]:
    """Read the grids of all presets, the plan's own first."""
    entry = contents.plan.get("augmentation")
    chosen = entry.get("value") if isinstance(entry, dict) else None
    found = []
    for path in sorted(contents.run.augmentation("any").parent.glob("*.png")):
        picture = read_picture(path, longest=1024)
        found.append(
            Views(
                kind=path.stem,
                picture=data_uri(picture, lossless=False),
                size=picture.size,
                chosen=path.stem == chosen,
            )
        )
    return tuple(sorted(found, key=lambda one: not one.chosen))


def panes(contents: Contents, shown: Gallery | None = None) -> list[list[str]]:
    """Color the emblem: the strongest map of the run on seven by nine panes, else its hash."""
    rows, columns = 9, 7
    if shown is not None and shown.strongest is not None and shown.legends:
        largest = next(iter(shown.legends)).largest
        places = fractions_of(np.abs(shown.strongest.values), largest=largest, signed=False)
        stored = Image.fromarray(np.rint(places * 255).astype(np.uint8))
        small = np.asarray(stored.resize((columns, rows), Image.Resampling.BILINEAR)) / 255
    else:
        digest = sha256(repr(sorted(contents.cases)).encode()).digest() * 2
        small = np.frombuffer(digest, dtype=np.uint8)[: rows * columns].reshape(rows, columns) / 255
    colors = colorize(small)
    return [[f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in line] for line in colors]


def hashes(contents: Contents) -> tuple[tuple[str, str], ...]:
    """Hash the files that the page was made from: (file, SHA-256)."""
    files = [getattr(contents.run, name) for name in _HASHED]
    files += sorted((contents.run.root / "models").glob("*/seed*/fold*/model.safetensors"))
    return tuple(
        (path.relative_to(contents.run.root).as_posix(), sha256(path.read_bytes()).hexdigest())
        for path in files
        if path.is_file()
    )
