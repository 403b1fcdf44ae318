"""``vitrail predict``: labels, probabilities and overlays for new pictures."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from vitrail.data.loader import to_input
from vitrail.data.raster import SUFFIXES, read_raster
from vitrail.data.remote import fetch_picture
from vitrail.data.scan import find_scans
from vitrail.errors import DataError, InputError
from vitrail.explain.windows import explain_windows
from vitrail.metrics.novelty import TrainingRange
from vitrail.models import bundle
from vitrail.pipeline import novelty
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.ledger import Result, require_run
from vitrail.pipeline.pictures import png
from vitrail.pipeline.scans import one_case, write_heatmap
from vitrail.records import Progress, join_labels, label_names, no_progress
from vitrail.report.contents import Contents, read
from vitrail.report.pictures import fractions_of, paint, register
from vitrail.runfolder import RunFolder, file_name, write_bytes, write_csv

_OPACITY = 0.45
_log = logging.getLogger("vitrail")


Urls = Literal["off", "public", "private"]
"""Which addresses may be asked: none, the public network's, or also this machine's own."""


def predict(
    run: RunFolder,
    paths: Sequence[Path | str],
    *,
    out: Path | None = None,
    urls: Urls = "off",
    progress: Progress = no_progress,
) -> Result:
    """Label new pictures and draw where the model looked.

    Of two classes the positive one is decided from the operating point up that `vitrail evaluate`
    chose on validation cases, as in the report; without one, and of more classes, the likeliest.
    With cross-validation the probabilities are the mean over the models of all folds (of the first
    seed); the map is that of the first fold's model.

    Args:
        run: Holds the trained model, with its class names and preprocessing.
        paths: Pictures, folders of them, or http(s) addresses of pictures.
        urls: Which addresses may be asked.
        out: Where overlays and ``predictions.csv`` are written; ``new`` in the run by default.
        progress: Told of each picture.

    Raises:
        DataError: If there is no picture among the paths, none of them can be read, or an address
            does not give one.
        InputError: If an address may not be asked.
    """
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    folds = _folds(run, plan)
    known = novelty.read(folds[0].extra.get("training_range", {}))
    judged = read(run)
    out = out or run.root / "new"
    there = [_fetched(str(one), out, urls) if _is_url(one) else Path(one) for one in paths]
    pictures = _pictures(there, scans=folds[0].preprocessing.volume is not None)
    rows: list[dict[str, Any]] = []
    unreadable: list[DataError | InputError] = []
    for done, path in enumerate(pictures, start=1):
        try:
            shown = out / f"{file_name(str(path))}.overlay.png"
            method = plan.explanation.value
            row = _predict(path, folds, method=method, known=known, overlay=shown)
            rows.append(row | {"label": _label(row["probabilities"], judged, folds[0])})
        except (DataError, InputError) as error:
            _log.warning("left out: %s", error)
            unreadable.append(error)
        progress("predict", done=done, total=len(pictures))
    if not rows:
        raise unreadable[0]
    _write(out / "predictions.csv", rows, classes=folds[0].classes)
    said = [_sentence(row) for row in rows]
    least = judged.threshold("vit")
    if least is not None:
        positive = judged.evaluation["positive_class"]
        said.append(f"{positive} is decided from {least:.3f} up, as on the test cases")
    said += _range_sentences(folds[0])
    said.append(f"overlays and predictions.csv: {out}")
    left_out = [{"path": error.argument, "reason": error.came} for error in unreadable]
    return {"predictions": rows, "unreadable": left_out, "summary": said}


def _is_url(path: Path | str) -> bool:
    """Tell an address from a path."""
    return isinstance(path, str) and "://" in path


def _fetched(url: str, out: Path, urls: Urls) -> Path:
    """Fetch a picture and keep it beside the overlays."""
    if urls == "off":
        rule = "nothing is asked over the network unless allowed"
        raise InputError("PATH", url, rule, "pass --urls public")
    content = fetch_picture(url, allow_private=urls == "private")
    path = out / "fetched" / file_name(url)
    write_bytes(path, content)
    _log.info("fetched %s: %d bytes", url, len(content))
    return path


def _folds(run: RunFolder, plan: Plan) -> list[bundle.Bundle]:
    """Load the model of every fold, of the first seed."""
    folders = [
        run.model("vit", seed=plan.seed.value, fold=fold) for fold in range(plan.folds.value)
    ]
    for folder in folders:
        run.require(folder / bundle.DESCRIPTION, "train")
    return [bundle.load(folder) for folder in folders]


def _range_sentences(loaded: bundle.Bundle) -> list[str]:
    """Say what out of range means, and how often it is said wrongly."""
    looks = (("training_range", "intensities"), ("feature_range", "model's features"))
    said = [
        novelty.false_alarm_sentence(known, what=what)
        for key, what in looks
        if (known := novelty.read(loaded.extra.get(key, {}))) is not None
    ]
    return said or ["not known whether pictures are out of range: too few validation cases"]


def _pictures(paths: Sequence[Path], *, scans: bool) -> list[Path]:
    """List the pictures, or the scans, among files and folders."""
    found: list[Path] = []
    for path in paths:
        if scans:
            found += find_scans(path)
        elif path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        else:
            found.append(path)
    if not found:
        raise DataError(
            str(paths[0]),
            f"no {'scans' if scans else 'pictures'} in it",
            "DICOM series, NIfTI, NRRD and MetaImage are read"
            if scans
            else "PNG, JPEG, TIFF and BMP are read",
            "check the path",
        )
    return found


def _sentence(row: dict[str, Any]) -> str:
    """Say one prediction, and whether to mistrust it."""
    names = [name for name in label_names(row["label"]) if name]
    sure = ", ".join(f"{name} ({row['probabilities'][name]:.3f})" for name in names)
    said = f"{row['path']}: {sure or 'none of the labels'}"
    return f"{said}, OUT OF RANGE: do not rely on it" if row["out_of_range"] else said


def _predict(
    path: Path,
    folds: Sequence[bundle.Bundle],
    *,
    method: str,
    known: TrainingRange | None,
    overlay: Path,
) -> dict[str, Any]:
    """Label one picture or scan and write its overlay; of a scan, a heat-map over it as well."""
    loaded = folds[0]
    preprocessing = loaded.preprocessing
    scan = None
    if preprocessing.volume is None:
        picture = read_raster(
            path, channels=preprocessing.channels, intensity_range=preprocessing.intensity_range
        )
        images = to_input(picture, preprocessing)[None]
    else:
        scan = one_case(path, preprocessing=preprocessing, classes=loaded.classes)
        picture = scan.stack(0).picture(scan.start(0)).astype(np.float32) / 255
        images = torch.stack([shown[0][0] for shown in scan.votes()])
    several = bool(loaded.extra.get("multi_label", False))
    with torch.no_grad():
        logits = torch.stack([fold.model(images).double() for fold in folds])
    said = logits.sigmoid() if several else logits.softmax(dim=-1)
    probabilities = said.mean(dim=(0, 1)).tolist()
    found, heat = explain_windows(loaded.model, torch.split(images, 1), method=method)
    if scan is not None:
        beside = overlay.with_name(overlay.name.replace(".overlay.png", ".map.npz"))
        write_heatmap(beside, heat[0], cases=scan, index=0)
    laid = _overlay(picture, found.values[0].numpy(), signed=found.signed, loaded=loaded)
    write_bytes(overlay, png(laid))
    seen = None if known is None else novelty.judge(known, picture, preprocessing=preprocessing)
    deep = novelty.judge_features(
        loaded.extra.get("feature_range", {}), loaded.model, images=images
    )
    known_ones = [one for one in (seen, deep) if one is not None]
    return {
        "path": str(path),
        "probabilities": dict(zip(loaded.classes, probabilities, strict=True)),
        "distance": None if seen is None else seen.distance,
        "feature_distance": None if deep is None else deep.distance,
        "out_of_range": any(one.outside for one in known_ones) if known_ones else None,
        "overlay": str(overlay),
    }


def _label(shares: Mapping[str, float], judged: Contents, loaded: bundle.Bundle) -> str:
    """Decide as the test cases were; where a case can have several labels, name those from half."""
    if loaded.extra.get("multi_label", False):
        return join_labels([name for name, value in shares.items() if value >= 0.5])
    return judged.decide("vit", shares)


def _overlay(
    picture: Float[np.ndarray, "channel height width"],
    values: Float[np.ndarray, "row column"],
    *,
    signed: bool,
    loaded: bundle.Bundle,
) -> Image.Image:
    """Lay a map over its picture; its strongest color is its own largest value, either way."""
    size = (picture.shape[1], picture.shape[2])
    laid = register(values, preprocessing=loaded.preprocessing, source_size=size, shown_size=size)
    fractions = fractions_of(laid, largest=float(np.abs(values).max()), signed=signed)
    colors = paint(fractions, "diverging" if signed else "sequential").convert("RGB")
    pixels = np.rint(np.moveaxis(picture, 0, 2) * 255).astype(np.uint8)
    source = Image.fromarray(pixels if len(picture) == 3 else pixels[:, :, 0]).convert("RGB")
    return Image.blend(source, colors, _OPACITY)


def _write(path: Path, rows: Sequence[dict[str, Any]], *, classes: Sequence[str]) -> None:
    """Write the predictions as a table."""
    header = (
        "path",
        "label",
        *(f"prob_{name}" for name in classes),
        "distance",
        "feature_distance",
        "out_of_range",
        "overlay",
    )
    write_csv(path, [_row(row) for row in rows], header=header)


def _row(row: dict[str, Any]) -> dict[str, object]:
    """Flatten a prediction for the table."""
    probabilities = {f"prob_{name}": value for name, value in row["probabilities"].items()}
    rest = {name: value for name, value in row.items() if name != "probabilities"}
    return {**rest, **probabilities}
