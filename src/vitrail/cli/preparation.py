"""``inspect``, ``plan``, ``train``: from pictures to a trained model."""

from collections.abc import Callable
from typing import Any

from vitrail.cli.options import AsJson, Debug, Folder, Manifest, Out, PatientFrom, Run
from vitrail.cli.request import asks
from vitrail.cli.speaking import command_line, speaking
from vitrail.runfolder import RunFolder


def inspect(
    folder: Folder,
    *,
    out: Out,
    manifest: Manifest = None,
    patient_from: PatientFrom = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Look at the pictures before anything is trained.

    Reads every picture once. Writes cohort.csv and audit.json: counts, unreadable
    files (left out from then on), duplicates, leaks across a given split, and shortcuts.

    Example: `vitrail inspect ./tiles --out run1`
    """
    with speaking(as_json=as_json, debug=debug, out=out) as (progress, show):
        from vitrail.pipeline.inspect import inspect as verb

        show(
            verb(
                RunFolder(out),
                folder,
                manifest=manifest,
                patient_from=patient_from,
                command=command_line(),
                progress=progress,
            )
        )


@asks
def plan(
    run: Run,
    *,
    request: Callable[[], Any],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Choose input size, model, epochs and the rest, with reasons.

    Reads cohort.csv and audit.json, and times a few training steps on this machine. Writes
    split.csv and plan.yaml: edit any value in it, then run `vitrail train`.

    Example: `vitrail plan run1 --budget 15m`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.plan import plan as verb

        show(verb(RunFolder(run), request(), command=command_line(), progress=progress))


def train(run: Run, *, as_json: AsJson = False, debug: Debug = False) -> None:
    """Train the transformer, and a CNN of like cost beside it.

    Reads plan.yaml, cohort.csv and split.csv. Writes models/ (weights, curves, checkpoints). The
    best epoch is chosen by validation, never by test. Stop it any time with Ctrl-C; the same
    command goes on at the newest checkpoint. Where the plan names a network under `guided`
    (`--model guided`), the guided classifier is trained behind the two, as by `vitrail guided`.

    Example: `vitrail train run1`
    """
    with speaking(as_json=as_json, debug=debug, out=run) as (progress, show):
        from vitrail.pipeline.guided import train as verb

        show(verb(RunFolder(run), command=command_line(), progress=progress))
