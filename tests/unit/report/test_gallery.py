"""The galleries show wrong predictions first and leave no cell of the confusion matrix empty."""

from vitrail.report.contents import read
from vitrail.report.gallery import choose, gallery


def test_a_small_test_set_is_shown_whole(make_run):
    contents = read(make_run(cases=36))
    assert sorted(choose(contents)) == sorted(contents.truth)


def test_a_large_one_is_sampled_from_every_cell_wrong_ones_first(make_run):
    contents = read(make_run(cases=120))
    judged = contents.judged["vit"]
    chosen = choose(contents, most=6)

    def cell(case_id):
        return contents.truth[case_id], judged[case_id].decision

    assert len(chosen) == 6
    assert {cell(name) for name in chosen} == {cell(name) for name in judged}
    right = [contents.truth[name] == judged[name].decision for name in chosen]
    assert right == sorted(right)


def test_probabilities_are_the_mean_over_seeds(make_run):
    contents = read(make_run(cases=24, seeds=(0, 1, 2), models=("vit",)))
    for one in contents.judged["vit"].values():
        assert one.trainings == 3
        assert abs(sum(one.probabilities) - 1) < 1e-9


def test_a_mask_is_outlined_where_it_is_known(make_run):
    cards = gallery(read(make_run(cases=24))).cards
    assert all(bool(card.outline) == (card.truth == "nodule") for card in cards)


def test_maps_share_one_scale_and_weak_ones_stay_weak(make_run):
    shown = gallery(read(make_run(cases=60)))
    peaks = [card.peak for card in shown.cards]
    assert shown.legend.count == len(peaks)
    assert max(peaks) >= 1.0
    assert min(peaks) < 0.9
