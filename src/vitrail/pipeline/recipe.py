"""``vitrail recipe``: the founding systems repeated, on their data or on a generated stand-in."""

import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save

from vitrail.data.catalog import find
from vitrail.data.cohort import read_folder
from vitrail.data.deal import chosen, deal, write_list
from vitrail.data.histology import tissue_tiles
from vitrail.data.manifest import read_manifest
from vitrail.data.phantom import chest_slices
from vitrail.data.thorax import chest_volumes
from vitrail.errors import InputError, RunFolderError
from vitrail.models.zoo import ModelSpec, build
from vitrail.pipeline.ledger import Result
from vitrail.records import Cohort, Progress, no_progress
from vitrail.runfolder import read_json, write_bytes, write_json
from vitrail.tuning.recipes import Listing, Phantom, Recipe, Size, Step, find_recipe, recipes

LEDGER = "recipe.json"
MANIFEST = "manifest.csv"
_SPEED = " pictures a second ("
_FOLDS = 5

Execute = Callable[[Sequence[str]], Mapping[str, Any]]
"""Runs the words of a ``vitrail`` command and returns its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a recipe is run on.

    Attributes:
        data: Folder of the real data; None for a stand-in.
        manifest: CSV that lists them and is taken as it is; None where the recipe deals them.
        weights: Local weights in the place of downloaded ones.
        smoke: Whether only the path is checked, on a tiny stand-in.
    """

    data: Path | None = None
    manifest: Path | None = None
    weights: Path | None = None
    smoke: bool = False

    @property
    def size(self) -> Size:
        """Which of a recipe's values serve."""
        return "smoke" if self.smoke else "phantom" if self.data is None else "real"


def list_recipes() -> Result:
    """List the recipes."""
    rows = [{"name": one.name, "title": one.title, "data": one.data} for one in recipes()]
    said = [f"{one.name:<22} {one.title}" for one in recipes()]
    said.append("`vitrail recipe show NAME` tells data, cost, published numbers and every command")
    return {"recipes": rows, "summary": said}


def show_recipe(name: str) -> Result:
    """Show a recipe: its card and its commands."""
    recipe = find_recipe(name)
    steps = recipe.commands(_shown(recipe), size="real")
    said = [recipe.title, f"built: {recipe.system}", *_data_card(recipe)]
    said += [f"published: {number}" for number in recipe.published] or ["published: nothing"]
    said += [f"its fault: {recipe.fault}"]
    said += [f"ours: {number}" for number in recipe.ours] or ["ours: not run here"]
    said += [f"cost: {recipe.cost}", "the commands, on the real data:"]
    for step in steps:
        said += [f"  # {step.about}", f"  {step.run}"]
    said.append(f"all of them: vitrail recipe run {name} --data DIR --out OUT")
    said.append(f"without the data: vitrail recipe run {name} --phantom (the path, not the number)")
    commands = [step.run for step in steps]
    return {**recipe.model_dump(mode="json"), "commands": commands, "summary": said}


def _shown(recipe: Recipe) -> dict[str, str]:
    """Stand words for what only a run knows."""
    lists = {
        name: f"DIR --manifest OUT/{name}.csv{listing.options}"
        for name, listing in recipe.lists.items()
    }
    return {
        "out": "OUT",
        "cohort": "DIR",
        "picture": "PICTURE",
        "left_out": "--hold-out-sites",
        **lists,
    }


def _data_card(recipe: Recipe) -> list[str]:
    """Say what the data are, how to get them, and what is wrong with them."""
    if not recipe.data:
        return [f"data: {recipe.get}"]
    card, _ = find(recipe.data)
    said = [f"data: {card.title}; {card.cases} pictures; licence {card.licence}"]
    said.append(f"get them: {card.account}" if card.account else f"vitrail fetch {card.name}")
    return said + [f"known fault: {fault}" for fault in card.faults]


def prepare(
    name: str, source: Source, *, out: Path, progress: Progress = no_progress
) -> list[Step]:
    """Draw the stand-in if need be, deal the lists, and fill the commands in.

    Args:
        name: Of the recipe.
        source: What it is run on.
        out: Takes everything.
        progress: Told of what is drawn.

    Returns:
        The steps that are not finished yet.

    Raises:
        InputError: If there is no such recipe, or no data.
        RunFolderError: If ``out`` holds the same recipe on other data.
    """
    recipe = find_recipe(name)
    about = {"recipe": name, "data": str(source.data or "a generated stand-in")}
    about |= {"size": source.size, "manifest": str(source.manifest or "")}
    ledger = _ledger(out)
    if ledger and {key: ledger.get(key) for key in about} != about:
        came = f"it holds {ledger['recipe']} on {ledger['data']} ({ledger['size']})"
        raise RunFolderError(str(out), came, "a folder keeps one recipe", "pass another --out")
    if source.data is None:
        folder = out / "data"
        _draw(recipe.phantom, folder, smoke=source.smoke, progress=progress)
        if recipe.stand_in_weights and not source.weights:
            _stand_in_weights(recipe.stand_in_weights, out / "stand-in.safetensors")
    else:
        folder = source.data
        if not folder.is_dir():
            raise InputError("--data", str(folder), "it is a folder", "see recipe show")
        folder = _fetched(recipe, folder)
    steps = recipe.commands(_known(recipe, source, folder, out=out), size=source.size)
    write_json(out / LEDGER, {**about, "steps": ledger.get("steps", [])})
    done = {one["command"] for one in ledger.get("steps", [])}
    return [step for step in steps if step.run not in done]


