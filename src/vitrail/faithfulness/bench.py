"""Which map can I trust, on this model? Every test, every method, the controls in every table.

Tests (columns), with the direction in the name:

``removal_gain/<imputer>``   area between least- and most-relevant-first curves of the probability
``logit_removal_gain/…``     the same of the logit, and of accuracy
``over_controls/…``          the same minus that of the best control, picture by picture
``deletion_error`` …         insertion and deletion (RISE), positive and negative perturbation
                             (Chefer 2021): only where asked for
``saco_score``               do saliences of groups order what hiding them costs
``sensitivity_n_score``      do sums over random sets tell what hiding them costs
``contrast_score``           is the runner-up's map another one
``mosaic_score``             is the evidence on the half of its class (chance .5)
``stability_score``          does the map stay under shifts, a flip, noise
``randomization_error``      how much of it shuffled weights draw as well
``completeness_error``       what the method promised to hand out and did not
``pointing_score`` …         where a person drew a mask (plausible, not faithful)

See :mod:`~vitrail.faithfulness.removal` and the other modules for their definitions.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.errors import CaptureError, InputError
from vitrail.explain import methods as all_methods
from vitrail.explain.intercept import entered
from vitrail.explain.kernels import WideLinear
from vitrail.explain.target import logits_of
from vitrail.faithfulness.contrast import runner_up
from vitrail.faithfulness.explainers import (
    Panel,
    control_explainers,
    milliseconds,
    native_grid,
    usable,
)
from vitrail.faithfulness.forecast import Forecast, forecast
from vitrail.faithfulness.interval import FEW, mean_estimates
from vitrail.faithfulness.randomization import passes
from vitrail.faithfulness.record import Bench, Cost, rank_methods
from vitrail.faithfulness.suite import RUN, BenchSettings, Suite, allowed_imputers
from vitrail.faithfulness.verdict import bands, is_ranked, over_controls, recommend, strips
from vitrail.records import Estimate, Progress, no_progress

logger = logging.getLogger("vitrail")

METHODS = (
    "attn_lrp",
    "cp_lrp",
    "grad_cam",
    "gradient_rollout",
    "input_x_gradient",
    "legrad",
    "libra",
    "relevance",
    "rollout",
    "transformer_attribution",
)
"""The methods of one to three passes: what is tested unless others are named."""

_COSTED = 2
"""Pictures by which each method's own cost is measured."""


def bench(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    targets: Sequence[int] | Int[np.ndarray, " case"] | None = None,
    methods: Sequence[str] = METHODS,
    masks: Bool[np.ndarray, "case mask_row mask_column"] | None = None,
    groups: Sequence[str] | None = None,
    settings: BenchSettings = BenchSettings(),  # noqa: B008 (frozen)
    progress: Progress = no_progress,
) -> Bench:
    """Test explanation methods on a model.

    Args:
        model: Any classifier in eval mode; it is left as it was.
        images: Normalized as the model expects.
        targets: One class an image; by default the predicted ones.
        methods: Names in :func:`vitrail.explain.methods`; those that cannot serve this model are
            listed with the reason.
        masks: What a person drew, on the pictures as the model sees them; none without.
        groups: Patient of each picture: intervals are made over them. Where a picture is explained
            for several labels, at least the picture (``settings.unit``).
        settings: What is tested, and how.
        progress: Told of every test.

    Returns:
        Tables with intervals, curves, ranks, costs, a strip a map, a recommendation. The same
        seed gives the same table.

    Raises:
        InputError: If arguments do not fit, or no method can serve the model.
    """
    _check(images, masks, groups=groups, settings=settings)
    parameter = next(model.parameters(), images)
    images = images.to(parameter.device, parameter.dtype)
    with entered(model, WideLinear()):
        return _tested(
            model, images, targets=targets, methods=methods, masks=masks, groups=groups,
            settings=settings, progress=progress,
        )  # fmt: skip


