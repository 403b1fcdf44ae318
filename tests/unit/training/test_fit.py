"""The loop learns, keeps its best epoch, and goes on bit for bit wherever it was cut off."""

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from vitrail.errors import (
    InputError,
    NumericalError,
    RunFolderError,
    StoppedError,
    TrainingError,
)
from vitrail.training import loop
from vitrail.training.checkpoint import save_checkpoint
from vitrail.training.fit import FitSettings, fit, predict, seconds_a_step
from vitrail.training.loop import Loop
from vitrail.training.objective import Classification
from vitrail.training.step import Stepper

SETTINGS = FitSettings(epochs=6, batch_size=8, learning_rate=5e-3, ema_decay=0.9)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_toy_task_is_learned_and_the_model_holds_its_best_epoch(tmp_path, toy_model, toy_data):
    train, validation = toy_data
    model = toy_model()
    result = fit(model, train, validation, replace(SETTINGS, epochs=20), folder=tmp_path)
    best = result.history[result.best_epoch - 1]
    assert best["roc_auc_score"] > 0.9
    assert not model.training
    probabilities = predict(model, validation)
    truth = validation.tensors[1].numpy()
    loss = -np.log(probabilities[np.arange(len(truth)), truth]).mean()
    assert loss == pytest.approx(best["validation_loss"], rel=1e-5)


def test_every_epoch_has_its_line_in_the_log(tmp_path, toy_model, toy_data):
    result = fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert 0 <= result.history[0]["waiting_share"] <= 1


class CutOff(BaseException):
    """Stands for a kill: nothing catches it."""


class Cut:
    """A progress that cuts the training off after some steps."""

    def __init__(self, after):
        self.left = after

    def __call__(self, stage, *, done, total, note=""):
        self.left -= 1
        if self.left < 0:
            raise CutOff


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"balance": "sampling", "mixup": 0.2, "cutmix": 1.0, "accumulation": 2},
        {"optimizer": "sgd", "ema_decay": None, "patience": 3, "layer_decay": 0.7},
        {"precision": "bf16", "label_smoothing": 0.1},
    ],
)
def test_training_cut_off_again_and_again_ends_in_the_same_weights(
    tmp_path, toy_model, toy_data, changes
):
    settings = replace(SETTINGS, checkpoint_steps=2, **changes)
    whole = toy_model()
    expected = fit(whole, *toy_data, settings, folder=tmp_path / "whole")
    generator = np.random.default_rng(1)
    for _ in range(200):
        model = toy_model()
        torch.manual_seed(int(generator.integers(1000)))
        try:
            cut = Cut(int(generator.integers(2, 9)))
            result = fit(model, *toy_data, settings, folder=tmp_path / "cut", progress=cut)
            break
        except CutOff:
            continue
    assert same(weights(whole), weights(model))
    assert result.best_epoch == expected.best_epoch
    timeless = [
        [{k: v for k, v in row.items() if k[:3] not in {"ima", "sec", "wai"}} for row in history]
        for history in (result.history, expected.history)
    ]
    assert timeless[0] == timeless[1]


def test_a_finished_training_is_not_repeated(tmp_path, toy_model, toy_data):
    model = toy_model()
    fit(model, *toy_data, SETTINGS, folder=tmp_path)
    again = toy_model()
    fit(again, *toy_data, SETTINGS, folder=tmp_path, progress=Cut(0))
    assert same(weights(model), weights(again))


def test_a_kill_before_the_last_line_of_the_log_loses_no_line(
    tmp_path, toy_model, toy_data, monkeypatch
):
    written = []

    def cut(self):
        written.append(len(self.history))
        if written[-1] == SETTINGS.epochs:
            raise CutOff
        return write_log(self)

    write_log = Loop.write_log
    monkeypatch.setattr(Loop, "write_log", cut)
    with pytest.raises(CutOff):
        fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
    monkeypatch.undo()
    result = fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path, progress=Cut(0))
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history


