from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.folds import hold_out_sites, make_folds, pooled, splits_final
from vitrail.data.split import clusters, crossing, load_folds, load_split, write_split
from vitrail.errors import DataError, InputError, LeakageError
from vitrail.records import Case, Cohort


def cohort_of(patients, *, given=(), slices=2):
    cases = [
        Case(
            case_id=f"{number:03d}-{level}",
            path=f"{number}-{level}.png",
            label="ab"[number % 2],
            patient_id=f"P{number}",
            site=("North", "South", "West")[number % 3],
            split="test" if number in given else "",
        )
        for number in range(patients)
        for level in range(slices)
    ]
    return Cohort(Path(), tuple(cases), ("a", "b"))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=20, max_size=40),
    folds=st.integers(2, 5),
    seed=st.integers(0, 1000),
    shuffled=st.randoms(use_true_random=False),
)
def test_every_case_is_held_out_once_no_cluster_is_cut_and_the_row_order_does_not_matter(
    sizes, folds, seed, shuffled
):
    cases = [
        Case(case_id=f"{number}-{index}", path="x", label="ab"[number % 2], patient_id=str(number))
        for number, size in enumerate(sizes)
        for index in range(size)
    ]
    groups = clusters(cases)
    made = make_folds(
        Cohort(Path(), tuple(cases), ("a", "b")), groups=groups, folds=folds, seed=seed
    )
    assert len(made) == folds
    for case in cases:
        assert [fold[case.case_id] for fold in made].count("test") == 1
    assert not any(crossing(groups, fold) for fold in made)
    assert set(pooled(made).values()) == {"test"}
    shuffled.shuffle(cases)
    again = Cohort(Path(), tuple(cases), ("a", "b"))
    assert made == make_folds(again, groups=groups, folds=folds, seed=seed)


def test_folds_are_stratified_and_have_an_inner_validation_part():
    cohort = cohort_of(50)
    for fold in make_folds(cohort, groups=clusters(cohort), folds=5):
        for part, count in (("train", 32), ("validation", 8), ("test", 10)):
            labels = [case.label for case in cohort if fold[case.case_id] == part]
            assert labels.count("a") == labels.count("b") == count


def test_repeats_deal_the_cases_in_other_ways():
    cohort = cohort_of(20)
    groups = clusters(cohort)
    made = make_folds(cohort, groups=groups, folds=4, repeats=2, seed=3)
    assert len(made) == 8
    assert made[:4] == make_folds(cohort, groups=groups, folds=4, seed=3)
    assert made[:4] != made[4:]
    assert set(pooled(made[4:]).values()) == {"test"}


def test_a_given_test_part_is_kept_and_the_others_are_held_out_in_turn():
    cohort = cohort_of(20, given=(0, 1, 2, 3))
    made = make_folds(cohort, groups=clusters(cohort), folds=4)
    for case in cohort:
        parts = [fold[case.case_id] for fold in made]
        assert set(parts) == {"test"} if case.split else parts.count("validation") == 1
    assert sorted(set(pooled(made).values())) == ["test", "validation"]
    final = splits_final(made)
    assert all(len(one["train"]) == 24 and len(one["val"]) == 8 for one in final)


def test_more_folds_than_patients_of_a_class_are_refused():
    cohort = cohort_of(7)
    with pytest.raises(DataError, match=r"folds: 4 folds, but class 'b' has 3 patients.*--folds 3"):
        make_folds(cohort, groups=clusters(cohort), folds=4)
    with pytest.raises(InputError, match="folds: 1 folds, 1 times; cross-validation holds out"):
        make_folds(cohort, groups=clusters(cohort), folds=1)


def test_each_site_is_held_out_once_or_the_one_that_was_asked_for():
    cohort = cohort_of(30)
    groups = clusters(cohort)
    made = hold_out_sites(cohort, groups=groups)
    for fold, site in zip(made, ("North", "South", "West"), strict=True):
        assert {case.site for case in cohort if fold[case.case_id] == "test"} == {site}
        assert site not in {case.site for case in cohort if fold[case.case_id] == "train"}
    assert hold_out_sites(cohort, groups=groups, sites=("South",)) == (made[1],)


def test_sites_that_cannot_be_held_out_are_refused():
    cohort = cohort_of(30)
    groups = clusters(cohort)
    with pytest.raises(InputError, match="'East'; the sites are North, South, West"):
        hold_out_sites(cohort, groups=groups, sites=("East",))
    nameless = replace(cohort, cases=(replace(cohort.cases[0], site=""), *cohort.cases[1:]))
    with pytest.raises(DataError, match="site: 1 cases have none"):
        hold_out_sites(nameless, groups=groups)
    moved = replace(cohort, cases=(replace(cohort.cases[0], site="South"), *cohort.cases[1:]))
    with pytest.raises(LeakageError, match="stand at North and elsewhere, patient:P0 for one"):
        hold_out_sites(moved, groups=groups)
    with pytest.raises(InputError, match="come with a split of their own"):
        hold_out_sites(cohort_of(30, given=(1,)), groups=groups)


def test_folds_survive_the_file_and_a_moved_case_breaks_the_certificate(tmp_path):
    cohort = cohort_of(12)
    groups = clusters(cohort)
    made = make_folds(cohort, groups=groups, folds=3)
    path = tmp_path / "split.csv"
    write_split(path, cohort, split=pooled(made), groups=groups, folds=made)
    assert load_folds(path, cohort) == made
    assert load_split(path, cohort) == (pooled(made), groups)
    lines = path.read_text().splitlines()
    assert lines[0] == "case_id,split,cluster,fold0,fold1,fold2"
    path.write_text("\n".join([lines[0], lines[1].replace("train", "validation"), *lines[2:]]))
    with pytest.raises(LeakageError, match=r"does not agree with its certificate split\.json"):
        load_folds(path, cohort)


def test_nnunets_file_has_the_held_out_part_as_val_and_all_else_as_train():
    cohort = cohort_of(12)
    made = make_folds(cohort, groups=clusters(cohort), folds=3)
    for fold, one in zip(made, splits_final(made), strict=True):
        assert one["val"] == sorted(name for name, part in fold.items() if part == "test")
        assert sorted(one["train"] + one["val"]) == sorted(fold)
