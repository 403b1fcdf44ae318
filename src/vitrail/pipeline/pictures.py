"""The pictures and masks that the report shows, copied into the run folder."""

from collections.abc import Iterable
from io import BytesIO

import numpy as np
from jaxtyping import Float
from PIL import Image

from vitrail.data.raster import probe, read_raster, read_stored
from vitrail.data.scan import is_scan
from vitrail.pipeline.scans import keep_first_view
from vitrail.records import Case, Cohort
from vitrail.report.mosaic import patch_mosaic
from vitrail.report.pictures import read_picture
from vitrail.runfolder import RunFolder, write_bytes

LONGEST_PX = 512
SAMPLES = 12
"""Pictures a class that are kept for the sample grid."""

MOSAICS = 6
APART_PX = 24


def keep_samples(run: RunFolder, cohort: Cohort) -> None:
    """Keep pictures of each class, spread evenly over its cases."""
    for name in cohort.classes:
        cases = [case for case in cohort if name in case.labels]
        keep(run, cohort, cases=cases[:: max(1, len(cases) // SAMPLES)][:SAMPLES])


def keep_mosaic(run: RunFolder, cohort: Cohort) -> None:
    """Draw one picture of each class, cut into patches of a usual transformer, side by side."""
    firsts = (
        next((case for case in cohort if name in case.labels), None) for name in cohort.classes
    )
    shown = [case for case in firsts if case is not None][:MOSAICS]
    drawn = [
        patch_mosaic(read_picture(run.picture(case.case_id), longest=LONGEST_PX)) for case in shown
    ]
    if not drawn:
        return
    width, height = drawn[0].size
    sheet = Image.new("RGBA", ((width + APART_PX) * len(drawn) - APART_PX, height))
    for place, mosaic in enumerate(drawn):
        sheet.paste(mosaic, (place * (width + APART_PX), 0))
    stream = BytesIO()
    sheet.save(stream, format="PNG")
    write_bytes(run.mosaic, stream.getvalue())


def keep(run: RunFolder, cohort: Cohort, *, cases: Iterable[Case]) -> None:
    """Copy pictures and their masks as 8-bit PNG; those that are there already are left alone."""
    for case in cases:
        path = run.picture(case.case_id)
        if path.exists():
            continue
        if is_scan(cohort.root / case.path):
            keep_first_view(run, case, root=cohort.root)
            continue
        write_bytes(path, _picture(cohort, case))
        if case.mask:
            write_bytes(run.mask(case.case_id), _mask(cohort, case))


def _picture(cohort: Cohort, case: Case) -> bytes:
    """Draw a picture as it is shown; deep ones from their own 0.5th to 99.5th percentile."""
    path = cohort.root / case.path
    info = probe(path)
    window = None
    if info.bits > 8:
        low, high = np.percentile(read_stored(path), [0.5, 99.5])
        window = (float(low), float(max(high, low + 1)))
    values = read_raster(path, channels=info.channels, intensity_range=window)
    return encode(values)


def encode(values: Float[np.ndarray, "channel height width"]) -> bytes:
    """Encode a picture of values in [0, 1] as it is shown."""
    pixels = np.rint(values * 255).astype(np.uint8)
    return png(Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)))


def _mask(cohort: Cohort, case: Case) -> bytes:
    """Draw a mask: everything above zero is white."""
    stored = read_stored(cohort.root / case.mask).max(axis=0) > 0
    return png(Image.fromarray(stored.astype(np.uint8) * 255), nearest=True)


def png(picture: Image.Image, *, nearest: bool = False) -> bytes:
    """Shrink to the longest side and encode."""
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    picture.thumbnail((LONGEST_PX, LONGEST_PX), method)
    stream = BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()
