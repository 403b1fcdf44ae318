import os
import subprocess
import sys

import pytest

from vitrail.data.cache import Cache


def content(number):
    return bytes([number % 251]) * 100


def key(number):
    return f"{number % 16:02x}{number:062x}"


def sizes(folder):
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_a_picture_comes_back_and_another_does_not(tmp_path):
    cache = Cache(tmp_path)
    cache.put(key(1), content(1))
    assert Cache(tmp_path).get(key(1)) == content(1)
    assert cache.get(key(2)) is None


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = Cache(tmp_path, most_bytes=1000)
    for number in range(10):
        cache.put(key(number), content(number))
        os.utime(tmp_path / key(number)[:2] / key(number), (number, number))
    cache.get(key(0))
    cache.put(key(10), content(10))
    there = [number for number in range(11) if cache.get(key(number)) is not None]
    assert there == [0, 3, 4, 5, 6, 7, 8, 9, 10]
    assert sizes(tmp_path) <= 1000


def test_a_full_folder_is_emptied_by_a_new_process(tmp_path):
    Cache(tmp_path).put(key(1), bytes(10_000))
    Cache(tmp_path, most_bytes=500).put(key(2), content(2))
    assert sizes(tmp_path) == 100


def test_a_disk_that_takes_nothing_is_told_once(tmp_path, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.data.cache.write_bytes", full)
    cache = Cache(tmp_path)
    cache.put(key(1), content(1))
    cache.put(key(2), content(2))
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: nothing is kept (No space left on device)"
    ]


CHURN = """
import sys
from pathlib import Path
import numpy as np
from vitrail.data.cache import Cache

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
cache = Cache(folder, most_bytes=3000)
for number in np.random.default_rng(seed).integers(0, 80, size=300).tolist():
    key, content = f"{number % 16:02x}{number:062x}", bytes([number % 251]) * 100
    found = cache.get(key)
    if found is None:
        cache.put(key, content)
    elif found != content:
        sys.exit("a wrong picture")
"""


def test_several_processes_share_a_small_cache_without_a_wrong_picture(tmp_path):
    command = [sys.executable, "-c", CHURN, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(seed)]) for seed in range(3)]
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0, 0]
    assert sizes(tmp_path) <= 3000 + 3 * 250
    assert not list(tmp_path.glob("??/.writing-*"))


@pytest.mark.parametrize("most", [50, 99])
def test_a_picture_larger_than_the_cache_is_not_kept(tmp_path, most):
    Cache(tmp_path, most_bytes=most).put(key(1), content(1))
    assert sizes(tmp_path) == 0
