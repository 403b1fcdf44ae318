from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.split import (
    analysis_unit,
    certify,
    clusters,
    crossing,
    load_split,
    make_split,
    partition,
    write_split,
)
from vitrail.errors import DataError, InputError, LeakageError, RunFolderError
from vitrail.records import Case, Cohort, join_labels


def cohort_of(patients, slices=2, split=""):
    cases = [
        Case(
            case_id=f"{number:03d}-{level}",
            path=f"{number}-{level}.png",
            label="ab"[number % 2],
            patient_id=f"P{number}",
            split=split,
        )
        for number in range(patients)
        for level in range(slices)
    ]
    return Cohort(Path(), tuple(cases), ("a", "b"))


def test_clusters_join_patients_groups_and_near_duplicates():
    cases = [
        Case(case_id="1", path="1", label="a", patient_id="P"),
        Case(case_id="2", path="2", label="a", patient_id="P", group="G"),
        Case(case_id="3", path="3", label="b", group="G"),
        Case(case_id="4", path="4", label="b"),
        Case(case_id="5", path="5", label="b"),
        Case(case_id="6", path="6", label="b", group="P"),
    ]
    found = clusters(cases, [("4", "5"), ("4", "unknown")])
    assert found["1"] == found["2"] == found["3"] == "patient:P"
    assert found["4"] == found["5"] == "case:4"
    assert found["6"] == "group:P"


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=12, max_size=40),
    seed=st.integers(0, 1000),
    shuffled=st.randoms(use_true_random=False),
)
def test_a_partition_cuts_no_cluster_and_does_not_see_the_order(sizes, seed, shuffled):
    labels, groups = {}, {}
    for number, size in enumerate(sizes):
        for index in range(size):
            labels[f"{number}-{index}"] = "abc"[number % 3]
            groups[f"{number}-{index}"] = str(number)
    parts = partition(labels, groups, fractions=(0.6, 0.2, 0.2), seed=seed)
    for number, size in enumerate(sizes):
        assert len({parts[f"{number}-{index}"] for index in range(size)}) == 1
    items = list(labels.items())
    shuffled.shuffle(items)
    assert partition(dict(items), groups, fractions=(0.6, 0.2, 0.2), seed=seed) == parts


def test_a_split_keeps_its_fractions_in_every_class():
    cohort = cohort_of(100)
    split = make_split(cohort, groups=clusters(cohort), seed=0)
    for label in "ab":
        parts = [split[case.case_id] for case in cohort if case.label == label]
        assert [parts.count(part) for part in ("train", "validation", "test")] == [60, 20, 20]
    assert crossing(clusters(cohort), split) == []


def test_the_seed_decides():
    cohort, groups = cohort_of(30), clusters(cohort_of(30))
    first = make_split(cohort, groups=groups, seed=0)
    assert first == make_split(cohort, groups=groups, seed=0)
    assert first != make_split(cohort, groups=groups, seed=1)


def test_three_patients_a_class_reach_every_part():
    cohort = cohort_of(6)
    split = make_split(cohort, groups=clusters(cohort), seed=0)
    for label in "ab":
        assert {split[case.case_id] for case in cohort if case.label == label} == {
            "train",
            "validation",
            "test",
        }


def test_a_class_of_one_patient_is_refused():
    cohort = cohort_of(2, slices=5)
    with pytest.raises(DataError, match=r"no case of class 'a' in (train|test)"):
        make_split(cohort, groups=clusters(cohort), seed=0)


def test_a_given_split_is_kept_and_what_it_lacks_is_taken_from_train(caplog):
    train, test = cohort_of(40, split="train"), cohort_of(60, split="test").cases[80:]
    cohort = Cohort(Path(), train.cases + test, ("a", "b"))
    groups = clusters(cohort)
    split = make_split(cohort, groups=groups, seed=0)
    assert {split[case.case_id] for case in test} == {"test"}
    assert list(split.values()).count("validation") == 20
    assert crossing(groups, split) == []
    assert "taken out of train" in caplog.text


def test_fractions_sum_to_one():
    cohort = cohort_of(10)
    with pytest.raises(InputError, match="sum to one"):
        make_split(cohort, groups=clusters(cohort), seed=0, fractions=(0.5, 0.2, 0.2))


def test_one_known_patient_makes_patients_the_unit():
    unknown = Case(case_id="x", path="x", label="a")
    assert analysis_unit([unknown]) == "image"
    assert analysis_unit([unknown, *cohort_of(1)]) == "patient"


def test_a_split_comes_back_and_a_moved_case_is_noticed(tmp_path):
    cohort = cohort_of(10)
    groups = clusters(cohort)
    split = make_split(cohort, groups=groups, seed=0)
    path = tmp_path / "split.csv"
    write_split(path, cohort, split=split, groups=groups)
    assert load_split(path, cohort) == (split, groups)
    assert certify(cohort, split, groups=groups)["unit"] == "patient"
    text = path.read_text()
    path.write_text(text.replace("test", "train", 1))
    with pytest.raises(LeakageError, match="certificate"):
        load_split(path, cohort)
    path.write_text(text)
    with pytest.raises(LeakageError, match="certificate"):
        load_split(path, cohort_of(9))
    path.unlink()
    with pytest.raises(RunFolderError, match="vitrail plan"):
        load_split(path, cohort)


def several(count, shares, seed=0):
    generator = np.random.default_rng(seed)
    return {
        f"{number:04d}": join_labels(
            [n for n, share in shares.items() if generator.random() < share]
        )
        for number in range(count)
    }


def test_each_label_and_none_keep_their_share_in_every_part():
    labels = several(1000, {"common": 0.5, "some": 0.1, "rare": 0.012})
    parts = partition(labels, {name: name for name in labels}, fractions=(0.6, 0.2, 0.2), seed=1)
    for label in ("common", "some", "rare"):
        has = [name for name in labels if label in labels[name].split("|")]
        shares = np.bincount([parts[name] for name in has], minlength=3) / len(has)
        assert np.abs(shares - (0.6, 0.2, 0.2)).max() <= max(0.01, 1 / len(has))
    assert np.bincount(list(parts.values())).tolist() == pytest.approx([600, 200, 200], abs=4)


def test_patients_with_several_labels_stay_whole():
    labels = several(300, {"a": 0.4, "b": 0.05})
    groups = {name: f"P{int(name) // 3}" for name in labels}
    parts = partition(labels, groups, fractions=(0.6, 0.2, 0.2), seed=0)
    assert len({(groups[name], part) for name, part in parts.items()}) == 100
    has = [parts[name] for name in labels if "b" in labels[name].split("|")]
    assert np.bincount(has, minlength=3).min() >= 2


def test_a_label_that_is_left_out_of_the_test_part_is_refused():
    labels = ["a|b", "a|b", *["a|", "|"] * 10]
    cases = [
        Case(case_id=f"{n:02d}", path=f"{n}.png", label=label, patient_id="P" if n < 2 else "")
        for n, label in enumerate(labels)
    ]
    cohort = Cohort(Path(), tuple(cases), ("a", "b"))
    with pytest.raises(DataError, match="no case of class 'b' in"):
        make_split(cohort, groups=clusters(cohort), seed=0)
