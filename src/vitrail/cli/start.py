"""``run``, ``demo``, ``doctor``: everything at once, and where to begin."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vitrail.cli.options import AsJson, Debug, Folder, Manifest, Out, PatientFrom
from vitrail.cli.request import asks
from vitrail.cli.speaking import command_line, speaking
from vitrail.runfolder import RunFolder


@asks
def run(
    folder: Folder,
    *,
    out: Out,
    manifest: Manifest = None,
    patient_from: PatientFrom = "",
    request: Callable[[], Any],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do the main job: from a folder of pictures to a report.

    Does inspect, plan, train, evaluate, explain and report. Reads the pictures; writes the run
    folder. Running it again skips what is finished and goes on where it stopped.

    Example: `vitrail run ./tiles --out run1 --budget 15m`
    """
    with speaking(as_json=as_json, debug=debug, out=out) as (progress, show):
        from vitrail.pipeline.run import run as verb

        show(
            verb(
                RunFolder(out),
                folder,
                manifest=manifest,
                patient_from=patient_from,
                request=request(),
                command=command_line(),
                progress=progress,
            )
        )


def demo(
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")] = Path(
        "vitrail-demo"
    ),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Tiny: a check of the path, not of the numbers.")
    ] = False,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided", help="Generated DICOM series instead, and the guided classifier on them."
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Do the main job on generated chest-CT-like slices.

    Writes DIR/cohort (slices, one class with a planted nodule whose mask is known) and DIR/run
    with report.html, which shows the masks beside the maps. Five minutes on two cores.

    Example: `vitrail demo --out demo`
    """
    with speaking(as_json=as_json, debug=debug, out=out / "run") as (progress, show):
        if guided:
            from vitrail.pipeline.guided_demo import guided_demo as verb
        else:
            from vitrail.pipeline.demo import demo as verb

        show(verb(out, smoke=smoke, command=command_line(), progress=progress))


def doctor(*, as_json: AsJson = False, debug: Debug = False) -> None:
    """Say what this machine has, and what will be slow and why.

    Reads versions, cores, memory, GPU, codecs and local weights. Writes nothing.

    Example: `vitrail doctor`
    """
    with speaking(as_json=as_json, debug=debug, out=None) as (_, show):
        from vitrail.pipeline.doctor import doctor as verb

        show(verb())
