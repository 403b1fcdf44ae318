"""``vitrail conformance``: do explainers, ours or anyone's, point at a cause that was planted?"""

import importlib
import sys
from math import isfinite
from pathlib import Path

from vitrail.errors import InputError
from vitrail.explain.registry import find_method
from vitrail.faithfulness.conformance import CONFORMS, SEED, Conformance, Explainer, conformance
from vitrail.faithfulness.planted import LARGEST_MOTIF, STEPS, Evidence, plant
from vitrail.faithfulness.planted import train_tiny_vit as train
from vitrail.pipeline.ledger import Result
from vitrail.records import Progress, no_progress

CASES = 100


def judge_explainers(
    explainer: str = "",
    *,
    methods: str = "",
    cases: int = CASES,
    largest: int = LARGEST_MOTIF,
    evidence: Evidence = "amount",
    seed: int = 0,
    steps: int = STEPS,
    progress: Progress = no_progress,
) -> Result:
    """Train the tiny ViT, and judge all methods and controls, and one explainer more.

    Args:
        explainer: ``path.to:function`` of (model, images, class) → maps on the patch grid.
        methods: Names in :func:`vitrail.explain.methods` with commas between; empty is all.
        cases: Pictures.
        largest: Largest side of a motif in patches.
        evidence: What a label means, see :mod:`vitrail.faithfulness.planted`.
        seed: Of the model's weights and of the pictures that it learns from.
        steps: Of the training.
        progress: Told of every step.

    Raises:
        InputError: If the explainer cannot be found or returns something else.
        MethodError: If there is no such method.
    """
    explainers = {explainer: find(explainer)} if explainer else {}
    names = [find_method(name.strip()).name for name in methods.split(",")] if methods else None
    model = train(seed=seed, steps=steps, evidence=evidence, progress=progress)
    pictures = plant(cases, seed=SEED, largest=largest)
    rows = conformance(model, pictures, methods=names, explainers=explainers, progress=progress)
    return {
        "rows": [row.to_json() for row in rows],
        "cases": cases,
        "largest": largest,
        "evidence": evidence,
        "seed": seed,
        "conforms_at": CONFORMS,
        "summary": table(rows),
    }


def find(name: str) -> Explainer:
    """Import an explainer.

    Raises:
        InputError: If there is no such module or function.
    """
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "explainer",
            f"{name!r} ({error})",
            "it must be path.to:function",
            "give the module's importable name, a colon, and the function's name",
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise InputError("explainer", f"{name!r}", "it must be callable", "name a function")
    explainer: Explainer = found
    return explainer


def table(rows: tuple[Conformance, ...]) -> list[str]:
    """Write the table for people."""
    said = [f"{'explainer':26}{'pointing':>22}{'average precision':>22}{'right class':>22}"]
    for row in rows:
        cells = [
            f"{cell.value:.3f}"
            + (f" ({cell.low:.3f} {cell.high:.3f})" if isfinite(cell.low) else "")
            for cell in (row.pointing, row.average_precision, row.right_class)
        ]
        fate = "control" if row.is_control else "conforms" if row.conforms else "does not conform"
        said.append(f"{row.name:26}{''.join(f'{cell:>22}' for cell in cells)}  {fate}")
        if row.known_mistake:
            said.append(f"{row.name} is {row.known_mistake}: a known mistake, see docs")
    return said