def _tested(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    targets: Sequence[int] | np.ndarray | None,
    methods: Sequence[str],
    masks: Bool[np.ndarray, "case mask_row mask_column"] | None,
    groups: Sequence[str] | None,
    settings: BenchSettings,
    progress: Progress,
) -> Bench:
    """Reckon the cost, run the tests, make the record; arguments as of :func:`bench`, checked."""
    good, refused = usable(methods, model, image=images[:1], refusals=(InputError, CaptureError))
    if not good:
        raise InputError(
            "methods", "; ".join(refused.values()), "one must serve this model", "name others"
        )
    grid = native_grid(model, images[:1])
    asks, why = allowed_imputers(model, images[:1], grid_size=grid, settings=settings)
    plan = forecast(model, images, methods=good, settings=settings, asks=asks)
    images = images[: plan.cases]
    words = (
        "faithfulness: %d cases, about %.1f minutes (%.2f s a case; as %.0f passes of %.0f ms), "
        "%.0f MB held"
    )
    logger.info(
        words, plan.cases, plan.seconds / 60, plan.seconds / plan.cases, plan.passes,
        1000 * plan.pass_seconds, plan.megabytes,
    )  # fmt: skip
    work = _prepare(model, images, targets=targets, methods=good, settings=settings)
    work.progress, work.refused, work.asks = progress, {**refused, **why}, asks
    work.masks = None if masks is None else masks[: plan.cases]
    for done, test in enumerate(settings.tests):
        progress("faithfulness", done=done, total=len(settings.tests), note=test)
        RUN[test](work)
    return _record(work, groups=groups, plan=plan)


def _prepare(
    model: nn.Module,
    images: Float[Tensor, "case channel height width"],
    *,
    targets: Sequence[int] | np.ndarray | None,
    methods: Sequence[str],
    settings: BenchSettings,
) -> Suite:
    """Explain all pictures by all methods, and draw the controls."""
    with torch.no_grad():
        logits = torch.cat([logits_of(model(part)) for part in torch.split(images, 32)])
    chosen = logits.argmax(dim=1).cpu().numpy() if targets is None else np.asarray(targets)
    chosen = chosen[: len(images)].astype(np.int64)
    present = (logits > 0).cpu().numpy() if settings.several else None
    if present is not None:
        present[np.arange(len(chosen)), chosen] = True
    grid = native_grid(model, images[:1])
    panel = Panel(methods=settings.parameters_of(methods), grid_size=grid)
    explained = {
        name: panel.explained(name, model, images=images, targets=chosen) for name in methods
    }
    controls = control_explainers(grid, seed=settings.hiding.seed)
    maps = {name: found.maps for name, found in explained.items()}
    maps |= {name: draw(model, images, targets=chosen) for name, draw in controls.items()}
    return Suite(
        model=model, images=images, targets=chosen, settings=settings, present=present,
        others=runner_up(logits.double().cpu().numpy(), chosen), controls=controls, maps=maps,
        explainers={name: panel.function(name) for name in methods}, explained=explained,
    )  # fmt: skip


def _check(
    images: Tensor,
    masks: Bool[np.ndarray, "case mask_row mask_column"] | None,
    *,
    groups: Sequence[str] | None,
    settings: BenchSettings,
) -> None:
    """Refuse arguments that do not fit."""
    for name, given in (("masks", masks), ("groups", groups)):
        if given is not None and len(given) != len(images):
            raise InputError(
                name, f"{len(given)} for {len(images)} images", "one an image", "leave it out"
            )
    if masks is not None and masks.shape[1:] != images.shape[2:]:
        raise InputError(
            "masks",
            f"{masks.shape[1:]} px for images of {tuple(images.shape[2:])} px",
            "they lie on the pictures as the model sees them",
            "prepare masks as the pictures, nearest neighbor",
        )
    unknown = [test for test in settings.tests if test not in RUN]
    if unknown:
        raise InputError("tests", unknown[0], f"known are {', '.join(RUN)}", "choose among them")