def _fetched(recipe: Recipe, folder: Path) -> Path:
    """Find the pictures in a folder that ``vitrail fetch`` filled."""
    inside = folder / find(recipe.data)[0].run if recipe.data else folder
    return inside if inside.is_dir() else folder


def _ledger(out: Path) -> dict[str, Any]:
    """Read what an earlier call finished."""
    path = out / LEDGER
    return cast("dict[str, Any]", read_json(path)) if path.exists() else {}


def _known(recipe: Recipe, source: Source, folder: Path, *, out: Path) -> dict[str, str]:
    """Say what the names in a recipe's commands stand for."""
    manifest = source.manifest
    if manifest is None and (folder / MANIFEST).exists():
        manifest = folder / MANIFEST
    cohort = read_folder(folder) if manifest is None else read_manifest(manifest)
    listed = f" --manifest {shlex.quote(str(manifest))}" if manifest else ""
    here = f"{shlex.quote(str(folder))}{listed}"
    known = {"out": shlex.quote(str(out)), "cohort": here}
    sites = {case.site for case in cohort}
    for name, listing in recipe.lists.items():
        path = out / f"{name}.csv"
        if source.manifest is None:
            _deal(path, cohort, listing)
            sites |= {"dealt"} if listing.site else set()
        told = f"{shlex.quote(str(folder))} --manifest {shlex.quote(str(path))}{listing.options}"
        known[name] = here if source.manifest is not None else told
    known["left_out"] = "--hold-out-sites" if len(sites) > 1 else f"--folds {_FOLDS}"
    known["picture"] = shlex.quote(str(cohort.root / cohort.cases[0].path))
    if source.weights:
        known["weights"] = f"--weights {shlex.quote(str(source.weights))}"
    return known


def _deal(path: Path, cohort: Cohort, listing: Listing) -> None:
    """Write one list of a recipe."""
    parts = None
    if listing.test:
        parts = deal(
            chosen(cohort, listing.classes),
            test=listing.test,
            validation=listing.validation,
            by_class=listing.by_class,
        )
    write_list(path, cohort, classes=listing.classes, site=listing.site, parts=parts)


def _draw(phantom: Phantom, folder: Path, *, smoke: bool, progress: Progress) -> None:
    """Draw a stand-in, unless it was drawn before."""
    if (folder / "truth.json").exists():
        return
    stated = phantom.smoke if smoke else phantom.real
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()
    }
    if phantom.draws == "slices":
        chest_slices(folder, slices_a_patient=2, progress=progress, **given)
    elif phantom.draws == "tiles":
        tissue_tiles(folder, progress=progress, **given)
    else:
        chest_volumes(folder, seed=0, progress=progress, **given)


def _stand_in_weights(architecture: str, path: Path) -> None:
    """Write random weights of a published architecture."""
    if path.exists():
        return
    spec = ModelSpec(
        architecture=architecture, num_classes=1000, in_chans=3, img_size=(224, 224), parameters={}
    )
    model = build(spec, seed=0)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_bytes(path, save(cast("dict[str, torch.Tensor]", tensors)))


def perform(step: Step, execute: Execute, *, out: Path) -> Mapping[str, Any]:
    """Execute one step and keep that it is finished.

    Args:
        step: The step; its command is one of ``vitrail``, or ``cp FROM TO``.
        execute: Runs a command of ``vitrail``.
        out: The recipe's folder.

    Returns:
        The command's result.
    """
    started = time.perf_counter()
    program, *words = shlex.split(step.run)
    if program == "cp":
        shutil.copy(*words)
        result: Mapping[str, Any] = {"summary": []}
    else:
        result = execute(words)
    seconds = round(time.perf_counter() - started, 1)
    entry = {"command": step.run, "seconds": seconds, "summary": result["summary"]}
    ledger = _ledger(out)
    write_json(out / LEDGER, {**ledger, "steps": [*ledger["steps"], entry]})
    return result


def _reached(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Repeat what the steps said of test cases and of speed, each with its run."""
    said = []
    for step in steps:
        words = shlex.split(step["command"])
        run = Path(words[words.index("--out") + 1] if "--out" in words else words[2]).name
        told = (one for one in step["summary"] if one.startswith("test ") or _SPEED in one)
        said += [f"{run}: {sentence}" for sentence in told]
    return said


def finish(name: str, *, out: Path) -> Result:
    """Tell what a recipe that was run leaves beside what was published."""
    recipe, ledger = find_recipe(name), _ledger(out)
    minutes = sum(step["seconds"] for step in ledger["steps"]) / 60
    said = [f"{name}: {len(ledger['steps'])} commands in {minutes:.1f} minutes, all in {out}"]
    said += [f"published: {number}" for number in recipe.published]
    said += [f"its fault: {recipe.fault}"]
    if ledger["size"] == "real":
        said += [f"ours: {sentence}" for sentence in _reached(ledger["steps"])]
    else:
        said.append(
            "here a generated stand-in was used: the path is proven, the number is not run here"
        )
    said += [f"see {path}" for path in sorted(out.glob("*/report.html"))]
    return {**ledger, "published": recipe.published, "fault": recipe.fault, "summary": said}
