"""What both stages of the guided classifier looked at, brought back to the patient."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from vitrail.data.stacks import VolumeDataset
from vitrail.guided.study import Evidence
from vitrail.metrics.localization import coverage, relevance_mass_score
from vitrail.pipeline.scans import keep_montage, placement_facts, write_heatmap
from vitrail.runfolder import RunFolder

STAGE_ONE, STAGE_TWO = "guided_vit", "guided_cnn"
"""Folders below ``explanations/``; the second is a method's name on the page, too."""


def keep_evidence(run: RunFolder, evidence: Evidence) -> list[dict[str, Any]]:
    """Write both stages' maps of a fold's test cases as NIfTI over their scans.

    Stage two's middle window is kept for the report's gallery as well; stage one's is there by
    ``vitrail explain``.

    Args:
        run: Gets ``explanations/guided_vit``, ``explanations/guided_cnn`` and ``pictures``.
        evidence: Of one fold.

    Returns:
        For each case that has a mask: its id, the share of each stage's evidence in the mask, and
        the share of the picture that the mask covers; means over the windows.
    """
    cases, rows = evidence.cases, []
    for index, case in enumerate(cases.cases):
        keep_montage(run, case.case_id, stack=cases.stack(index))
        path = run.explanation(case.case_id, method=STAGE_TWO)
        write_heatmap(path, evidence.cnn[index], cases=cases, index=index)
        facts = {
            "case_id": case.case_id,
            "model": STAGE_TWO,
            "preprocessing": asdict(cases.preprocessing),
            **placement_facts(cases, index),
        }
        replace(evidence.first[index], method=STAGE_TWO, extra=facts).save(path)
        if evidence.vit is not None:
            path = run.explanation(case.case_id, method=STAGE_ONE)
            write_heatmap(path, evidence.vit[index], cases=cases, index=index)
        if case.mask:
            rows.append({"case_id": case.case_id, **_shares(evidence, index)})
    return rows


def _shares(evidence: Evidence, index: int) -> dict[str, float | None]:
    """Measure how much of the positive evidence lies in the mask."""
    windows = evidence.cases.votes()
    found = {"mask": [float(one.mask(index).mean()) for one in windows]}
    for name, maps in (("vit", evidence.vit), ("cnn", evidence.cnn)):
        if maps is not None:
            found[name] = [
                _share(maps[index, place], cases=one, index=index)
                for place, one in enumerate(windows)
            ]
    return {name: _mean(values) for name, values in found.items()}


def _share(values: Float[np.ndarray, "row column"], *, cases: VolumeDataset, index: int) -> float:
    """Return the share of one window's map in the mask."""
    rows, columns = values.shape
    return relevance_mass_score(values, coverage(cases.mask(index), (rows, columns)))


def _mean(values: Sequence[float]) -> float | None:
    """Average what is known."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def share_sentence(shares: Sequence[Mapping[str, Any]]) -> str:
    """Say how much of the evidence lies in the masks, beside how much they cover."""
    if not shares:
        return "no case has a mask: the share of the evidence in it is unknown"
    means = {
        name: _mean([row[name] for row in shares if row.get(name) is not None])
        for name in ("vit", "cnn", "mask")
    }
    told = {name: "unknown" if value is None else f"{value:.0%}" for name, value in means.items()}
    return (
        f"share of the positive evidence in the mask, mean of {len(shares)} cases: stage one "
        f"{told['vit']}, stage two {told['cnn']}; the mask covers {told['mask']} of the picture"
    )
