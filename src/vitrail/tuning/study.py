"""The study: trials handed out, kept, resumed and taken up again, through Optuna.

The storage is a database (SQLite in the run folder unless another is named): every trial is a
transaction, so that a kill at any moment loses no finished trial; and, unlike a journal file, it
keeps the workers' heartbeats, by which a lost worker's trial is noticed and queued again.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from vitrail.errors import InputError, RunFolderError
from vitrail.records import Progress, no_progress
from vitrail.tuning.space import Axis

_HEARTBEAT_S, _GRACE_S = 2, 10
_RETRIES = 3
_PATIENCE_S = 1.0
_LOCKED_S = 120
_ATTEMPTS = 4
_SPACE = "vitrail:space"
_PLAN = "vitrail:plan"
_ASKED = "vitrail:asked"

Report = Callable[[int, float], bool]
"""Takes an epoch and its value on validation cases; tells whether to give the trial up."""
Objective = Callable[[Mapping[str, Any], Report], float]
"""Takes a configuration; returns its value on validation cases, larger is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A trial that came to an end.

    Attributes:
        number: In the order of their beginnings.
        parameters: The configuration.
        value: On validation cases, larger is better; of a given up trial its last one.
        given_up: Whether the pruner stopped it.
        curve: (epoch, value) pairs.
        seconds: From its beginning to its end.
    """

    number: int
    parameters: Mapping[str, Any]
    value: float
    given_up: bool
    curve: tuple[tuple[int, float], ...]
    seconds: float


class GivenUp(Exception):  # noqa: N818, it is no error: the pruner's answer on its way out
    """A trial that its pruner gave up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched, and how.

    Attributes:
        axes: The parameters.
        points: Configurations of a grid; empty where ``trials`` are drawn.
        trials: How many configurations are drawn by TPE.
        prune: Whether trials that lag behind the median are given up.
        storage: URL of the database.
        seed: Of the drawing.
        plan: Hash of what all trials have in common.
    """

    axes: tuple[Axis, ...]
    points: tuple[Mapping[str, Any], ...] = ()
    trials: int = 0
    prune: bool = False
    storage: str
    seed: int = 0
    plan: str = ""

    @property
    def wanted(self) -> int:
        """How many trials are to be finished."""
        return self.trials or len(self.points)


def open_study(search: Search, *, worker: int = 0) -> optuna.Study:
    """Open the study, or make it; a grid's configurations are queued once.

    Args:
        search: What is searched.
        worker: Number of this worker; each draws from a seed of its own.

    Raises:
        InputError: If the storage cannot be opened.
        RunFolderError: If it holds a study of other parameters.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats are one of them
    try:
        study = optuna.create_study(
            storage=_storage(search.storage),
            study_name="vitrail",
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=search.seed + worker, constant_liar=True),
            pruner=_pruner(search),
        )
    except (SQLAlchemyError, StorageInternalError, ImportError, ValueError) as error:
        raise _out_of_reach(search, error) from error
    _refuse_other(study, search)
    if worker == 0:
        for point in search.points:
            study.enqueue_trial(dict(point), user_attrs={_ASKED: True}, skip_if_exists=True)
    return study


def _out_of_reach(search: Search, error: Exception) -> InputError:
    """Say that the database cannot be opened, is locked, or went away."""
    problem = " ".join(str(error.__cause__ or error).split())[:200]
    rule = "a storage is a database that can be reached, like sqlite:///tuning.db"
    return InputError("--storage", f"{search.storage} ({problem})", rule, "check it, and go on")


def _storage(url: str) -> RDBStorage:
    """Open the database; where two workers make its tables at once, the later one tries again."""
    connection = {"timeout": _LOCKED_S} if url.startswith("sqlite") else {}
    open_database = partial(
        RDBStorage,
        url,
        engine_kwargs={"connect_args": connection},
        heartbeat_interval=_HEARTBEAT_S,
        grace_period=_GRACE_S,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(_RETRIES),
    )
    for _ in range(_ATTEMPTS):
        try:
            return open_database()
        except (DatabaseError, StorageInternalError) as error:
            if "locked" in str(error):  # the connection waited long enough
                raise
            time.sleep(_PATIENCE_S)
    return open_database()


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    """Give trials up that lag behind the median of at least five others after three epochs."""
    if not search.prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)


def _refuse_other(study: optuna.Study, search: Search) -> None:
    """Refuse a study of other parameters or another plan: its trials could not be compared."""
    stands = {
        _SPACE: (repr(search.axes), "other parameters or values"),
        _PLAN: (search.plan, "another plan"),
    }
    for name, (value, other) in stands.items():
        known = study.user_attrs.get(name)
        if known is None:
            study.set_user_attr(name, value)
        elif known != value:
            raise RunFolderError(
                search.storage,
                f"it holds a study of {other}",
                "a study keeps its plan and parameters, so that its trials can be compared",
                "undo the edit and repeat the first command, or tune in a new run folder",
            )


