"""The galleries show wrong predictions first and leave no cell of the confusion matrix empty."""

from base64 import b64decode
from io import BytesIO

import numpy as np
from PIL import Image

from vitrail.report.contents import read
from vitrail.report.gallery import choose, gallery
from vitrail.report.maps import read_map
from vitrail.report.page import build
from vitrail.report.trust import strip
from vitrail.runfolder import read_csv, read_json, write_csv, write_json


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
    peaks = [card.maps[0].peak for card in shown.cards]
    assert shown.legends[0].count == len(peaks)
    assert max(peaks) >= 1.0
    assert min(peaks) < 0.9


def test_an_even_map_is_said_to_be_even_and_veils_nothing(make_run):
    run = make_run(cases=24)
    first, second = [card.case_id for card in gallery(read(run)).cards[:2]]
    for case_id, least in ((first, 0.95), (second, 0.85)):
        values = np.full((8, 8), 0.0156)
        values[2, 3] *= least
        np.savez(run.explanation(case_id), values=values)
    drawn = {card.case_id: card.maps[0] for card in gallery(read(run)).cards}
    assert drawn[first].raw.even
    assert drawn[first].overlays == {}
    assert not drawn[second].raw.even
    assert drawn[second].overlays
    page = build(run)
    assert page.count(">nearly even: nothing stands out</span>") == 1


def test_near_its_zero_a_signed_map_lets_the_picture_show_through(make_run):
    run = make_run(cases=24, methods=("libra",))
    card = gallery(read(run)).cards[0]
    values = np.zeros((8, 8))
    values[4, 4], values[4, 5] = 1.0, -1.0
    np.savez(run.explanation(card.case_id, method="libra"), values=values)
    rollout, libra = gallery(read(run)).cards[0].maps

    def opacity(uri):
        stored = Image.open(BytesIO(b64decode(uri.partition(",")[2])))
        return np.asarray(stored.convert("RGBA"))[..., 3]

    assert (opacity(rollout.overlays["image-patches"]) == 255).all()
    painted = opacity(libra.overlays["image-patches"])
    assert set(np.unique(painted)) == {2, 255}
    assert (painted == 255).mean() < 0.1


def test_every_method_has_its_own_map_stamp_and_scale(make_run):
    shown = gallery(read(make_run(cases=24, methods=("libra", "relevance"))))
    assert [one.method for one in shown.legends] == ["rollout", "libra", "relevance"]
    assert [one.signed for one in shown.legends] == [False, True, True]
    for card in shown.cards:
        assert [one.class_specific for one in card.maps] == [False, True, True]
        assert len({one.overlays["run-patches"] for one in card.maps}) == 3


def test_with_many_methods_the_last_cases_show_only_the_runs_own_map(make_run, monkeypatch):
    monkeypatch.setattr("vitrail.report.gallery.MOST_MAPS", 6)
    shown = gallery(read(make_run(cases=36, methods=("libra",))))
    assert shown.partly == 3
    assert [len(card.maps) for card in shown.cards] == [2] * 3 + [1] * (len(shown.cards) - 3)


def test_a_map_that_failed_its_test_carries_the_reason(make_run):
    card = gallery(read(make_run(cases=24, methods=("libra",)))).cards[0]
    strips = {one.method: one.strip for one in card.maps}
    assert strips["rollout"].fails == ()
    assert strips["libra"].fails == ("it hardly changes when the weights are shuffled",)
    assert dict(strips["libra"].facts) == {
        "gain over random": "0.21 (method: 0.12 to 0.31)",
        "stability": "0.83",
        "randomization": "failed",
        "completeness error": "1.3\xa0%",
        "on prefix tokens": "41\xa0%",
    }


def test_a_map_whose_own_stability_was_not_tested_carries_its_methods(make_run):
    contents = read(make_run(cases=24, methods=("libra",)))
    case, strips = next(iter(contents.faithfulness["strips"].items()))
    strips["libra"] |= {"stability": None, "stability_of_method": 0.7}
    facts = dict(strip(contents, case, method="libra", prefix_share=None).facts)
    assert facts["stability"] == "0.70 (mean of the method)"


def test_an_untested_map_says_so_and_keeps_what_its_own_record_knows(make_run):
    card = gallery(read(make_run(cases=24))).cards[0]
    assert card.maps[0].strip.facts == (("trust", "not tested"), ("on prefix tokens", "41\xa0%"))


def test_a_map_of_a_volume_is_shown_by_its_strongest_slice(make_run):
    run = make_run(cases=24)
    path = run.explanation(next(iter(read(run).truth)))
    values = np.zeros((5, 8, 8), dtype=np.float32)
    values[3, 2, 6] = 9.0
    np.savez(path, values=values)
    assert read_map(path).values[2, 6] == 9.0
    assert gallery(read(run)).cards


def test_a_case_with_several_labels_is_right_if_its_decision_is_one_of_them(make_run):
    run = make_run(cases=24, models=("vit",))
    rows = read_csv(run.predictions)
    for row in rows:
        row["y_true"] = "clear|nodule"
    write_csv(run.predictions, rows, header=list(rows[0]))
    assert all(card.right for card in gallery(read(run)).cards)


def test_a_method_whose_maps_have_no_preprocessing_is_left_out_rather_than_drawn_wrong(make_run):
    run = make_run(cases=24, methods=("libra",))
    for path in run.root.glob("models/*/*/*/model.json"):
        path.unlink()
    for path in (run.explanations / "libra").glob("*.json"):
        about = read_json(path)
        del about["extra"]["preprocessing"]
        write_json(path, about)
    assert all(len(card.maps) == 1 for card in gallery(read(run)).cards)
