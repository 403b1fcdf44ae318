"""``vitrail tune``: configurations of a run's plan, chosen on validation cases alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.errors import InputError, VitrailError
from vitrail.models.zoo import build
from vitrail.pipeline.choices import parse_plan, write_plan
from vitrail.pipeline.inspect import inspect
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.plan import plan
from vitrail.pipeline.request import Request
from vitrail.pipeline.trial import Tuned, configured, names
from vitrail.records import Progress, no_progress
from vitrail.report.tuning import figures, standalone
from vitrail.runfolder import RunFolder, write_json, write_text
from vitrail.tuning.optimism import optimism
from vitrail.tuning.space import grid, read_space
from vitrail.tuning.study import (
    Search,
    finished,
    importances,
    named,
    open_study,
    winner,
    work,
)

_SEEDS = 3
_FORMAT = "tuning-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How is tuned.

    Attributes:
        trials: How many configurations are drawn by TPE; 0 tries every combination.
        prune: Whether trials that lag behind are given up.
        storage: URL of a database; empty for one in the run folder.
        workers: Processes on this machine.
    """

    trials: int = 0
    prune: bool = False
    storage: str = ""
    workers: int = 1


def planned(
    run: RunFolder,
    pictures: Path,
    *,
    manifest: Path | None,
    request: Request,
    command: str,
    progress: Progress,
) -> RunFolder:
    """Inspect pictures and plan a run of them, before it is tuned."""
    inspect(run, pictures, manifest=manifest, command=command, progress=progress)
    plan(run, request, command=command, progress=progress)
    return run