def test_more_passes_asked_for_after_a_stop_are_taken(tmp_path, toy_model, toy_data, monkeypatch):
    settings = replace(SETTINGS, epochs=1, checkpoint_steps=1)
    with pytest.raises(CutOff):
        fit(toy_model(), *toy_data, settings, folder=tmp_path, progress=Cut(2))
    taken = set()
    backward = Stepper._backward

    def watched(self, *arguments, **named):
        taken.add(self.passes)
        return backward(self, *arguments, **named)

    monkeypatch.setattr(Stepper, "_backward", watched)
    fit(toy_model(), *toy_data, replace(settings, accumulation=4), folder=tmp_path)
    assert taken == {4}


HELD = """
import sys
from pathlib import Path
from vitrail.runfolder import alone_in

with alone_in(Path(sys.argv[1])):
    print("there", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_on_one_training_is_refused_until_the_first_is_killed(
    tmp_path, toy_model, toy_data
):
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"there\n"
        with pytest.raises(RunFolderError, match="another process is working in it"):
            fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
        other.kill()
    fit(toy_model(), *toy_data, replace(SETTINGS, epochs=1), folder=tmp_path)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, toy_model, toy_data, caplog):
    model = toy_model()
    fit(model, *toy_data, SETTINGS, folder=tmp_path)
    newest = max((tmp_path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-7])
    again = toy_model()
    fit(again, *toy_data, SETTINGS, folder=tmp_path)
    assert "is damaged and is passed over" in caplog.text
    assert same(weights(model), weights(again))


@pytest.mark.parametrize("what", ["settings", "weights", "cases"])
def test_another_trainings_checkpoints_are_refused(tmp_path, toy_model, toy_data, what):
    train, validation = toy_data
    fit(toy_model(), train, validation, replace(SETTINGS, epochs=1), folder=tmp_path)
    model = toy_model()
    settings = replace(SETTINGS, epochs=2 if what == "settings" else 1)
    if what == "weights":
        nn.init.normal_(model.head.weight)
    if what == "cases":
        train = TensorDataset(train.tensors[0], 1 - train.tensors[1])
    with pytest.raises(RunFolderError, match="they are another training's"):
        fit(model, train, validation, settings, folder=tmp_path)


KILLER = """
import math, os, random, signal, sys, time
import torch
from pathlib import Path
from torch import nn
from torch.utils.data import TensorDataset
from vitrail.training.fit import FitSettings, fit

torch.set_num_threads(1)
FOLDER, KILLS = Path(sys.argv[1]), int(sys.argv[2])


def train(name):
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(24, 1, 4, 4), torch.arange(24) % 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    settings = FitSettings(epochs=5, batch_size=6, checkpoint_steps=1, ema_decay=0.9)
    fit(model, data, data, settings, folder=FOLDER / name)
    torch.save(model.state_dict(), FOLDER / "writing")
    (FOLDER / "writing").rename(FOLDER / f"{name}.pt")


def forked(name, seconds):
    child = os.fork()
    if not child:
        train(name)
        os._exit(0)
    ends, ended = time.perf_counter() + seconds, (0, 0)
    while not ended[0]:
        if time.perf_counter() > ends:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
        ended = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(ended[1])


def timed(name):
    start = time.perf_counter()
    assert forked(name, math.inf) == 0
    return time.perf_counter() - start


whole = min(timed(name) for name in ("whole", "again", "anew"))  # one may come at a busy moment
draw = random.Random(0)
deaths = ends = 0
while deaths < KILLS:
    deaths += forked(f"cut{ends}", draw.uniform(0, whole / 2)) == -signal.SIGKILL
    ends += (FOLDER / f"cut{ends}.pt").exists()  # finished: the next begins from the start
