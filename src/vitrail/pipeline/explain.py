"""``vitrail explain``: one map a case, batch by batch, however many cases there are."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.data.cohort import load_cohort
from vitrail.data.loader import PictureDataset
from vitrail.data.raster import probe
from vitrail.data.stacks import VolumeDataset
from vitrail.evaluation.table import read_predictions
from vitrail.explain import Attribution, methods
from vitrail.explain.windows import explain_windows
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import Plan, read_plan
from vitrail.pipeline.closeup import look_closer
from vitrail.pipeline.guards import require_same_plan
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.pictures import keep
from vitrail.pipeline.scans import keep_montage, placement_facts, write_heatmap
from vitrail.pipeline.train import dataset
from vitrail.records import Cohort, Progress, SplitName, no_progress
from vitrail.runfolder import RunFolder, file_name, read_json

BATCH = 16
_BY_ATTENTION = ("rollout", "relevance")


def explain(
    run: RunFolder,
    *,
    method: str | None = None,
    everything: bool = False,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Write a map for each test case, and the attention of every layer and head for some.

    With cross-validation a case is explained by the model of the fold that did not train on it.
    Maps that are there already for the same weights are kept, so that a stopped run goes on where
    it stopped. Memory does not grow with the number of cases.

    Args:
        run: Holds the trained model.
        method: A method of :func:`vitrail.explain.methods`; None takes the plan's.
        everything: Every case of the cohort instead of the test cases.
        command: The exact command line.
        progress: Told of each batch.

    Raises:
        MethodError: If there is no such method, or the model cannot be explained by it.
        RunFolderError: If something is missing; the message names the verb that makes it.
    """
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    predictions = run.require(run.predictions, "evaluate")
    cohort = load_cohort(run.cohort)
    folds = crossvalidation.read(run, cohort, plan=plan)
    parts = [
        _Part(
            run.model("vit", seed=plan.seed.value, fold=fold),
            dataset(
                cohort,
                folds.explained(fold, everything=everything),
                plan=plan,
                part="test",
                cache=run.cache,
            ),
        )
        for fold in range(plan.folds.value)
    ]
    require_same_plan((part.folder for part in parts), plan)
    training = _training(run, cohort, folds=folds, plan=plan)
    described = [run.require(part.folder / bundle.DESCRIPTION, "train") for part in parts]
    shown = None if method == plan.explanation.value else method
    method = method or plan.explanation.value
    wanted = [
        maps for part in parts for maps in _wanted(part, predictions, method=method, folder=shown)
    ]
    name = "explain" if shown is None else f"explain {method}"
    return stage(
        name if not everything else f"{name} all",
        run,
        inputs=hash_of(method, *described, run.split, predictions),
        outputs=[path for maps in wanted for path in maps.paths(run).values()],
        work=lambda: _explain(
            run, cohort, parts=parts, training=training, wanted=wanted, progress=progress
        ),
        command=command,
    )


def _training(
    run: RunFolder, cohort: Cohort, *, folds: crossvalidation.Folds, plan: Plan
) -> PictureDataset:
    """Open what the first fold's model was trained on, without augmentation."""
    known: dict[str, SplitName] = {
        name: "test" if own == "train" else "" for name, own in folds.each[0].items()
    }
    return dataset(cohort, known, plan=plan, part="test", cache=run.cache)


@dataclass(frozen=True, slots=True)
class _Part:
    """A model's folder and the cases that it explains: those that its fold did not train on."""

    folder: Path
    cases: PictureDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maps:
    """The maps of one method for one target, by one model.

    Attributes:
        part: The model and its cases.
        method: Name of the method.
        target: What is explained: a class, or each case's predicted one.
        label: Name of the class that is explained; empty for the predicted one.
        folder: Where below ``explanations/``; None for the run's own maps.
        indices: The cases.
    """

    part: _Part
    method: str
    target: int | Literal["predicted"] = "predicted"
    label: str = ""
    folder: str | None
    indices: Sequence[int]

    def paths(self, run: RunFolder) -> dict[int, Path]:
        """Say where the map of each case lies."""
        names = {index: self.part.cases.cases[index].case_id for index in self.indices}
        return {index: run.explanation(name, method=self.folder) for index, name in names.items()}


def _wanted(part: _Part, predictions: Path, *, method: str, folder: str | None) -> Iterator[_Maps]:
    """List the maps of a method: of the predicted class, and of every positive label.

    Positive are the labels that a case has, and those that the model gives at least one half.
    """
    cases = part.cases
    yield _Maps(part=part, method=method, folder=folder, indices=range(len(cases)))
    known = methods().get(method)
    if not len(cases) or not cases.multi_label or known is None or not known.class_specific:
        return
    said = {
        name: row
        for one in read_predictions(predictions)
        if one.model == "vit"
        for name, row in zip(one.case_ids, one.probabilities, strict=True)
    }
    nothing = np.zeros(len(cases.classes))
    given = np.array([said.get(case.case_id, nothing) for case in cases.cases]) >= 0.5
    positive = given | np.array(cases.labels, dtype=bool)
    for place, label in enumerate(cases.classes):
        yield _Maps(
            part=part,
            method=method,
            target=place,
            label=label,
            folder=file_name(f"{method} of {label}"),
            indices=np.flatnonzero(positive[:, place]).tolist(),
        )