def tune(
    run: RunFolder,
    words: Sequence[str],
    *,
    wish: Wish = Wish(),
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Try configurations of the plan and write ``tuning/study.json`` and ``tuning/plan.yaml``.

    Only training and validation cases are looked at. Killed and called again, it goes on: finished
    trials are kept, the running one resumes from its newest checkpoint.

    Args:
        run: Holds ``plan.yaml`` and ``split.csv``, and no trained models yet.
        words: What is tried, like ``patch=8,16,32`` or ``learning_rate=1e-4..1e-2``.
        wish: How.
        command: The exact command line.
        progress: Told of each trial, with the best so far.

    Raises:
        InputError: If a parameter is unknown, nothing is possible, or the storage is out of reach.
        RunFolderError: If the run is trained already, or the storage holds another study.
    """
    tuned = Tuned.open(run)
    search, skipped = search_of(tuned, words, wish=wish)
    study = open_study(search)
    helpers = _helpers(run, search, workers=wish.workers)

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        write_json(run.tuning, record_of(tuned, search, study=study, skipped=skipped))
        progress(stage, done=done, total=total, note=note)

    _share_cores(wish.workers)
    work(study, search, objective=tuned.objective(worker=0), progress=told)
    for helper in helpers:
        helper.join()
    content = record_of(tuned, search, study=study, skipped=skipped)
    write_json(run.tuning, content)
    _keep(tuned, content)
    for figure in figures(content):
        name = "-".join(figure.name.lower().split())
        write_text(run.tuning.parent / "figures" / f"{name}.svg", standalone(figure))
    return {"tuning": content, "summary": _sentences(content), "command": command}


def _helpers(run: RunFolder, search: Search, *, workers: int) -> list[SpawnProcess]:
    """Start the other workers of this machine."""
    spawn = get_context("spawn")
    helpers = [
        spawn.Process(target=_help, args=(run.root, search, worker, workers), daemon=True)
        for worker in range(1, workers)
    ]
    for helper in helpers:
        helper.start()
    return helpers


def _share_cores(workers: int) -> None:
    """Let the workers of one machine share its cores."""
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def _help(root: Path, search: Search, worker: int, workers: int) -> None:
    """Work on the study beside the first worker, in a process of its own."""
    _share_cores(workers)
    tuned = Tuned.open(RunFolder(root))
    work(open_study(search, worker=worker), search, objective=tuned.objective(worker=worker))


def search_of(
    tuned: Tuned, words: Sequence[str], *, wish: Wish
) -> tuple[Search, list[dict[str, Any]]]:
    """Read what is searched; impossible combinations are named and left out."""
    axes = read_space(words, known=names(tuned.plan))
    storage = wish.storage or f"sqlite:///{tuned.place.resolve() / 'study.db'}"
    tuned.place.mkdir(parents=True, exist_ok=True)
    search = Search(
        axes=axes,
        trials=wish.trials,
        prune=wish.prune,
        storage=storage,
        seed=tuned.plan.seed.value,
        plan=tuned.plan.fingerprint(),
    )
    if wish.trials:
        return search, []
    why = [(point, _impossible(tuned, point)) for point in grid(axes)]
    points = tuple(point for point, reason in why if not reason)
    if not points:
        first, reason = why[0]
        came = f"none of {len(why)} combinations is possible, like {named(first)}"
        raise InputError("parameters", came, reason, "name other values")
    skipped = [{"parameters": point, "reason": reason} for point, reason in why if reason]
    return replace(search, points=points), skipped


def _impossible(tuned: Tuned, parameters: Mapping[str, Any]) -> str:
    """Say why a configuration cannot be built; empty where it can."""
    try:
        _, training = tuned.training(parameters, folder=tuned.run.root)
        build(training.spec)
    except VitrailError as error:
        return f"{error.argument}: {error.came}; {error.rule}"
    return ""


def record_of(
    tuned: Tuned, search: Search, *, study: Any, skipped: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Make what ``tuning/study.json`` holds."""
    trials = finished(study)
    best = winner(trials)
    results = [tuned.result(trial.parameters) for trial in trials]
    return {
        "format": _FORMAT,
        "metric": next((one["metric"] for one in results if one), "roc_auc_score"),
        "axes": [
            {**asdict(axis), "values": list(axis.values), "logarithmic": axis.is_logarithmic}
            for axis in search.axes
        ],
        "wanted": search.wanted,
        "configurations_tried": max(1, len(trials)),
        "given_up": sum(trial.given_up for trial in trials),
        "skipped": list(skipped),
        "trials": [
            {
                "number": trial.number,
                "parameters": dict(trial.parameters),
                "value": None if trial.value != trial.value else trial.value,
                "given_up": trial.given_up,
                "curve": [list(point) for point in trial.curve],
                "seconds": round(trial.seconds, 1),
            }
            for trial in trials
        ],
        "chosen": None if best is None else best.number,
        "importances": importances(study),
        "optimism": _optimism(tuned, results),
        "commands": _commands(tuned.run),
    }


def _optimism(tuned: Tuned, results: Sequence[dict[str, Any] | None]) -> dict[str, float] | None:
    """Estimate how much too good the chosen configuration looks on its validation cases."""
    known = [one for one in results if one and np.ndim(one["y_true"]) == 1]
    if len(known) < 2:
        return None
    groups = np.array([tuned.folds.groups[name] for name in known[0]["cases"]])
    return optimism(
        np.array(known[0]["y_true"]),
        [np.array(one["probabilities"]) for one in known],
        clusters=np.unique(groups, return_inverse=True)[1].astype(np.int64),
        seed=tuned.plan.seed.value,
    )


def _keep(tuned: Tuned, content: Mapping[str, Any]) -> None:
    """Write the chosen plan, with at least three seeds, so that its spread is known."""
    best = next((t for t in content["trials"] if t["number"] == content["chosen"]), None)
    if best is None:
        return
    chosen = configured(tuned.plan, best["parameters"]).model_dump(mode="json")
    count = max(_SEEDS, tuned.plan.seeds.value)
    chosen["seeds"] = {"value": count, "reason": "the spread of what was tuned over its seeds"}
    write_plan(tuned.run.tuning.with_name("plan.yaml"), parse_plan(chosen, name="vitrail tune"))


def _commands(run: RunFolder) -> list[str]:
    """Give the commands that train and evaluate what was chosen."""
    root = run.root
    verbs = ("train", "evaluate", "explain", "report")
    chosen = run.tuning.with_name("plan.yaml")
    return [f"cp {chosen} {run.plan}", *(f"vitrail {verb} {root}" for verb in verbs)]


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what was found, what it is worth, and what to do next."""
    tried, left_out = content["configurations_tried"], len(content["skipped"])
    said = [f"{tried} configurations tried by validation {content['metric']}"]
    if content["given_up"]:
        said.append(f"{content['given_up']} of them given up early")
    if left_out:
        first = content["skipped"][0]
        example = f"{named(first['parameters'])} ({first['reason']})"
        said.append(f"{left_out} impossible combinations left out, like {example}")
    best = next((t for t in content["trials"] if t["number"] == content["chosen"]), None)
    if best is None:
        return [*said, "no configuration was trained to its end"]
    said.append(f"chosen: {named(best['parameters'])}, {best['value']:.4f} on validation cases")
    if content["optimism"]:
        one = content["optimism"]
        said.append(
            f"the best of many looks too good on the cases that chose it: about "
            f"{one['corrected']:.3f} is to be expected, {one['optimism']:.3f} less"
        )
    said.append("the test set was not opened; train and evaluate the chosen one:")
    return [*said, *content["commands"]]