assert forked(f"cut{ends}", math.inf) == 0
"""


def test_a_process_killed_at_twenty_moments_ends_in_the_same_weights(tmp_path):
    command = [sys.executable, "-c", KILLER, str(tmp_path), "20"]
    subprocess.run(command, check=True)
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    ends = list(tmp_path.glob("cut*.pt"))
    assert ends
    assert all(same(whole, torch.load(end, weights_only=True)) for end in ends)
    assert not list(tmp_path.glob("cut*/checkpoints/.writing-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_says_how_to_go_on(tmp_path, toy_model, toy_data, number):
    def interrupt(stage, *, done, total, note=""):
        if done == 9:
            os.kill(os.getpid(), number)

    whole = toy_model()
    fit(whole, *toy_data, SETTINGS, folder=tmp_path / "whole")
    model = toy_model()
    handler = signal.getsignal(number)
    said = rf"^{number.name}: .*step 3 of 6 is saved; run the same command again"
    with pytest.raises(StoppedError, match=said):
        fit(model, *toy_data, SETTINGS, folder=tmp_path / "cut", progress=interrupt)
    assert signal.getsignal(number) is handler
    model = toy_model()
    fit(model, *toy_data, SETTINGS, folder=tmp_path / "cut")
    assert same(weights(whole), weights(model))


class Poisoned(Dataset):
    """Cases of which some are not finite."""

    def __init__(self, data, bad):
        self.images, self.labels = data.tensors[0].clone(), data.tensors[1]
        self.images[bad] = float("nan")

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def test_one_bad_batch_is_skipped_and_named(tmp_path, toy_model, toy_data, caplog):
    train, validation = toy_data
    model = toy_model()
    fit(model, Poisoned(train, [5]), validation, replace(SETTINGS, epochs=1), folder=tmp_path)
    (message,) = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert "5" in message.partition("cases ")[2].split(", ")
    assert all(value.isfinite().all() for value in weights(model).values())


def test_bad_batches_are_skipped_with_scaled_gradients_too(tmp_path, toy_model, toy_data):
    accelerator = Accelerator(cpu=True)
    objective = Classification(SETTINGS, num_classes=2)
    stepper = Stepper(toy_model(), SETTINGS, steps=9, objective=objective, accelerator=accelerator)
    stepper.scaler = torch.amp.GradScaler("cpu")  # as with fp16 on a GPU
    images, labels = toy_data[0][:8]
    names = [str(number) for number in range(8)]
    for number in range(6):
        poisoned = torch.full_like(images, float("nan")) if number in (1, 2) else images
        stepper.step(poisoned, labels, names=names, number=number)
    assert stepper.skipped == 0
    assert all(torch.isfinite(value).all() for value in stepper.model.state_dict().values())


def test_numbers_that_stay_infinite_end_the_training_with_the_cases(tmp_path, toy_model, toy_data):
    train, validation = toy_data
    with pytest.raises(NumericalError, match=r"3 steps on end, last with the cases \d+"):
        fit(toy_model(), Poisoned(train, slice(None)), validation, SETTINGS, folder=tmp_path)


class Hungry(nn.Module):
    """A model for which four pictures at a time are too many."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 2)

    def forward(self, images):
        if len(images) > 2 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return self.head(images.flatten(1))


def test_out_of_memory_cuts_the_batch_and_changes_nothing_else(tmp_path, toy_data, caplog):
    torch.manual_seed(0)
    model = Hungry()
    cut = Hungry()
    cut.load_state_dict(model.state_dict())
    settings = replace(SETTINGS, epochs=1, optimizer="sgd")
    fit(model, *toy_data, settings, folder=tmp_path / "hungry")
    fit(cut, *toy_data, replace(settings, accumulation=4), folder=tmp_path / "cut")
    assert "cut into 4 passes" in caplog.text
    assert same(weights(model), weights(cut))


