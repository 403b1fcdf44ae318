"""A checkpoint is whole or is not there."""

import resource

import pytest
import torch

from vitrail.errors import RunFolderError, TrainingError
from vitrail.training.checkpoint import load_checkpoint, save_checkpoint


def test_the_newest_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (9, 10, 11):
        save_checkpoint(tmp_path, step=step, state={"step": step, "weights": torch.ones(3)})
    assert [path.name[:14] for path in sorted(tmp_path.iterdir())] == [
        "step-000000010", "step-000000011",
    ]  # fmt: skip
    assert load_checkpoint(tmp_path, parts=("step", "weights"))["step"] == 11


def test_no_folder_and_no_whole_checkpoint_are_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path / "none", parts=()) is None
    (tmp_path / "step-000000001-0123456789abcdef.pt").write_bytes(b"cut short")
    (tmp_path / ".writing-x").write_bytes(b"half")
    assert load_checkpoint(tmp_path, parts=()) is None
    assert not (tmp_path / ".writing-x").exists()


@pytest.mark.parametrize("allowed", [0, 1000, 200_000])
def test_a_full_disk_keeps_the_checkpoint_before_and_says_how_to_go_on(tmp_path, allowed):
    save_checkpoint(tmp_path, step=1, state={"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, hard))
    try:
        with pytest.raises(TrainingError, match=r"File too large.*run the same command again"):
            save_checkpoint(tmp_path, step=2, state={"step": 2, "weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list(tmp_path.iterdir())) == 1
    assert load_checkpoint(tmp_path, parts=("step",))["step"] == 1


def test_another_versions_format_is_told_by_its_parts(tmp_path):
    folder = tmp_path / "seed3" / "checkpoints"
    save_checkpoint(folder, step=1, state={"step": 1, "of_old": 2})
    with pytest.raises(RunFolderError) as refused:
        load_checkpoint(folder, parts=("step", "epochs"))
    (file,) = folder.iterdir()
    assert refused.value.argument == str(file)
    assert "it lacks epochs; it holds of_old beside" in refused.value.came
    assert f"delete {tmp_path / 'seed3'} and run the same command again" in refused.value.remedy
