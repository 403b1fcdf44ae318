"""The command line: cheap help, one object on standard output, one message on standard error."""

import errno
import json
import os
import subprocess
import sys

import pytest

from vitrail.errors import StoppedError
from vitrail.terminal import speaking

VERBS = (
    "inspect", "plan", "train", "evaluate", "explain", "report", "compare", "predict",
    "run", "demo", "fetch", "doctor", "serve",
)  # fmt: skip


def test_help_names_every_verb_and_imports_no_torch():
    code = (
        "import sys\n"
        "from vitrail.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert all(verb in done.stdout for verb in VERBS)
    assert done.stderr.split()[-2:] == ["False", "False"]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_tells_what_it_reads_and_writes_with_an_example(verb, invoke):
    text = " ".join(invoke(verb, "--help").stdout.split())
    assert "Writes" in text or "writes" in text
    assert "Reads" in text or verb in ("demo", "fetch")
    assert f"vitrail {verb}" in text
    assert "--json" in text
    assert "--debug" in text


def test_doctor_prints_one_json_object_and_nothing_else(invoke):
    done = invoke("doctor", "--json")
    found = json.loads(done.stdout)
    assert {"vitrail", "packages", "machine", "codecs", "weights", "slow", "summary"} <= set(found)
    assert done.exit_code == 0


def test_doctor_says_for_people_what_will_be_slow(invoke):
    assert "cores" in invoke("doctor").stdout


def test_the_version_is_answered(invoke):
    assert invoke("--version").stdout.strip()[0].isdigit()


@pytest.mark.parametrize(
    ("verb", "name"),
    [("plan", "x"), ("train", "x"), ("evaluate", "x"), ("explain", "x"), ("report", "x")],
)
def test_a_verb_on_no_run_folder_says_how_to_make_one(tmp_path, verb, name, invoke):
    done = invoke(verb, tmp_path / name)
    assert done.exit_code == 2
    assert "no such folder" in done.stderr
    assert "vitrail run DIR --out RUN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_comes_only_when_asked_for(tmp_path, invoke):
    assert "Traceback" in invoke("train", tmp_path / "x", "--debug").stderr


@pytest.mark.parametrize("budget", ["soon", "15", "0m", "-3m"])
def test_a_budget_that_is_no_time_is_refused(tmp_path, budget, invoke):
    done = invoke("run", tmp_path, "--out", tmp_path / "run", f"--budget={budget}")
    assert done.exit_code == 2
    assert "--budget" in done.stderr
    assert "pass --budget 15m" in done.stderr


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(tmp_path, monkeypatch, invoke):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vitrail.pipeline.inspect.audit", interrupted)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            _picture(tmp_path / "data" / name / f"{number}.png")
    done = invoke("run", tmp_path / "data", "--out", tmp_path / "run")
    assert done.exit_code == 130
    assert "Ctrl-C" in done.stderr
    assert "run the same command again to go on" in done.stderr
    assert done.stdout == ""


def test_a_fault_of_ours_is_one_message_without_a_traceback(tmp_path, monkeypatch, invoke):
    def broken(*_, **__):
        message = "a bug"
        raise RuntimeError(message)

    monkeypatch.setattr("vitrail.pipeline.doctor.slow", broken)
    done = invoke("doctor")
    assert done.exit_code == 2
    assert "RuntimeError: a bug" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_said_to_be_full(monkeypatch, invoke):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "run/predictions.csv")

    monkeypatch.setattr("vitrail.pipeline.doctor.slow", full)
    done = invoke("doctor")
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "run/predictions.csv: No space left on device" in said
    assert "make room on the disk and run the same command again" in said
    assert "fault" not in said


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_training_that_a_signal_stopped_ends_with_the_signals_status(
    monkeypatch, invoke, name, status
):
    def stopped(*_, **__):
        raise StoppedError(name, "the training stopped in epoch 1 of 2", "saved", "go on")

    monkeypatch.setattr("vitrail.pipeline.doctor.slow", stopped)
    done = invoke("doctor")
    assert done.exit_code == status
    assert f"{name}: the training stopped" in done.stderr


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_must_not_be_written_is_no_fault_of_ours(monkeypatch, invoke, number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number), "run/audit.json")

    monkeypatch.setattr("vitrail.pipeline.doctor.slow", refused)
    done = invoke("doctor")
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert f"run/audit.json: {os.strerror(number)}" in said
    assert "change the permissions, or write to another folder" in said
    assert "fault" not in said


def test_the_time_left_is_told_of_steps_of_any_length(monkeypatch):
    clock = iter(range(0, 10**6, 60))  # a minute passes each time that it is read
    monkeypatch.setattr("rich.console.monotonic", lambda: next(clock))
    with speaking(as_json=False, debug=False, out=None) as (bars, _):
        for done in range(1, 4):
            bars("tune", done=done, total=9)
        (task,) = bars._bars.tasks
        assert task.time_remaining is not None


def _picture(path):
    from PIL import Image

    Image.new("L", (32, 32), 90).save(path)


def test_fetch_lists_the_sets_as_one_object(invoke):
    told = json.loads(invoke("fetch", "list", "--json").stdout)
    assert "kather2016" in {row["name"] for row in told["sets"]}
    assert "licence" in told["sets"][0]


def test_fetch_shows_a_card_and_downloads_nothing_without_a_yes(invoke):
    done = invoke("fetch", "beans")
    assert done.exit_code == 2
    assert "licence: MIT" in done.stderr
    assert "nothing is downloaded unasked" in done.stderr
