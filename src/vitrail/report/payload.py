"""What the viewer is given: one object for the run, one for each case that is looked at closely.

Values are the record's own: float32 in base64, never stretched. Whole attention is sent in 255
steps a row (as stored), deflated, and opened by the browser when the case is.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from markupsafe import Markup

from vitrail.color import ANCHORS
from vitrail.records import Preprocessing
from vitrail.report.contents import Contents
from vitrail.report.gallery import Gallery, Said
from vitrail.report.maps import Legend, Map, placed
from vitrail.report.pictures import data_uri, read_picture
from vitrail.report.tables import model_name
from vitrail.report.trust import strip
from vitrail.report.viewer.script import fingerprint, script, shell, style
from vitrail.runfolder import file_name, read_json

MOST_CLOSE_BYTES = 8_000_000
"""Close looks in a page; later cases have their read-out rows alone, then nothing."""

_THUMBNAIL_PX = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Inlined:
    """The viewer as it stands in a page, each part ready to be set into its element.

    Attributes:
        style: Style sheet.
        shell: The frame.
        script: All modules as one.
        run: The run and its cases, JSON.
        close: Close looks by case, JSON.
        allowed: How the page's content security policy names the script.
    """

    style: Markup
    shell: Markup
    script: Markup
    run: Markup
    close: Mapping[str, Markup]
    allowed: Markup


def viewer(contents: Contents, gallery: Gallery) -> Inlined:
    """Gather what a page needs to show its cases from disk."""
    close = close_ups(contents, [card.case_id for card in gallery.cards])
    return Inlined(
        style=Markup(style()),  # noqa: S704 (our own file, as the next two)
        shell=Markup(shell()),  # noqa: S704
        script=Markup(script()),  # noqa: S704
        run=Markup(to_script(payload(contents, gallery))),  # noqa: S704 ("<" is escaped)
        allowed=Markup(fingerprint(script())),  # noqa: S704 (a hash)
        close={name: Markup(text) for name, text in close.items()},  # noqa: S704 (as run)
    )


def payload(contents: Contents, gallery: Gallery) -> dict[str, Any]:
    """Gather the run and the cases of the gallery.

    Returns:
        A JSON object; ``report/viewer/types.js`` names its fields.
    """
    similar = similar_cases(contents)
    cases = [
        case_json(
            contents,
            card.case_id,
            said=card.said,
            maps={one.method: one.raw for one in card.maps},
            similar=similar["cases"].get(card.case_id, ()),
            shown=card.size,
        )
        for card in gallery.cards
    ]
    shown = {one["id"] for case in cases for one in case["similar"]}
    return {
        **about(contents, gallery.legends),
        "cases": cases,
        "among": similar["among"],
        "thumbnails": {name: thumbnail(contents, name) for name in sorted(shown)},
    }


def about(contents: Contents, legends: Sequence[Legend]) -> dict[str, Any]:
    """Describe the run: classes, models, methods with their shared scales, colors."""
    model = contents.models[0] if contents.models else ""
    curves = contents.evaluation.get("curves", {}).get("test", {}).get(model, {})
    points = contents.evaluation.get("operating_points", {}).get(model) or ()
    temperatures = [point.get("temperature") for point in points]
    after = curves.get("calibration_after")
    temperature = temperatures[0] if len(temperatures) == 1 and after else None
    bins = curves.get("calibration") if temperature is None else after
    return {
        "classes": list(contents.classes),
        "positive": contents.evaluation.get("positive_class"),
        "temperature": temperature,
        "thresholds": {
            model_name(name): threshold
            for name in contents.models
            if (threshold := contents.threshold(name)) is not None
        },
        "calibration": bins if isinstance(bins, list) else [],
        "palettes": {name: [list(color) for color in colors] for name, colors in ANCHORS.items()},
        "methods": [
            {
                "name": one.method,
                "specific": one.class_specific,
                "signed": one.signed,
                "largest": one.largest,
                "count": one.count,
                "target": one.target,
            }
            for one in legends
        ],
    }


def case_json(
    contents: Contents,
    case_id: str,
    *,
    said: Sequence[Said],
    maps: Mapping[str, Map],
    similar: Sequence[Mapping[str, Any]],
    shown: tuple[int, int] | None,
) -> dict[str, Any]:
    """Write one case.

    Args:
        contents: The run.
        case_id: The case.
        said: What each model said of it.
        maps: Its maps by method.
        similar: Training cases that are like it.
        shown: (width, height) of the picture, for records without the source's size; None leaves
            out where it lies.
    """
    found = _place(contents, maps, shown=shown) if shown else None
    return {
        "id": case_id,
        "truth": contents.truth.get(case_id, ""),
        "right": bool(said) and said[0].right,
        "said": [
            {
                "model": model_name(one.model),
                "decision": one.decision,
                "right": one.right,
                "trainings": one.trainings,
                "probabilities": dict(one.probabilities),
            }
            for one in said
        ],
        "place": None if found is None else {**place_json(*found), **_scan(maps)},
        "mask": contents.run.mask(case_id).is_file(),
        "maps": {name: _map(contents, case_id, name, one=one) for name, one in maps.items()},
        "similar": [
            {
                "id": one["case_id"],
                "distance": one["distance"],
                "label": contents.cases.get(one["case_id"], {}).get("label", ""),
            }
            for one in similar
        ],
    }


def _place(
    contents: Contents, maps: Mapping[str, Map], *, shown: tuple[int, int]
) -> tuple[Preprocessing, tuple[int, int]] | None:
    """Say where a case's picture lies, by its maps or else by the model."""
    if maps:
        return placed(contents, next(iter(maps.values())), shown=shown)
    known = contents.preprocessing(contents.models[0]) if contents.models else None
    return None if known is None else (known, (shown[1], shown[0]))