def work(
    study: optuna.Study, search: Search, *, objective: Objective, progress: Progress = no_progress
) -> None:
    """Take up trials until all that are wanted are finished, also those of lost workers.

    Raises:
        InputError: If the storage is locked for long, or goes away.
    """

    def tried(trial: optuna.Trial) -> float:
        if search.points and not trial.user_attrs.get(_ASKED):
            raise optuna.TrialPruned  # another worker took the last of the queue first
        configuration = {axis.name: _suggested(trial, axis) for axis in search.axes}

        def report(epoch: int, value: float) -> bool:
            trial.report(value, epoch)
            return bool(trial.should_prune())

        try:
            return objective(configuration, report)
        except GivenUp as stopped:
            raise optuna.TrialPruned from stopped
        except Exception:  # whatever stopped the training: whoever goes on takes it up again
            if search.points:
                study.enqueue_trial(configuration, user_attrs={_ASKED: True})
            raise

    noticed: set[int] = set()
    try:
        _tell(study, search, progress)
        while (left := _left(study, search)) is not None:
            if left:
                study.optimize(tried, n_trials=1)
            else:  # only other workers' trials are running: wait, or take up what they lost
                _notice(study, search, noticed=noticed)
                optuna.storages.fail_stale_trials(study)
                time.sleep(_PATIENCE_S)
            _tell(study, search, progress)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _out_of_reach(search, error) from error


def _notice(study: optuna.Study, search: Search, *, noticed: set[int]) -> None:
    """Record a first heartbeat of each running trial, once, beside those of its worker.

    Optuna passes over running trials without any heartbeat. One whose worker was lost before its
    first would run for ever; with ours it falls silent, and is taken up like any other.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    new = {trial.number for trial in running} - noticed
    if not new:
        return
    storage = _storage(search.storage)
    place = storage.get_study_id_from_name(study.study_name)
    for number in sorted(new):
        storage.record_heartbeat(storage.get_trial_id_from_study_id_trial_number(place, number))
    noticed |= new


def _suggested(trial: optuna.Trial, axis: Axis) -> Any:
    """Draw, or read off the queue, one parameter of a trial."""
    if not axis.is_range:
        return trial.suggest_categorical(axis.name, axis.values)
    if axis.is_whole:
        low, high = int(axis.low), int(axis.high)
        return trial.suggest_int(axis.name, low, high, log=axis.is_logarithmic)
    return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.is_logarithmic)


def finished(study: optuna.Study) -> list[Tried]:
    """Return the trials that came to an end, given up ones among them, in their order."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    return [
        Tried(
            number=trial.number,
            parameters=trial.params,
            value=float("nan") if trial.value is None else trial.value,
            given_up=trial.state is TrialState.PRUNED,
            curve=tuple(sorted(trial.intermediate_values.items())),
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        )
        for trial in study.get_trials(states=states)
        if trial.params
    ]


def _left(study: optuna.Study, search: Search) -> bool | None:
    """Tell whether a trial can be taken up; None where all are finished."""
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if waiting:
        return True
    queued = sum(_ASKED in trial.user_attrs for trial in study.get_trials(deepcopy=False))
    if queued < len(search.points):
        return False  # the first worker has not filled the queue yet
    if search.trials and len(finished(study)) + len(running) < search.trials:
        return True
    return False if running else None


def _tell(study: optuna.Study, search: Search, progress: Progress) -> None:
    """Tell how many trials are finished, and the best so far."""
    done = finished(study)
    best = winner(done)
    note = "" if best is None else f"best {best.value:.3f} ({named(best.parameters)})"
    progress("tune", done=min(len(done), search.wanted), total=search.wanted, note=note)


def winner(trials: Sequence[Tried]) -> Tried | None:
    """Return the best trial that was not given up; of equally good ones the first by name.

    The order in which workers came to their trials makes no difference.
    """
    whole = [trial for trial in trials if not trial.given_up]
    best = max((trial.value for trial in whole), default=None)
    alike = [trial for trial in whole if trial.value == best]
    return min(alike, key=lambda trial: named(trial.parameters), default=None)


def named(parameters: Mapping[str, Any]) -> str:
    """Write a configuration as on the command line.

    Example:
        >>> named({"patch": 16, "dropout": 0.3})
        'patch=16 dropout=0.3'
    """
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in parameters.items()
    )


def importances(study: optuna.Study) -> dict[str, float]:
    """Say how much of the differences between trials each parameter explains; they sum to one.

    Empty where there are too few different trials to say so.

    Source: hutter2014 (fANOVA).
    """
    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in whole}) < 3 or len(study.best_params) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}
