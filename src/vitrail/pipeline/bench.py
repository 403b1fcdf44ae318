"""``vitrail bench``: which explanation can be trusted on the trained model, in its own numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import nn

from vitrail.data.cohort import load_cohort
from vitrail.data.loader import PictureDataset
from vitrail.data.raster import read_stored
from vitrail.data.split import analysis_unit
from vitrail.data.stacks import VolumeDataset
from vitrail.errors import InputError
from vitrail.faithfulness.bench import METHODS, bench
from vitrail.faithfulness.imputers import IMPUTERS, Hiding, Imputer
from vitrail.faithfulness.interval import span
from vitrail.faithfulness.record import Bench
from vitrail.faithfulness.suite import RUN, TESTS, BenchSettings
from vitrail.models import bundle
from vitrail.pipeline import crossvalidation
from vitrail.pipeline.choices import read_plan
from vitrail.pipeline.guards import require_same_plan
from vitrail.pipeline.ledger import Result, hash_of, require_run, stage
from vitrail.pipeline.train import dataset
from vitrail.records import Preprocessing, Progress, no_progress
from vitrail.runfolder import RunFolder, file_name, read_json, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be tested.

    Attributes:
        methods: Names in :func:`vitrail.explain.methods`.
        tests: Among :data:`~vitrail.faithfulness.suite.RUN`.
        imputers: What stands where a patch was; the first one serves all tests that hide.
        target: Whether the class explained is the predicted one or the label.
        cases: Test cases at most, drawn at random.
        budget_s: Seconds that it may take; cases are left out to fit. None is no limit.
        thorough: As of :class:`~vitrail.faithfulness.suite.BenchSettings`.
    """

    methods: tuple[str, ...] = METHODS
    tests: tuple[str, ...] = TESTS
    imputers: tuple[Imputer, ...] = BenchSettings().imputers
    target: Literal["predicted", "label"] = "predicted"
    cases: int = 100
    budget_s: float | None = None
    thorough: bool = False

    @classmethod
    def read(cls, *, budget_minutes: float | None, **words: str | int | bool) -> "Asked":
        """Read the command line's words: names with commas between, the default where empty.

        Raises:
            InputError: If there is no such imputer.
        """
        given: dict[str, Any] = {name: word for name, word in words.items() if word}
        for name in {"methods", "tests", "imputers"} & set(given):
            given[name] = tuple(given[name].replace(" ", "").split(","))
        for name in given.get("imputers", ()):
            if name not in IMPUTERS:
                rule = f"known are {', '.join(IMPUTERS)}"
                raise InputError("--imputers", repr(name), rule, "choose among them")
        if given.get("tests") == ("all",):
            given["tests"] = tuple(RUN)
        seconds = None if budget_minutes is None else 60 * budget_minutes
        return cls(budget_s=seconds, **given)