def _scan(maps: Mapping[str, Map]) -> dict[str, Any]:
    """Say which slices of a volume a picture shows, and where, by the records of its maps."""
    for one in maps.values():
        view = (one.about.get("preprocessing") or {}).get("volume")
        if view:
            return scan_json(view, one.about.get("volume") or {})
    return {}


def scan_json(view: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write which slices a volume's picture shows, and where they lie.

    Args:
        view: The fields of :class:`~vitrail.records.VolumeView`.
        facts: ``slices``, counted from 1, and ``affine_lps_mm``, which takes (slice, tile row, tile
            column, 1) to mm, in pixels of the view's picture. A projection has no place in depth.
    """
    written: dict[str, Any] = {"slices": list(facts.get("slices", ()))}
    if view.get("mode") == "montage":
        written["tiles"] = [int(view["grid"])] * 2
    if view.get("mode") != "projection" and facts.get("affine_lps_mm"):
        written["affine"] = facts["affine_lps_mm"]
    return written


def place_json(preprocessing: Preprocessing, source_size: tuple[int, int]) -> dict[str, Any]:
    """Write a picture's place in the input: (top, left, bottom, right) of ``input`` px."""
    return {
        "box": list(preprocessing.source_box(*source_size)),
        "input": list(preprocessing.image_size),
        "source": list(source_size),
    }


def _map(contents: Contents, case_id: str, method: str, *, one: Map) -> dict[str, Any]:
    """Write one map: its raw values and what was tested of it."""
    tested = strip(contents, case_id, method=method, prefix_share=one.prefix_share)
    return {
        **values_json(one.values),
        "facts": [list(fact) for fact in tested.facts],
        "fails": list(tested.fails),
    }


def values_json(values: Float[np.ndarray, "row column"]) -> dict[str, Any]:
    """Write a map's raw values."""
    return {"grid": list(values.shape), "values": _floats(values)}


def similar_cases(contents: Contents) -> Any:
    """Read which training cases are like each case; empty where nobody looked."""
    path = contents.run.explanations / "similar.json"
    return read_json(path) if path.is_file() else {"among": "", "cases": {}}


def thumbnail(contents: Contents, case_id: str) -> str:
    """Draw a training case small, or nothing where its picture is not kept."""
    path = contents.run.picture(case_id)
    if not path.is_file():
        return ""
    return data_uri(read_picture(path, longest=_THUMBNAIL_PX), lossless=False)


def close_ups(contents: Contents, case_ids: Sequence[str]) -> dict[str, str]:
    """Read the close looks that fit into a page, as JSON by case."""
    found, room = {}, MOST_CLOSE_BYTES
    for case_id in case_ids:
        path = contents.run.explanations / "attention" / f"{file_name(case_id)}.npz"
        if not path.is_file() or room <= 0:
            continue
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        text = to_script(close_json(arrays))
        if len(text) > room:
            text = to_script(close_json({**arrays, "matrices": None}))
        room -= len(text)
        found[case_id] = text
    return found


def close_json(arrays: Mapping[str, np.ndarray | None]) -> dict[str, Any]:
    """Write a close look (see ``pipeline.closeup``) as the viewer reads it."""
    rows = np.asarray(arrays["attention"], dtype=np.float32)
    scales = np.maximum(rows.max(axis=(2, 3), keepdims=True), np.finfo(np.float32).tiny)
    steps = np.rint(rows / scales * 255).astype(np.uint8)
    written: dict[str, Any] = {
        "layers": rows.shape[0],
        "heads": rows.shape[1],
        "grid": list(rows.shape[2:]),
        "prefix": int(arrays.get("prefix") or 0),
        "rows": _steps(steps),
        "rowScales": _floats(scales),
        "matrices": None,
        "scales": None,
        "method": str(arrays["method"]) if "method" in arrays else "",
    }
    matrices = arrays.get("matrices")
    if matrices is not None and arrays.get("scales") is not None:
        written |= {"matrices": _steps(matrices), "scales": _floats(arrays["scales"])}
    for name in ("importance", "lens", "values"):
        one = arrays.get(name)
        written[name] = None if one is None else _floats(one)
    return written


def to_script(content: object) -> str:
    """Write JSON that can stand inside a ``script`` element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _floats(values: Any) -> str:
    """Write numbers as little-endian float32 in base64."""
    return b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _steps(steps: UInt8[np.ndarray, "*axes"]) -> str:
    """Deflate bytes and write them in base64."""
    return b64encode(zlib.compress(np.ascontiguousarray(steps).tobytes(), 9)).decode()
