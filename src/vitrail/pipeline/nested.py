"""``vitrail tune --nested``: what choosing a configuration in this way is worth on unseen cases.

In each outer fold a study of its own chooses on validation cases of the fold's inner part; the
winner is trained once and tested on the cases that the fold held out, which no trial of that fold
saw. The result is the outer estimate: of the *procedure*, not of one configuration, for the folds
may choose different ones. It costs a whole tuning a fold.

Source: varma2006 (bias of cross-validated selection, and nested cross-validation).
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from vitrail.data.split import analysis_unit
from vitrail.errors import InputError
from vitrail.evaluation.evaluate import evaluate
from vitrail.evaluation.record import to_json
from vitrail.evaluation.table import read_predictions, write_predictions
from vitrail.pipeline.evaluate import predict_cases, sentences
from vitrail.pipeline.ledger import Result
from vitrail.pipeline.train import Work, fit_one
from vitrail.pipeline.trial import Tuned
from vitrail.pipeline.tune import Wish, record_of, search_of
from vitrail.records import Predictions, Progress, SplitName, no_progress
from vitrail.runfolder import RunFolder, read_json, write_json
from vitrail.tuning.study import finished, named, open_study, winner, work

FILE = "nested.json"
_PARTS: tuple[SplitName, ...] = ("validation", "test")


def nested(
    run: RunFolder,
    words: Sequence[str],
    *,
    wish: Wish,
    command: str = "",
    progress: Progress = no_progress,
) -> Result:
    """Tune in every outer fold, and write ``tuning/nested.json``.

    Killed and called again, it goes on, as :func:`vitrail.pipeline.tune.tune` does.

    Args:
        run: Planned with ``--folds``, and not trained.
        words: What is tried.
        wish: How; one worker.
        command: The exact command line.
        progress: Told of each trial.

    Raises:
        InputError: If a parameter is unknown, nothing is possible, or workers are asked for.
        PlanError: If the run has no outer folds.
    """
    if wish.workers > 1 or wish.storage:
        asked = "--workers" if wish.workers > 1 else "--storage"
        rule = "each outer fold keeps a study of its own in the run folder"
        raise InputError(asked, "together with --nested", rule, "leave one of the two out")
    whole = Tuned.open(run, nested=True)
    folds = [
        _outer(whole.outer(number), number, words, wish=wish, progress=progress)
        for number in range(len(whole.folds.each))
    ]
    predictions = [
        said for number in range(len(folds)) for said in read_predictions(_table(whole, number))
    ]
    tested = [case for case in whole.cohort if case.case_id in whole.folds.tested]
    evaluation = evaluate(
        predictions,
        clusters=whole.folds.groups,
        unit=analysis_unit(tested),
        seed=whole.plan.seed.value,
        progress=progress,
    )
    tried = sum(fold["configurations_tried"] for fold in folds)
    record = {**to_json(evaluation), "configurations_tried": tried, "test_openings": 1}
    content = {"folds": folds, "outer": record}
    write_json(whole.place / FILE, content)
    return {"nested": content, "summary": _sentences(content), "command": command}


def _table(whole: Tuned, number: int) -> Path:
    """Say where a fold's winner's answers lie."""
    return whole.outer(number).place / "predictions.csv"


def _outer(
    tuned: Tuned, number: int, words: Sequence[str], *, wish: Wish, progress: Progress
) -> dict[str, Any]:
    """Tune one outer fold, train its winner, and test it on what the fold held out."""
    kept = tuned.place / "fold.json"
    if kept.exists():
        return cast("dict[str, Any]", read_json(kept))

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        progress(f"{stage}, outer fold {number + 1}", done=done, total=total, note=note)

    search, skipped = search_of(tuned, words, wish=wish)
    study = open_study(search)
    work(study, search, objective=tuned.objective(worker=0), progress=told)
    best = winner(finished(study))
    if best is None:
        rule = "each outer fold needs one trial that came to its end"
        raise InputError("--prune", f"every trial of fold {number} was given up", rule, "drop it")
    record = record_of(tuned, search, study=study, skipped=skipped)
    said = _test(tuned, best.parameters, number=number, progress=told)
    write_predictions(tuned.place / "predictions.csv", said)
    fold = {
        "fold": number,
        "parameters": dict(best.parameters),
        "validation": best.value,
        "metric": record["metric"],
        "configurations_tried": record["configurations_tried"],
        "skipped": record["skipped"],
        "minutes": round(sum(one["seconds"] for one in record["trials"]) / 60, 2),
    }
    write_json(kept, fold)
    return fold


def _test(
    tuned: Tuned, parameters: Mapping[str, Any], *, number: int, progress: Progress
) -> list[Predictions]:
    """Train a winner once more and let it say what it thinks of the held-out cases."""
    plan, training = tuned.training(parameters, folder=tuned.place / "winner")
    ours = Work(tuned.run, plan, tuned.cohort, tuned.folds)
    model, _, _ = fit_one(training, ours, progress=progress)
    shutil.rmtree(training.folder / "checkpoints", ignore_errors=True)
    return [
        predict_cases(
            model,
            ours.part(part, training),
            training=replace(training, fold=number),
            part=part,
            batch_size=plan.batch_size.value,
        )
        for part in _PARTS
    ]


def _sentences(content: Mapping[str, Any]) -> list[str]:
    """Say what each fold chose and what the procedure is worth."""
    folds = content["folds"]
    said = [
        f"outer fold {fold['fold'] + 1}: {named(fold['parameters'])} of "
        f"{fold['configurations_tried']}, {fold['validation']:.4f} on its validation cases"
        for fold in folds
    ]
    chosen = Counter(named(fold["parameters"]) for fold in folds)
    often = chosen.most_common(1)[0][1]
    said.append(f"{len(chosen)} different configurations chosen; the most common in {often} folds")
    minutes = sum(fold["minutes"] for fold in folds)
    said.append(f"{minutes:.1f} minutes of trials; choosing in this way gives, on unseen cases:")
    said += [one for one in sentences(content["outer"]) if one.startswith("test vit")]
    said.append(
        "that is what the procedure is worth; for a model to use, tune a run without --folds"
    )
    return said