def bench_run(
    run: RunFolder,
    asked: Asked = Asked(),
    *,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Test explanation methods on the run's Vision Transformer, and write ``faithfulness.json``.

    Each map that is in the run folder already gets its trust strip.

    Args:
        run: Holds the trained model.
        asked: Methods, cases, time.
        command: The exact command line.
        progress: Told of every test.

    Raises:
        RunFolderError: If something is missing; the message names the verb that makes it.
        InputError: If no method can serve the model, or no test case has a label to explain.
    """
    require_run(run)
    plan = read_plan(run.require(run.plan, "plan"))
    folder = run.model("vit", seed=plan.seed.value)
    description = run.require(folder / bundle.DESCRIPTION, "train")
    require_same_plan([folder], plan)
    cohort = load_cohort(run.cohort)
    folds = crossvalidation.read(run, cohort, plan=plan)
    groups = folds.groups
    tested = dataset(cohort, folds.each[0], plan=plan, part="test", cache=run.cache)

    questions = _questions(tested, asked)
    if not questions:
        raise InputError(
            "--target",
            f"{asked.target!r} of {len(tested)} test cases",
            "there must be a test case that has a label",
            "pass --target predicted, or give the test part cases",
        )

    def work() -> Result:
        model = bundle.load(folder).model
        found = _tested(
            tested, model, questions=questions, groups=groups, asked=asked, progress=progress
        )
        strips = _strips(tested, questions, found=found)
        weights = cast("dict[str, Any]", read_json(description))["weights_sha256"]
        settings = {**found.settings, "target": asked.target}
        content = {**found.to_json(), "settings": settings, "strips": strips}
        content |= {"model": "vit", "weights_sha256": weights}
        write_json(run.faithfulness, content)
        _mark(run, strips, chosen=plan.explanation.value)
        return {"faithfulness": str(run.faithfulness), "summary": sentences(found)}

    return stage(
        "bench",
        run,
        inputs=hash_of(repr(asked), run.split, description),
        outputs=[run.faithfulness],
        work=work,
        command=command,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A picture and the class that is explained: None for the predicted one."""

    place: int
    target: int | None = None


def _questions(tested: PictureDataset, asked: Asked) -> list[_Question]:
    """Draw pictures; a picture that has several labels is asked about each."""
    order = np.random.default_rng(0).permutation(len(tested)).tolist()
    if asked.target == "predicted":
        return [_Question(place=place) for place in order[: asked.cases]]
    return [
        _Question(place=place, target=int(target))
        for place in order
        for target in (
            np.flatnonzero(tested.labels[place]) if tested.multi_label else [tested.labels[place]]
        )
    ][: asked.cases]


def _strips(
    tested: PictureDataset, questions: Sequence[_Question], *, found: Bench
) -> dict[str, dict[str, object]]:
    """Lay out the strips by case and, as maps are named, by method, with the label if several."""
    strips: dict[str, dict[str, object]] = {}
    for one, of_case in zip(questions, found.strips, strict=False):
        several = tested.multi_label and one.target is not None
        suffix = f" of {tested.classes[one.target]}" if several and one.target is not None else ""
        known = strips.setdefault(tested.cases[one.place].case_id, {})
        known |= {f"{name}{suffix}": strip.to_json() for name, strip in of_case.items()}
    return strips


def _tested(
    tested: PictureDataset,
    model: nn.Module,
    *,
    questions: Sequence[_Question],
    groups: Mapping[str, str],
    asked: Asked,
    progress: Progress,
) -> Bench:
    """Run the bench on some test cases."""
    cases = [tested.cases[one.place] for one in questions]
    by_patient = analysis_unit(cases) == "patient"
    named = [one.target for one in questions if one.target is not None]
    names = [case.case_id for case in cases]
    again = len(set(names)) < len(names)
    settings = BenchSettings(
        tests=asked.tests,
        imputers=asked.imputers,
        hiding=Hiding(black=_black(tested.preprocessing)),
        budget_s=asked.budget_s,
        thorough=asked.thorough,
        several=tested.multi_label,
        unit="patient" if by_patient else "image",
    )
    return bench(
        model,
        torch.stack([tested[one.place][0] for one in questions]),
        targets=named or None,
        methods=asked.methods,
        masks=_masks(tested, [one.place for one in questions]),
        groups=[groups[name] for name in names] if by_patient else names if again else None,
        settings=settings,
        progress=progress,
    )


def _black(preprocessing: Preprocessing) -> tuple[float, ...]:
    """Return what 0 becomes by normalization."""
    return tuple(
        -mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
    )


def _masks(
    tested: PictureDataset, order: Sequence[int]
) -> Bool[np.ndarray, "case mask_row mask_column"] | None:
    """Return the masks on the model's input, empty where a case has none; None without any."""
    cases = [tested.cases[place] for place in order]
    if not any(case.mask for case in cases):
        return None
    rows, columns = tested.preprocessing.image_size
    masks = np.zeros((len(cases), rows, columns), dtype=bool)
    for mask, case, place in zip(masks, cases, order, strict=True):
        if case.mask and isinstance(tested, VolumeDataset):
            mask[:] = tested.mask(place)
        elif case.mask:
            mask[:] = placed(tested.root / case.mask, tested.preprocessing)
    return masks


def placed(path: Path, preprocessing: Preprocessing) -> Bool[np.ndarray, "mask_row mask_column"]:
    """Return a mask where its picture lies in the model's input; everything above 0 is inside."""
    stored = read_stored(path).max(axis=0) > 0
    top, left, bottom, right = preprocessing.source_box(*stored.shape)
    size = (right - left, bottom - top)
    inner = Image.fromarray(stored.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    mask = np.zeros(preprocessing.image_size, dtype=bool)
    mask[top:bottom, left:right] = np.asarray(inner) > 0
    return mask


def _mark(run: RunFolder, strips: Mapping[str, Mapping[str, object]], *, chosen: str) -> None:
    """Write each map's strip into its own record, where the map is in the run folder."""
    for case_id, of_case in strips.items():
        for method, strip in of_case.items():
            shown = None if method == chosen else file_name(method)
            beside = run.explanation(case_id, method=shown).with_suffix(".json")
            if beside.exists():
                content = cast("dict[str, Any]", read_json(beside))
                content["extra"] = {**content.get("extra", {}), "trust": strip}
                write_json(beside, content)


def sentences(found: Bench) -> list[str]:
    """Say what was found, for people: the recommendation, a line a method, the warnings."""
    said = []
    chosen = found.recommendation
    if chosen.method:
        said.append(f"look first at {chosen.method}: {chosen.reason}")
    else:
        said.append(f"no method is recommended: {chosen.reason}")
    said += chosen.limits
    gains = next((name for name in found.tables if name.startswith("removal_gain/")), "")
    for name in (*found.methods, *found.controls):
        if gains:
            cell = found.tables[gains][name]
            passed = found.randomization_passed.get(name)
            kind = "class-specific" if found.class_specific[name] else "knows no class"
            fate = {True: "passes", False: "FAILS", None: "not tested for"}[passed]
            said.append(
                f"{name}: {gains} {cell.value:.3f} ({span(cell)}), {kind}, {fate} randomization"
            )
    said += [f"left out: {name} ({why})" for name, why in found.refused.items()]
    return said + list(found.warnings)
