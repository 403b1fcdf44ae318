"""The verb ``evaluate``: what it asks, counts and refuses, with predictions instead of models."""

import numpy as np
import pytest

from vitrail.data.cohort import write_cohort
from vitrail.data.split import clusters, write_split
from vitrail.errors import LeakageError
from vitrail.models import bundle
from vitrail.pipeline import evaluate as module
from vitrail.pipeline.analysis import Asked
from vitrail.pipeline.choices import write_plan
from vitrail.pipeline.evaluate import evaluate
from vitrail.records import Case, Cohort, Predictions
from vitrail.runfolder import RunFolder, read_json, write_json


@pytest.fixture
def run(tmp_path, plan, monkeypatch):
    """Write a trained run of sixty patients; its models are told what to say."""
    run = RunFolder(tmp_path)
    cases = tuple(
        Case(case_id=f"{i:02d}", path=f"{i}.png", label="ab"[i % 2], patient_id=f"p{i}")
        for i in range(60)
    )
    cohort = Cohort(root=tmp_path, cases=cases, classes=("a", "b"))
    write_cohort(run.cohort, cohort)
    parts = ("train", "validation", "test")
    split = {case.case_id: parts[place // 20] for place, case in enumerate(cases)}
    write_split(run.split, cohort, split=split, groups=clusters(cases))
    write_plan(run.plan, plan)
    write_json(run.audit, {"shortcuts": []})
    for name in ("vit", "cnn"):
        about = {"extra": {"plan": plan.fingerprint()}}
        write_json(run.model(name) / bundle.DESCRIPTION, about)
    said = [_said(cases, split, model=m, part=p) for m in ("vit", "cnn") for p in parts[1:]]
    asked = []
    monkeypatch.setattr(module, "_predictions", lambda *_, **__: asked.append(1) or said)
    monkeypatch.setattr(run.__class__, "times_predicted", lambda _: len(asked), raising=False)
    return run


def _said(cases, split, *, model, part):
    own = [case for case in cases if split[case.case_id] == part]
    truth = np.array([case.label == "b" for case in own]).astype(int)
    noise = np.random.default_rng(len(model)).normal(0, 0.2, len(own))
    score = np.clip(0.5 + 0.2 * (2 * truth - 1) + noise, 0.01, 0.99)
    both = np.stack([1 - score, score], axis=1)
    return Predictions(model, 0, 0, part, ("a", "b"), tuple(c.case_id for c in own), truth, both)


def test_a_new_question_is_a_new_look_at_the_test_set_without_new_predictions(run):
    first = evaluate(run)
    again = evaluate(run)
    asked = evaluate(run, Asked(prevalence=0.1))
    kept = evaluate(run)
    assert [one["skipped"] for one in (first, again, asked, kept)] == [False, True, False, True]
    assert run.times_predicted() == 1
    content = read_json(run.evaluation)
    assert content["test_openings"] == 2
    assert content["prevalence"] == 0.1
    assert "times the test set was opened so far: 2; configurations tried: 1" in asked["summary"]


def test_a_split_that_was_changed_by_hand_is_refused(run):
    run.split.write_text(run.split.read_text().replace("45,test", "45,train"))
    with pytest.raises(LeakageError, match=r"does not agree with its certificate split\.json"):
        evaluate(run)


def test_tuning_is_told(run):
    evaluate(run)
    write_json(run.tuning, {"configurations_tried": 27})
    assert evaluate(run)["evaluation"]["configurations_tried"] == 27
    assert any("27 configurations" in said for said in read_json(run.evaluation)["warnings"])
