"""``vitrail demo --guided``: the two-stage classifier on generated chests, from DICOM on."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.data.thorax import chest_volumes
from vitrail.models.zoo import CNN_LADDER, SMALL_VIT
from vitrail.pipeline.explain import explain
from vitrail.pipeline.guided import Wanted, guided
from vitrail.pipeline.inspect import inspect
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.plan import plan
from vitrail.pipeline.report import report
from vitrail.pipeline.request import Request
from vitrail.pipeline.train import train
from vitrail.records import Progress, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json

_log = logging.getLogger("vitrail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the demo is.

    Attributes:
        cases: Generated patients.
        shape: Slices, rows and columns of a scan.
        spacing_mm: Of (slices, rows, columns).
        difficulty: Of the phenotypes.
        tile_px: Rows and columns of a slice in the montage.
        folds: Of the cross-validation.
        epochs: Of stage one.
        baseline_epochs: Of the networks of stage two.
        seeds: Trainings of guided, no map and random map.
        ablate: Whether every control is trained, and both stages together as well.
    """

    cases: int
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    difficulty: float
    tile_px: int
    folds: int
    epochs: int
    baseline_epochs: int
    seeds: int
    ablate: bool


FULL = Size(
    cases=60,
    shape=(28, 112, 112),
    spacing_mm=(2.0, 1.6, 1.6),
    difficulty=0.2,
    tile_px=32,
    folds=5,
    epochs=50,
    baseline_epochs=30,
    seeds=1,
    ablate=True,
)

SMOKE = Size(
    cases=20,
    shape=(12, 40, 40),
    spacing_mm=(5.0, 5.0, 5.0),
    difficulty=0.0,
    tile_px=16,
    folds=2,
    epochs=1,
    baseline_epochs=1,
    seeds=1,
    ablate=False,
)


def guided_demo(
    out: Path, *, smoke: bool = False, command: str = "", progress: Progress = no_progress
) -> Result:
    """Draw chests with two phenotypes of nodule, and take them from DICOM to the guided study.

    Args:
        out: Gets ``cohort`` (DICOM series, masks, truth) and ``run`` (the run folder).
        smoke: A tiny one, that checks the path and not the numbers.
        command: The exact command line.
        progress: Told of everything long.
    """
    size = SMOKE if smoke else FULL
    scans, folder = out / "cohort", RunFolder(out / "run")
    _draw(scans, size, progress=progress)
    request = Request(budget_minutes=600.0, folds=size.folds, choices=_choices(size))
    told: dict[str, Any] = {"command": command, "progress": progress}
    inspect(folder, scans, manifest=scans / "manifest.csv", **told)
    plan(folder, request, **told)
    train(folder, **told)
    wanted = Wanted(
        classifier="plan",
        ablate=size.ablate,
        seeds=size.seeds,
        end_to_end=size.ablate,
    )
    study = guided(folder, wanted, **told)
    explain(folder, **told)
    done = report(folder, **told)
    return {
        "run": str(folder.root),
        "report": str(folder.report),
        "guided": study,
        "summary": [*study["summary"], *done["summary"]],
    }


def _choices(size: Size) -> dict[str, Any]:
    """Return the demo's own choices, the same on every machine."""
    baseline, parameters = CNN_LADDER[0]
    return {
        "image_size": [3 * size.tile_px, 3 * size.tile_px],
        "volume": {"window": "mediastinum_wide", "tile_px": size.tile_px, "crop": "mask"},
        "model_parameters": {**SMALL_VIT, "patch_size": 8, "embed_dim": 64, "depth": 3},
        "epochs": size.epochs,
        "baseline": baseline,
        "baseline_parameters": dict(parameters),
        "baseline_epochs": size.baseline_epochs,
        "baseline_learning_rate": 3e-3,
        "batch_size": 16,
    }


def _draw(scans: Path, size: Size, *, progress: Progress) -> None:
    """Draw the chests, unless they were drawn before."""
    drawn = scans / "drawn.json"
    wanted = {"cases": size.cases, "shape": list(size.shape), "difficulty": size.difficulty}
    if drawn.exists() and read_json(drawn) == wanted:
        _log.info("demo: the chests are drawn already")
        return
    chest_volumes(
        scans,
        cases=size.cases,
        seed=0,
        shape=size.shape,
        spacing_mm=size.spacing_mm,
        difficulty=size.difficulty,
        progress=progress,
    )
    write_json(drawn, wanted)
