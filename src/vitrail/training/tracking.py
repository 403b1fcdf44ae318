"""Curves in TensorBoard, MLflow or Weights & Biases, where one of them is asked for."""

from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import KwargsHandler, LoggerType

from vitrail.errors import InputError
from vitrail.training.machine import meets_on_cpu

_NAMING = 5
"""Parts of a training's folder that name its run: run/models/<name>/seed<k>/fold<k>."""


def tracked(tracker: str | None, folder: Path, *, handler: KwargsHandler) -> Accelerator:
    """Make the accelerator of a training, with its tracker if one is asked for.

    Args:
        tracker: Name of one of accelerate's trackers; None for none.
        folder: Of the training; a tracker that writes files writes them below it.
        handler: Of accelerate's, for several processes.

    Raises:
        InputError: If there is no such tracker, or its package is missing.
    """
    if tracker is None:
        return Accelerator(cpu=meets_on_cpu(), kwargs_handlers=[handler])
    known = [str(one.value) for one in LoggerType if one is not LoggerType.ALL]
    if tracker not in known:
        raise InputError(
            "tracker", repr(tracker), f"known are {', '.join(known)}", "choose one, or leave it out"
        )
    if tracker not in {str(one.value) for one in get_available_trackers()}:
        raise InputError(
            "tracker", tracker, "its package must be installed", f"pip install {tracker}"
        )
    accelerator = Accelerator(
        cpu=meets_on_cpu(),
        kwargs_handlers=[handler],
        log_with=tracker,
        project_dir=folder / "tracker",
    )
    name = "/".join(part for part in folder.resolve().parts[-_NAMING:] if part != "models")
    here = {"wandb": {"name": name, "dir": str(folder / "tracker")}, "mlflow": {"run_name": name}}
    accelerator.init_trackers("vitrail", init_kwargs=here)
    return accelerator