def test_one_step_of_many_passes_is_one_step_of_the_whole_batch(tmp_path, toy_model, toy_data):
    quiet = {"drop_rate": 0.0, "drop_path_rate": 0.0}
    models = []
    for passes in (1, 4):
        models.append(toy_model(**quiet))
        settings = FitSettings(
            epochs=1, batch_size=48, accumulation=passes, optimizer="sgd", warmup=0.0
        )
        fit(models[-1], *toy_data, settings, folder=tmp_path / str(passes))
    for first, second in zip(weights(models[0]).values(), weights(models[1]).values(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_the_callers_randomness_and_the_dataset_order_are_left(tmp_path, toy_model, toy_data):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    model = toy_model()
    fit(model, *toy_data, replace(SETTINGS, epochs=1), folder=tmp_path)
    seconds_a_step(model, 2, (1, 16, 16))
    assert torch.equal(torch.rand(4), expected)


def test_a_checkpoint_of_an_earlier_version_is_named_and_kept(tmp_path, toy_model, toy_data):
    fit(toy_model(), *toy_data, replace(SETTINGS, epochs=1), folder=tmp_path)
    folder = tmp_path / "checkpoints"
    (written,) = folder.iterdir()
    state = torch.load(written, weights_only=True)
    del state["epochs"]  # as it was before trainings could be cut short
    save_checkpoint(folder, step=9, state=state)
    earlier = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunFolderError, match=r"step-0{8}9-.*it lacks epochs\); .*; go on with"):
        fit(toy_model(), *toy_data, replace(SETTINGS, epochs=1), folder=tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == earlier


def test_patience_ends_a_training_that_gets_no_better(tmp_path, toy_model, toy_data):
    settings = replace(SETTINGS, epochs=50, learning_rate=0.0, ema_decay=None, patience=2)
    result = fit(toy_model(), *toy_data, settings, folder=tmp_path)
    assert (result.best_epoch, len(result.history)) == (1, 3)


class Slow:
    """A clock on which every step takes a minute, a step of the first epoch ten."""

    def __init__(self, monkeypatch):
        self.reads = 0
        monkeypatch.setattr(loop, "perf_counter", self)

    def __call__(self):
        self.reads += 1  # three a step, of which the last ends it
        steps = self.reads // 3
        return 60.0 * (10 * min(steps, 6) + max(0, steps - 6))


def test_a_machine_slower_than_planned_cuts_the_schedule_short(
    tmp_path, toy_model, toy_data, monkeypatch, caplog
):
    Slow(monkeypatch)
    settings = replace(SETTINGS, epochs=20, most_minutes=60.0 + 6 * 4 + 3)
    result = fit(toy_model(), *toy_data, settings, folder=tmp_path)
    assert len(result.history) == 5  # the first, and four of six minutes each
    assert "5 epochs in place of 20" in result.warnings[0]
    assert "5 epochs in place of 20" in caplog.text
    assert result.history[-1]["learning_rate"] == pytest.approx(5e-3 * 0.01)
    again = toy_model()
    fit(again, *toy_data, settings, folder=tmp_path, progress=Cut(0))  # as it was ended


def test_a_limit_that_is_waived_gives_the_epochs_back(
    tmp_path, toy_model, toy_data, monkeypatch, caplog
):
    Slow(monkeypatch)
    settings = replace(SETTINGS, epochs=9, most_minutes=60.0 + 6 * 2 + 3)
    with pytest.raises(CutOff):
        fit(toy_model(), *toy_data, settings, folder=tmp_path, progress=Cut(14))
    assert "3 epochs in place of 9" in caplog.text
    waived = replace(settings, most_minutes=None)
    result = fit(toy_model(), *toy_data, waived, folder=tmp_path)
    assert len(result.history) == 9
    assert not any("slower" in warning for warning in result.warnings)


@pytest.mark.parametrize("minutes", [None, 60.0 + 6 * 5])
def test_time_enough_leaves_the_schedule(tmp_path, toy_model, toy_data, monkeypatch, minutes):
    Slow(monkeypatch)
    settings = replace(SETTINGS, most_minutes=minutes)
    result = fit(toy_model(), *toy_data, settings, folder=tmp_path)
    assert len(result.history) == SETTINGS.epochs
    assert not any("slower" in warning for warning in result.warnings)


def test_a_training_that_learns_nothing_says_so(tmp_path, toy_model, toy_data, caplog):
    train, validation = toy_data
    model = toy_model(drop_rate=0.0, drop_path_rate=0.0)
    nn.init.zeros_(model.head.weight)
    settings = replace(SETTINGS, epochs=2, learning_rate=0.0)
    result = fit(model, train, validation, settings, folder=tmp_path)
    assert [warning.partition(":")[0].partition(" (")[0] for warning in result.warnings] == [
        "the training loss never left chance",
        "the model puts every validation case into one class",
    ]


def test_several_labels_a_case_are_learned_each_by_itself(tmp_path, toy_model, toy_data):
    train, validation = (
        TensorDataset(part.tensors[0], torch.stack([part.tensors[1], 1 - part.tensors[1]], 1))
        for part in toy_data
    )
    model = toy_model()
    settings = replace(SETTINGS, epochs=15, multi_label=True)
    result = fit(model, train, validation, settings, folder=tmp_path)
    assert result.history[result.best_epoch - 1]["roc_auc_score"] > 0.8
    probabilities = predict(model, validation, multi_label=True)
    assert not np.allclose(probabilities.sum(axis=1), 1)


def test_unequal_classes_are_balanced_and_said_so(tmp_path, toy_model, toy_data, caplog):
    train, validation = toy_data
    few = torch.cat([torch.arange(0, 48, 2), torch.arange(1, 17, 2)])
    unequal = TensorDataset(train.tensors[0][few], train.tensors[1][few])
    with caplog.at_level(logging.INFO, logger="vitrail"):
        fit(toy_model(), unequal, validation, replace(SETTINGS, epochs=1), folder=tmp_path)
    assert "3.0 times the cases of the smallest: the loss is weighed by [0.67, 2.0]" in caplog.text


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (torch.arange(48) % 3, SETTINGS, "build the model with num_classes=3"),
        (torch.arange(48) % 2, replace(SETTINGS, multi_label=True), "multi_label takes a row"),
    ],
)
def test_labels_that_do_not_fit_the_model_are_refused(
    tmp_path, toy_model, toy_data, labels, settings, message
):
    train = TensorDataset(toy_data[0].tensors[0], labels)
    with pytest.raises(InputError, match=message):
        fit(toy_model(), train, toy_data[1], settings, folder=tmp_path)


