"""An :class:`Evaluation` as ``evaluation.json`` holds it, and back."""

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from vitrail.records import Comparison, Estimate, Evaluation


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Turn an evaluation into what ``evaluation.json`` holds; NaN becomes null."""
    plain = _plain({name: getattr(evaluation, name) for name in Evaluation.__dataclass_fields__})
    return {key: plain[key] for key in Evaluation.__dataclass_fields__}


def _plain(value: Any) -> Any:
    """Make plain JSON values of records, mappings, tuples and NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(content: Mapping[str, Any]) -> Evaluation:
    """Read what :func:`to_json` wrote; null numbers become NaN."""
    known = dict(content)
    for level in ("sets", "image_level", "calibrated", "vector_scaled"):
        known[level] = {
            split: {
                model: {name: Estimate(**_numbers(cell)) for name, cell in metrics.items()}
                for model, metrics in models.items()
            }
            for split, models in content.get(level, {}).items()
        }
    known["by_class"] = {
        split: {
            model: {
                name: {metric: Estimate(**_numbers(cell)) for metric, cell in cells.items()}
                for name, cells in classes.items()
            }
            for model, classes in models.items()
        }
        for split, models in content.get("by_class", {}).items()
    }
    known["shortcuts"] = tuple(content.get("shortcuts", ()))
    known["comparisons"] = tuple(Comparison(**_numbers(c)) for c in content["comparisons"])
    known["warnings"] = tuple(content["warnings"])
    points = content.get("operating_points", {})
    known["operating_points"] = {model: tuple(runs) for model, runs in points.items()}
    return Evaluation(**known)


_NUMBERS = ("value", "low", "high", "difference", "p_value", "p_value_holm", "exact_p_value")


def _numbers(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: float("nan") if value is None and key in _NUMBERS else value
        for key, value in cell.items()
    }