def _explain(
    run: RunFolder,
    cohort: Cohort,
    *,
    parts: Sequence[_Part],
    training: PictureDataset,
    wanted: Sequence[_Maps],
    progress: Progress,
) -> Result:
    """Explain what has no map yet, keep the pictures, then look closer at some cases."""
    todo = [(maps, _todo(run, maps)) for maps in wanted]
    method, written = wanted[0].method, sum(len(due) for _, due in todo)
    started = time.perf_counter()
    done = 0
    for part in parts:
        model, weights = bundle.load(part.folder).model, _weights(part.folder)
        for maps, due in todo:
            for indices, images in _batches(part.cases, due) if maps.part is part else ():
                attribution, heat = _explained(model, part.cases, indices, images=images, maps=maps)
                for place, index in enumerate(indices):
                    facts = _facts(part.cases, index, weights=weights) | {"label": maps.label}
                    one = replace(attribution[place], extra=facts)
                    path = maps.paths(run)[index]
                    if isinstance(part.cases, VolumeDataset):
                        write_heatmap(path, heat[place], cases=part.cases, index=index)
                    one.save(path)
                done += len(indices)
                progress(f"explain {method}", done=done, total=written)
    seconds = time.perf_counter() - started
    total = sum(len(maps.indices) for maps in wanted)
    said = [f"{method}: {written} maps written, {total - written} kept"]
    if written:
        said[0] += f", {written / seconds:.1f} pictures a second"
    for part in parts:
        _keep_pictures(run, cohort, part.cases)
    if wanted[0].folder is None and method in _BY_ATTENTION:
        said += look_closer(
            run, cohort, cases=parts[0].cases, training=training, folder=parts[0].folder
        )
    return {"method": method, "maps": total, "written": written, "summary": said}


def _explained(
    model: nn.Module,
    cases: PictureDataset,
    indices: Sequence[int],
    *,
    images: Float[Tensor, "batch channel height width"],
    maps: _Maps,
) -> tuple[Attribution, Float[np.ndarray, "batch window row column"]]:
    """Explain a batch; of volumes, every window of slices that has a vote."""
    windows = [images]
    if isinstance(cases, VolumeDataset):
        others = cases.votes()[1:]
        windows += [torch.stack([shown[index][0] for index in indices]) for shown in others]
    return explain_windows(model, windows, method=maps.method, target=maps.target)


def _todo(run: RunFolder, maps: _Maps) -> list[int]:
    """List the cases that have no map of these weights yet."""
    weights = _weights(maps.part.folder)
    paths = maps.paths(run)
    return [index for index, path in paths.items() if not _is_current(path, weights, maps=maps)]


def _keep_pictures(run: RunFolder, cohort: Cohort, cases: PictureDataset) -> None:
    """Keep the pictures that maps are shown over: of volumes, as the model was shown them."""
    if not isinstance(cases, VolumeDataset):
        keep(run, cohort, cases=cases.cases)
        return
    for index, case in enumerate(cases.cases):
        keep_montage(run, case.case_id, stack=cases.stack(index))


def _weights(folder: Path) -> str:
    """Return the hash of a stored model's weights."""
    content = cast("Mapping[str, Any]", read_json(folder / bundle.DESCRIPTION))
    return str(content["weights_sha256"])


def _is_current(path: Path, weights: str, *, maps: _Maps) -> bool:
    """Tell whether a map is there, whole, by this method, of this label and of these weights."""
    beside = path.with_suffix(".json")
    if not path.exists() or not beside.exists():
        return False
    content = cast("Mapping[str, Any]", read_json(beside))
    extra = content.get("extra", {})
    made_of = (content.get("method"), extra.get("label", ""), extra.get("weights_sha256"))
    return made_of == (maps.method, maps.label, weights)


def _facts(cases: PictureDataset, index: int, *, weights: str) -> dict[str, object]:
    """Say what a map belongs to: case, model, and how the picture became its input."""
    case = cases.cases[index]
    facts = {
        "case_id": case.case_id,
        "model": "vit",
        "weights_sha256": weights,
        "preprocessing": asdict(cases.preprocessing),
    }
    if isinstance(cases, VolumeDataset):
        return {**facts, **placement_facts(cases, index)}
    info = probe(cases.root / case.path)
    return {**facts, "source_size": [info.height, info.width]}


def _batches(
    cases: PictureDataset, indices: Sequence[int]
) -> Iterator[tuple[Sequence[int], Float[Tensor, "batch channel height width"]]]:
    """Yield some cases' indices and inputs, a batch at a time."""
    for start in range(0, len(indices), BATCH):
        part = indices[start : start + BATCH]
        yield part, torch.stack([cases[index][0] for index in part])