@pytest.mark.parametrize(("cases", "size", "passes"), [(48, 1, 1), (5, 2, 1), (48, 8, 8)])
def test_a_pass_of_one_case_with_batch_normalization_is_refused(
    tmp_path, toy_data, cases, size, passes
):
    train = TensorDataset(*toy_data[0][:cases])
    settings = replace(SETTINGS, batch_size=size, accumulation=passes, epochs=1)
    model = nn.Sequential(nn.Conv2d(1, 2, 16), nn.BatchNorm2d(2), nn.Flatten())
    with pytest.raises(InputError, match="two a pass for batch normalization"):
        fit(model, train, toy_data[1], settings, folder=tmp_path)


def test_probabilities_do_not_depend_on_the_batch_size(toy_model, toy_data):
    model = toy_model().train()
    one, many = (predict(model, toy_data[1], batch_size=size) for size in (1, 24))
    np.testing.assert_allclose(one, many, atol=1e-6)
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-12)
    assert model.training


def test_timing_a_step_leaves_the_model(toy_model):
    model = toy_model().eval()
    before = weights(model)
    assert seconds_a_step(model, 4, (1, 16, 16)) > 0
    assert same(before, weights(model))
    assert not model.training


VANISHING = """
import os, sys
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import Dataset, get_worker_info
from vitrail.errors import TrainingError
from vitrail.training.fit import FitSettings, fit


class Vanishing(Dataset):
    '''Cases of which one ends the process that loads it, in the second epoch.'''

    labels = torch.arange(24) % 2
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 24

    def __getitem__(self, index):
        if get_worker_info() is not None and self.epoch == 1 and index == 7:
            os._exit(1)
        return torch.ones(4), self.labels[index]


data = Vanishing()
settings = FitSettings(epochs=2, batch_size=8, num_workers=1)
try:
    fit(nn.Linear(4, 2), data, data, settings, folder=Path(sys.argv[1]))
except TrainingError as error:
    print(error)
"""


