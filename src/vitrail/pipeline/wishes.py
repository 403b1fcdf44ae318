"""What the command line puts into a plan by ``--set KEY=VALUE``."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vitrail.errors import PlanError
from vitrail.pipeline.choices import Plan, parse_choice

OPTIONS = {
    "budget_minutes": "--budget",
    "seed": "--seed",
    "seeds": "--seeds",
    "folds": "--folds",
    "model": "--model",
    "mode": "--mode",
    "head": "--head",
    "views": "--views",
    "weights": "--weights",
    "pretrained": "--pretrained",
    "pretrain": "--pretrain",
    "unlabeled": "--unlabeled",
    "accept_leakage": "--accept-leakage",
}
"""Choices that have an option of their own, because other choices follow from them."""

_MADE = ("data", "expected_minutes")


def read_wishes(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` texts; a value is written as in ``plan.yaml``.

    Raises:
        PlanError: If a text is not of that form.

    Example:
        >>> read_wishes(["epochs=60", "image_size=[96, 128]"])
        {'epochs': 60, 'image_size': [96, 128]}
    """
    wishes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            wishes[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise PlanError(
                f"--set {key}", value, "a value is written as in plan.yaml", "correct it"
            ) from error
        if not equals:
            raise PlanError("--set", text, "it takes KEY=VALUE", "for example --set epochs=60")
    return wishes


def checked(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Check each wish by itself.

    Returns:
        The values in their own types.

    Raises:
        PlanError: For what is no choice (naming the nearest), for what other choices follow from
            (naming its option), and for an impossible value.
    """
    for name in wishes:
        if name in OPTIONS:
            raise PlanError(
                f"--set {name}",
                "it has an option of its own",
                "other choices follow from it",
                f"pass {OPTIONS[name]}",
            )
        if name not in Plan.model_fields or name in _MADE:
            free = [key for key in Plan.model_fields if key not in {*OPTIONS, *_MADE}]
            near = difflib.get_close_matches(name, free, n=1, cutoff=0.0)[0]
            raise PlanError(
                f"--set {name}",
                "not a choice of the plan",
                "its keys are those of plan.yaml",
                f"perhaps {near}",
            )
    return {name: parse_choice(name, value) for name, value in wishes.items()}


def stands_for(wish: Any, stands: Any) -> bool:
    """Tell whether a value of the plan grants a wish; of a mapping, its named parts count."""
    if isinstance(wish, Mapping) and isinstance(stands, Mapping):
        return all(name in stands and stands[name] == part for name, part in wish.items())
    return bool(wish == stands)