def _record(work: Suite, *, groups: Sequence[str] | None, plan: Forecast) -> Bench:
    """Estimate means with intervals, rank, judge, and put everything in one record."""
    cases = len(work.images)
    names = list(groups)[:cases] if groups is not None else [str(case) for case in range(cases)]
    clusters = np.unique(names, return_inverse=True)[1].ravel()
    patients = None if groups is None else clusters
    seed = work.settings.hiding.seed
    values = work.values | over_controls(work)
    pointing = [key for key in values if key[0].startswith("pointing_score")]
    cells = mean_estimates(
        values, clusters=patients, proportions=pointing, unit=work.settings.unit, seed=seed
    )
    tables: dict[str, dict[str, Estimate]] = {}
    for (test, name), cell in cells.items():
        tables.setdefault(test, {})[name] = cell
    passed = {
        name: passes(share)
        for name, share in tables.get("randomization_error", {}).items()
        if np.isfinite(share.value)
    }
    ranked = {test: row for test, row in tables.items() if is_ranked(test)}
    ranks = rank_methods(ranked, list(work.explainers))
    order = tuple(sorted(work.explainers, key=lambda name: ranks[name].mean))
    specific = {name: name in order and all_methods()[name].class_specific for name in work.maps}
    return Bench(
        unit="image" if groups is None else work.settings.unit,
        num_cases=cases,
        num_units=len(set(names)),
        methods=order,
        controls=tuple(work.controls),
        refused=work.refused,
        tables=tables,
        curves=bands(work, clusters=patients, seed=seed),
        fractions=work.settings.fractions,
        ranks=ranks,
        costs=_costs(work, plan),
        randomization_passed=passed,
        class_specific=specific,
        strips=strips(work, tables, passed=passed),
        recommendation=recommend(work, tables, ranks=ranks, passed=passed, clusters=patients),
        warnings=_warnings(work, len(set(names)), plan=plan),
        settings=_settings(work, plan),
    )


def _costs(work: Suite, plan: Forecast) -> dict[str, Cost]:
    """Return what each method by itself takes a picture, also in forward passes."""
    methods = work.settings.parameters_of(list(work.explainers))
    taken = milliseconds(work.model, work.images[:_COSTED], methods=methods)
    forward = max(1000 * plan.pass_seconds, 1e-6)
    return {
        name: Cost(passes=all_methods()[name].passes, milliseconds=took, forwards=took / forward)
        for name, took in taken.items()
    }


def _warnings(work: Suite, units: int, *, plan: Forecast) -> tuple[str, ...]:
    """Say what belongs beside the tables."""
    said = []
    if units == 1:
        said.append("One patient or picture alone: no interval can be stated.")
    elif units < FEW:
        said.append(f"Only {units} patients or pictures: the intervals are guesses.")
    if work.settings.budget_s is not None:
        said.append(f"{plan.cases} cases fit into the budget of {work.settings.budget_s:.0f} s.")
    if len(work.sample) < len(work.images):
        said.append(
            "Stability, randomization and every imputer but the first were asked of "
            f"{len(work.sample)} of the {len(work.images)} pictures (each cell has its n); "
            "--thorough asks all."
        )
    if work.masks is not None:
        said.append("Agreement with masks is plausibility, not faithfulness.")
    flat = [name for name in work.explainers if np.ptp(work.maps[name], axis=(1, 2)).min() == 0]
    if flat:
        said.append(f"Some maps are constant: {', '.join(flat)}.")
    return tuple(said)


def _settings(work: Suite, plan: Forecast) -> dict[str, object]:
    """Return everything that was chosen, as JSON can hold it."""
    chosen = work.settings
    return {
        "tests": list(chosen.tests),
        "imputers": list(chosen.imputers),
        "hiding": {name: part for name, part in asdict(chosen.hiding).items() if name != "imputer"},
        "budget_s": chosen.budget_s,
        "parameters": {name: dict(own) for name, own in chosen.parameters.items()},
        "thorough": chosen.thorough,
        "several": chosen.several,
        "protocols": list(chosen.protocols),
        "forecast_seconds": round(plan.seconds, 1),
    }
