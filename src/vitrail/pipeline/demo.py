"""``vitrail demo``: the main job on generated chest slices whose truth is known."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.data.phantom import chest_slices
from vitrail.models.zoo import CNN_LADDER, SMALL_VIT
from vitrail.pipeline.choices import Choice, read_plan, write_plan
from vitrail.pipeline.inspect import inspect
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.plan import plan
from vitrail.pipeline.request import Request
from vitrail.pipeline.run import run
from vitrail.records import Progress, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json

_log = logging.getLogger("vitrail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a demo is.

    Attributes:
        cases: Slices that are drawn, two of each patient.
        image_size: Rows and columns of a drawn slice and of the model's input, in pixels.
        batch_size: Slices a step.
        epochs: Of the model.
        baseline_epochs: Of the baseline.
        model_parameters: What differs from the usual small transformer.
    """

    cases: int
    image_size: int
    batch_size: int
    epochs: int
    baseline_epochs: int
    model_parameters: dict[str, Any]


FULL = Size(
    cases=1200,
    image_size=96,
    batch_size=16,
    epochs=20,
    baseline_epochs=6,
    model_parameters={"embed_dim": 64, "depth": 4, "conv_stem": True},
)
_GOAL_MINUTES = 5.0  # on two cores; not timed on the machine at hand

SMOKE = Size(
    cases=40,
    image_size=64,
    batch_size=16,
    epochs=1,
    baseline_epochs=1,
    model_parameters={"embed_dim": 32, "depth": 2, "num_heads": 2},
)


def demo(
    out: Path, *, smoke: bool = False, command: str = "", progress: Progress = no_progress
) -> Result:
    """Draw a cohort, and take it from the folder to the report.

    Args:
        out: Gets ``cohort`` (the slices and masks) and ``run`` (the run folder).
        smoke: A tiny one, that checks the path and not the numbers.
        command: The exact command line.
        progress: Told of everything long.
    """
    size = SMOKE if smoke else FULL
    pictures, folder = out / "cohort", RunFolder(out / "run")
    _draw(pictures, size, progress=progress)
    manifest = pictures / "manifest.csv"
    inspect(folder, pictures, manifest=manifest, command=command, progress=progress)
    # The demo's own choices follow; a slow machine must not refuse the plan before them.
    plan(folder, Request(budget_minutes=600.0), command=command, progress=progress)
    _edit_plan(folder, size)
    return run(folder, pictures, manifest=manifest, command=command, progress=progress)


def _draw(pictures: Path, size: Size, *, progress: Progress) -> None:
    """Draw the slices, unless they were drawn before."""
    drawn = pictures / "drawn.json"
    wanted = {"cases": size.cases, "image_size": size.image_size}
    if drawn.exists() and read_json(drawn) == wanted:
        _log.info("demo: the slices are drawn already")
        return
    chest_slices(
        pictures,
        cases=size.cases,
        seed=0,
        image_size=size.image_size,
        slices_a_patient=2,
        progress=progress,
    )
    write_json(drawn, wanted)


def _edit_plan(folder: RunFolder, size: Size) -> None:
    """Write the demo's own choices into the plan, as a person would."""
    made = read_plan(folder.plan)
    reason = "the demo's own, the same on every machine"
    parameters = {**SMALL_VIT, "patch_size": 8, **size.model_parameters}
    baseline, baseline_parameters = CNN_LADDER[0]
    edits = {
        "image_size": (size.image_size, size.image_size),
        "model_parameters": parameters,
        "baseline": baseline,
        "baseline_parameters": dict(baseline_parameters),
        "batch_size": size.batch_size,
        "epochs": size.epochs,
        "baseline_epochs": size.baseline_epochs,
        "budget_minutes": _GOAL_MINUTES,
        "expected_minutes": {"total": _GOAL_MINUTES},
    }
    choices = {name: Choice(value=value, reason=reason) for name, value in edits.items()}
    edited = made.model_copy(update=choices)
    if edited.fingerprint() != made.fingerprint():
        write_plan(folder.plan, edited)
