"""A new picture is labelled and explained: what the viewer is told of it, and what is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.data.loader import to_input
from vitrail.data.raster import scale
from vitrail.explain import explain
from vitrail.models import bundle
from vitrail.pipeline import novelty
from vitrail.pipeline.pictures import encode
from vitrail.records import Preprocessing
from vitrail.report.payload import place_json, scan_json, values_json
from vitrail.web.decode import Decoded
from vitrail.web.trained import Trained


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sent:
    """A picture that was sent: what the viewer is told and shown, the model's input, the map."""

    name: str
    about: Mapping[str, Any]
    picture: bytes
    image: Float[Tensor, "1 channel height width"]
    values: Float[np.ndarray, "row column"]


def label(
    trained: Trained,
    decoded: Decoded,
    *,
    name: str,
    number: int,
    method: str,
    modalities: Sequence[str],
    decide: Callable[[Mapping[str, float]], str],
) -> Sent:
    """Label and explain a decoded picture or scan.

    Args:
        trained: The run's models.
        decoded: Its pixels, and what its header says.
        name: What the client calls it.
        number: Its place among the sent pictures, from 1.
        method: How it is explained.
        modalities: What made the training pictures; empty where nobody knows.
        decide: Chooses a class by the probability of each.
    """
    first = trained.each[0]
    preprocessing = first.preprocessing
    pictures, warnings = _scaled(decoded, preprocessing)
    images = torch.stack([to_input(one, preprocessing) for one in pictures])
    shares = dict(zip(first.classes, trained.probabilities(images), strict=True))
    warnings += _strange(decoded, modalities)
    if _is_outside(first, pictures[0], images):
        warnings.append("unlike the training pictures: do not rely on it")
    found = explain(first.model, images[:1], method=method)
    values = found.values[0].float().numpy()
    place = place_json(preprocessing, (pictures[0].shape[1], pictures[0].shape[2]))
    if preprocessing.volume is not None:
        place |= scan_json(asdict(preprocessing.volume), decoded.facts)
    kept = {
        **values_json(values),
        "facts": [["trust", "not tested"]],
        "fails": [],
        "signed": found.signed,
        "specific": found.class_specific,
    }
    about = {
        "id": f"new {number}: {name}",
        "truth": "",
        "right": True,
        "said": [_said(decide(shares), shares)],
        "place": place,
        "maps": {method: kept},
        "similar": [],
        "warning": "; ".join(warnings),
        "note": trained.note(None),
    }
    return Sent(
        name=name, picture=encode(pictures[0]), values=values, image=images[:1], about=about
    )


def _is_outside(
    loaded: bundle.Bundle,
    picture: Float[np.ndarray, "channel height width"],
    images: Float[Tensor, "picture channel row column"],
) -> bool:
    """Tell whether a picture is unlike the training pictures, by intensities or by features."""
    known = novelty.read(loaded.extra.get("training_range", {}))
    preprocessing = loaded.preprocessing
    seen = None if known is None else novelty.judge(known, picture, preprocessing=preprocessing)
    range_ = loaded.extra.get("feature_range", {})
    deep = novelty.judge_features(range_, loaded.model, images=images)
    return any(one is not None and one.outside for one in (seen, deep))


def _scaled(
    decoded: Decoded, preprocessing: Preprocessing
) -> tuple[list[Float[np.ndarray, "channel height width"]], list[str]]:
    """Bring stored values to [0, 1] and the model's channels, and say what was assumed."""
    if preprocessing.volume is not None:
        shown = decoded.pictures.astype(np.float32) / 255
        if shown.shape[1] != preprocessing.channels:
            shown = np.repeat(shown[:, :1], preprocessing.channels, axis=1)
        return list(shown), []
    stored, window = decoded.pictures[0], preprocessing.intensity_range
    warnings = []
    if stored.dtype != np.uint8 and window is None:
        low, high = np.percentile(stored, [0.5, 99.5])
        window = (float(low), float(max(high, low + 1)))
        warnings.append("deep values were windowed by their own percentiles")
    return [scale(stored, channels=preprocessing.channels, intensity_range=window)], warnings


def _strange(decoded: Decoded, modalities: Sequence[str]) -> list[str]:
    """Warn of a picture that another kind of machine made than the training pictures."""
    came = str(decoded.facts.get("modality", ""))
    if not came or not modalities or came in modalities:
        return []
    return [f"made by {came}, the training pictures by {', '.join(modalities)}: do not rely on it"]


def _said(decision: str, shares: Mapping[str, float]) -> dict[str, Any]:
    """Write what the model says of a sent picture."""
    return {
        "model": "Vision Transformer",
        "decision": decision,
        "right": True,
        "trainings": 1,
        "probabilities": dict(shares),
    }
