"""Several threads, and what each user of them gets."""

from threading import Event, Lock

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from vitrail.data.duplicates import find_duplicates, look
from vitrail.data.workers import work_on


def test_results_come_in_the_order_of_the_items_whoever_ends_first():
    second_is_done = Event()

    def work(item):
        if item == 0:
            assert second_is_done.wait(60)
        elif item == 1:
            second_is_done.set()
        return item * item

    assert list(work_on(range(40), work, threads=2)) == [item * item for item in range(40)]


def test_only_a_bounded_number_of_items_is_taken_ahead():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = work_on(items(), str, threads=2)
    assert next(results) == "0"
    assert len(taken) <= 16
    results.close()


def test_what_a_worker_raises_is_raised_and_nothing_more_is_begun():
    begun, lock = [], Lock()

    def work(item):
        with lock:
            begun.append(item)
        if item == 3:
            raise ValueError("the fourth item")
        return item

    with pytest.raises(ValueError, match="the fourth item"):
        list(work_on(range(1000), work, threads=2))
    assert len(begun) < 100


def test_a_matrix_product_within_a_worker_uses_no_further_threads():
    def blas_threads(_):
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    assert set().union(*work_on(range(4), blas_threads)) <= {1}


def test_pictures_are_compared_alike_by_one_thread_and_by_many(monkeypatch):
    generator = np.random.default_rng(0)
    pictures = [np.kron(generator.random((9, 9)), np.ones((8, 8))) for _ in range(12)]
    pictures += [np.rot90(picture) * 0.9 for picture in pictures[:6]]
    looks = [look(picture, content=str(k)) for k, picture in enumerate(pictures)]
    names = [f"{k:02}" for k in range(len(looks))]
    found = []
    for count in (1, 5):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        found.append(find_duplicates(names, looks))
    assert found[0] == found[1]
    assert len(found[0]) >= 6
