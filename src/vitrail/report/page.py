"""The run folder becomes ``report.html``: one file, no network, the same bytes every time."""

from dataclasses import dataclass
from hashlib import sha256
from math import isnan

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from vitrail.color import colorize
from vitrail.report import charts, figures, sentences, tables
from vitrail.report.contents import Contents, read
from vitrail.report.gallery import SAMPLES, Legend, gallery, read_map
from vitrail.report.pictures import color_bar, data_uri, fractions_of, read_picture
from vitrail.report.trust import trust
from vitrail.runfolder import RunFolder

_HASHED = ("plan", "cohort", "split", "audit", "predictions", "evaluation")
_THUMBNAIL_PX = 160
_SECTIONS = (
    ("summary", "Summary"),
    ("cases", "Cases"),
    ("data", "Data"),
    ("plan", "Plan"),
    ("training", "Training"),
    ("results", "Results"),
    ("trust", "Trust"),
    ("gallery", "Gallery"),
    ("wall", "Layers and heads"),
    ("limits", "Limits"),
    ("making", "Making"),
)


def build(run: RunFolder) -> str:
    """Make the report of a run from its folder alone.

    Whatever the folder lacks is named on the page with the verb that makes it.

    Args:
        run: The run; nothing is written into it.

    Returns:
        A whole HTML page; the same folder always gives the same text.

    Raises:
        RunFolderError: If the folder does not exist, or one of its files cannot be read.
    """
    contents = read(run)
    shown = gallery(contents)
    tested = trust(run)
    return (
        _templates()
        .get_template("page.html")
        .render(
            contents=contents,
            title=_title(contents),
            emblem=figures.window(_panes(contents, shown.legend)),
            summary=sentences.summary(contents),
            flow=tables.flow(contents),
            samples=samples(contents),
            shortcut=charts.shortcut_figure(contents),
            choices=tables.choices(contents),
            minutes=tables.minutes(contents),
            training=charts.training_figures(contents),
            headline=tables.headline(contents),
            side_tables=tables.side_tables(contents),
            operating_points=tables.operating_points(contents),
            curves=charts.curve_figures(contents),
            confusions=charts.confusions(contents),
            gallery=shown,
            limits=sentences.limits(contents),
            hashes=hashes(contents),
            subgroups=tables.subgroups(contents),
            sections=[one for one in _SECTIONS if tested or one[0] != "trust"],
            trust=tested,
            wall_bar=color_bar("sequential"),
        )
    )


def _templates() -> Environment:
    """Prepare the templates: everything that comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("vitrail.report", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["unit"] = sentences.unit
    environment.filters.update(
        number=tables.number,
        interval=tables.interval,
        metric=tables.metric_name,
        model=tables.model_name,
        plain=tables.plain,
        percent=_percent,
        share=_share,
        leak=sentences.leak,
        comparison=sentences.comparison,
    )
    environment.tests["lower_is_better"] = tables.lower_is_better
    return environment


def _percent(share: float) -> str:
    """Write a share in whole percent."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _share(share: float) -> str:
    """Write a share for the style sheet."""
    return "0" if isnan(share) else f"{share:.3f}"


def _title(contents: Contents) -> str:
    """Name the page by what was told apart."""
    names = contents.classes
    if not names:
        return "A run without cases"
    if len(names) == 2:
        return f"{names[0]} or {names[1]}?"
    return f"{', '.join(names[:-1])} or {names[-1]}?" if len(names) < 5 else f"{len(names)} classes"


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
    for name in sorted({row.get("label", "") for row in contents.cases.values()}):
        there = [
            case_id
            for case_id, row in contents.cases.items()
            if row.get("label") == name and contents.run.picture(case_id).is_file()
        ]
        places = np.unique(np.linspace(0, len(there) - 1, min(count, len(there))).round())
        drawn = [_sample(contents, there[int(place)]) for place in places]
        grid.append((name, tuple(drawn)))
    return tuple(grid)


def _sample(contents: Contents, case_id: str) -> Sample:
    """Read one picture of the sample grid."""
    picture = read_picture(contents.run.picture(case_id), longest=_THUMBNAIL_PX)
    return Sample(case_id=case_id, picture=data_uri(picture, lossless=False), size=picture.size)


def _panes(contents: Contents, legend: Legend | None) -> list[list[str]]:
    """Color the emblem: the strongest map of the run on seven by nine panes, else its hash."""
    rows, columns = 9, 7
    maps = [one for case_id in sorted(contents.truth) if (one := read_map(contents.run, case_id))]
    if maps and legend is not None:
        strongest = max(maps, key=lambda one: float(np.abs(one.values).max()))
        places = fractions_of(np.abs(strongest.values), largest=legend.largest, signed=False)
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