def test_a_vanished_worker_is_said_and_the_state_is_kept(tmp_path):
    command = [sys.executable, "-c", VANISHING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a process that loads pictures vanished" in done.stdout
    assert "workers: 0 in plan.yaml" in done.stdout
    assert list((tmp_path / "checkpoints").glob("step-*.pt"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        ConnectionResetError(104, "Connection reset by peer"),
        EOFError(),
    ],
)
def test_whatever_tells_that_a_worker_vanished_the_step_before_is_saved(
    tmp_path, toy_model, toy_data, monkeypatch, error
):
    given = Loop.items

    def vanishing(training, plan):
        if training.epochs_done == 0:
            yield from given(training, plan)
            return
        yield next(given(training, plan))
        raise error

    monkeypatch.setattr(Loop, "items", vanishing)
    with pytest.raises(TrainingError, match="a process that loads pictures vanished"):
        fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
    (newest,) = sorted((tmp_path / "checkpoints").glob("step-*.pt"))[-1:]
    assert torch.load(newest, weights_only=True)["batches_done"] == 1


def test_the_signal_of_a_vanished_worker_may_come_while_the_step_before_is_saved(
    tmp_path, toy_model, toy_data, monkeypatch
):
    publish, signals = torch.save, [RuntimeError("DataLoader worker (pid 7) exited unexpectedly")]

    def vanishing(training, plan):
        del training, plan
        yield toy_data[0][:8]
        monkeypatch.setattr(torch, "save", interrupted)
        raise ConnectionResetError(104, "Connection reset by peer")

    def interrupted(*arguments):
        if signals:
            raise signals.pop()
        publish(*arguments)

    monkeypatch.setattr(Loop, "items", vanishing)
    with pytest.raises(TrainingError, match="a process that loads pictures vanished"):
        fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)
    (newest,) = (tmp_path / "checkpoints").glob("step-*.pt")
    assert torch.load(newest, weights_only=True)["batches_done"] == 1
    assert not signals


def test_another_error_of_the_loading_is_left_as_it_is(tmp_path, toy_model, toy_data, monkeypatch):
    def broken(training, plan):
        raise RuntimeError("quite another matter")
        yield

    monkeypatch.setattr(Loop, "items", broken)
    with pytest.raises(RuntimeError, match="quite another matter"):
        fit(toy_model(), *toy_data, SETTINGS, folder=tmp_path)


@pytest.mark.parametrize("name", ["lion", "lamb", "adafactor"])
def test_optimizers_of_timm_are_taken_by_name(tmp_path, toy_model, toy_data, name):
    settings = replace(SETTINGS, epochs=2, optimizer=name, layer_decay=0.8)
    assert fit(toy_model(), *toy_data, settings, folder=tmp_path).best_epoch


def test_an_unknown_optimizer_is_answered_with_the_nearest(tmp_path, toy_model, toy_data):
    settings = replace(SETTINGS, optimizer="adamq")
    with pytest.raises(InputError, match=r"optimizer: 'adamq'; .*perhaps adam"):
        fit(toy_model(), *toy_data, settings, folder=tmp_path)


def test_early_layers_learn_slower_by_the_layer_decay(toy_model):
    stepper = Stepper(
        toy_model(),
        replace(SETTINGS, layer_decay=0.5),
        steps=1,
        objective=Classification(SETTINGS, num_classes=2),
        accelerator=Accelerator(),
    )
    scale = {
        id(parameter): group["lr_scale"]
        for group in stepper.optimizer.param_groups
        for parameter in group["params"]
    }
    model = stepper.model
    rates = [
        scale[id(one)]
        for one in (
            model.patch_embed.proj.weight,
            model.blocks[0].attn.qkv.weight,
            model.blocks[1].attn.qkv.weight,
            model.head.weight,
        )
    ]
    assert rates == [0.125, 0.25, 0.5, 1.0]
