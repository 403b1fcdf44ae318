"""Trials are handed out once, kept, resumed after a kill, and taken up again from lost workers."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest

from vitrail.errors import InputError, RunFolderError
from vitrail.tuning import study as module
from vitrail.tuning.space import grid, read_space
from vitrail.tuning.study import Search, finished, importances, open_study, winner, work

WORDS = ("patch=8,16", "heads=1,2,4")
WORKER = """
import sys, time
from pathlib import Path
from vitrail.tuning import study as module
from vitrail.tuning.space import grid, read_space
from vitrail.tuning.study import Search, open_study, work

folder, number, hangs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
module._GRACE_S = 3600  # a worker that gets no processor for long is not lost
axes = read_space(["patch=8,16", "heads=1,2,4"], known=["patch", "heads"])
search = Search(axes=axes, points=tuple(grid(axes)), storage=f"sqlite:///{folder / 'study.db'}")

def objective(parameters, report):
    with (folder / "tried.txt").open("a") as log:
        log.write(f"{parameters['patch']} {parameters['heads']}\\n")
    time.sleep(3600 if len((folder / "tried.txt").read_text().splitlines()) == hangs else 0.1)
    return parameters["patch"] - abs(parameters["heads"] - 2)

work(open_study(search, worker=number), search, objective=objective)
"""


@pytest.fixture
def search(tmp_path):
    axes = read_space(WORDS, known=["patch", "heads"])
    url = f"sqlite:///{tmp_path / 'study.db'}"
    return Search(axes=axes, points=tuple(grid(axes)), storage=url)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_HEARTBEAT_S", 1)
    monkeypatch.setattr(module, "_GRACE_S", 2)
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)


def value(parameters, report=None):
    del report
    return float(parameters["patch"] - abs(parameters["heads"] - 2))


def start(folder, number=0, *, hangs=0):
    """Start a worker that takes an hour for the trial of this number, counted from one."""
    return subprocess.Popen([sys.executable, "-c", WORKER, folder, str(number), str(hangs)])


def tried(folder):
    return (folder / "tried.txt").read_text().splitlines()


def test_a_grid_is_tried_once_and_the_best_is_told(search):
    told = []
    study = open_study(search)
    work(study, search, objective=value, progress=lambda _, **now: told.append(now))
    found = finished(study)
    assert len(found) == 6
    assert winner(found).parameters == {"patch": 16, "heads": 2}
    assert told[-1] == {"done": 6, "total": 6, "note": "best 16.000 (patch=16 heads=2)"}
    work(open_study(search), search, objective=lambda *_: pytest.fail("it was finished already"))


def test_a_killed_study_goes_on_without_losing_a_finished_trial(search, tmp_path):
    killed = start(tmp_path, hangs=3)
    while not (tmp_path / "tried.txt").exists() or len(tried(tmp_path)) < 3:
        assert killed.poll() is None
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = {str(one.parameters): one.value for one in finished(open_study(search))}
    assert len(before) == 2
    again = []
    work(open_study(search), search, objective=lambda p, r: again.append(str(p)) or value(p))
    assert not set(again) & set(before)
    after = {str(one.parameters): one.value for one in finished(open_study(search))}
    assert len(after) == 6
    assert after.items() >= before.items()


def test_a_trial_lost_before_its_first_heartbeat_is_taken_up(search):
    with pytest.warns(UserWarning, match="Heartbeat"):  # it runs, and nobody says that it lives
        lost = open_study(search).ask().number
    study = open_study(search)
    work(study, search, objective=value)
    assert len(finished(study)) == 6
    assert lost not in [one.number for one in finished(study)]


def test_two_workers_on_one_study_agree_with_one(search, tmp_path):
    workers = [start(tmp_path, number) for number in range(2)]
    assert [one.wait(timeout=600) for one in workers] == [0, 0]
    both = finished(open_study(search))
    alone = open_study(replace(search, storage=f"sqlite:///{tmp_path / 'alone.db'}"))
    work(alone, search, objective=value)
    assert {str(one.parameters): one.value for one in both} == {
        str(one.parameters): one.value for one in finished(alone)
    }
    assert winner(both).parameters == winner(finished(alone)).parameters
    assert len(tried(tmp_path)) == 6


def test_tpe_draws_as_many_as_wanted_and_gives_laggards_up(search):
    axes = read_space(["rate=1e-4..1e-2", "depth=2..6"], known=["rate", "depth"])
    drawn = replace(search, axes=axes, points=(), trials=12, prune=True)

    def objective(parameters, report):
        assert 1e-4 <= parameters["rate"] <= 1e-2
        for epoch in range(1, 9):
            reached = parameters["depth"] * epoch / 8
            if report(epoch, reached):
                raise module.GivenUp
        return float(reached)

    study = open_study(drawn)
    work(study, drawn, objective=objective)
    found = finished(study)
    assert len(found) == 12
    assert any(one.given_up for one in found)
    assert not winner(found).given_up
    assert max(one.value for one in found) == winner(found).value
    assert set(importances(study)) == {"rate", "depth"}


def test_another_space_or_a_storage_out_of_reach_is_refused(search, tmp_path):
    open_study(search)
    axes = read_space(["patch=8,32"], known=["patch"])
    with pytest.raises(RunFolderError, match="a study of other parameters"):
        open_study(replace(search, axes=axes, points=tuple(grid(axes))))
    with pytest.raises(RunFolderError, match="a study of another plan"):
        open_study(replace(search, plan="edited"))
    for url in (f"sqlite:///{tmp_path / 'no' / 'x.db'}", "nodatabase://x", "postgresql://x/y"):
        with pytest.raises(InputError, match="a storage is a database that can be reached"):
            open_study(replace(search, storage=url))


def test_a_locked_storage_is_named(search, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LOCKED_S", 0.05)
        study = open_study(search)
        with closing(sqlite3.connect(tmp_path / "study.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(InputError, match=r"--storage.*database is locked"):
                open_study(search)
            with pytest.raises(InputError, match=r"--storage.*database is locked"):
                work(study, search, objective=value)
    again = open_study(search)
    work(again, search, objective=value)
    assert len(finished(again)) == 6
