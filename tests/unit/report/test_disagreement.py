"""Cases on which runs part: which they are, who is right, and each run's map of them."""

import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from vitrail.report.compare import build
from vitrail.report.contents import read
from vitrail.report.disagreement import MOST_CASES, disagreement
from vitrail.runfolder import write_text


@pytest.fixture
def pair(make_run):
    """Read two runs on the same cases, and a third that is the first again."""
    one, two = make_run("one", cases=48), make_run("two", cases=48, noise=11)
    return {"one": read(one), "two": read(two)}


def decisions(contents):
    return {name: one.decision for name, one in contents.judged["vit"].items()}


def test_the_cases_are_those_with_several_decisions(pair):
    found = disagreement(pair)
    one, two = decisions(pair["one"]), decisions(pair["two"])
    parted = {name for name in one if one[name] != two[name]}
    assert 0 < len(parted) < len(one)
    assert {case.case_id for case in found.cases} == parted
    assert found.others == ()
    alike = [name for name in one if name not in parted]
    right = sum(one[name] == pair["one"].truth[name] for name in alike)
    assert found.sentence == (
        f"Of {len(one)} test cases the runs decide {len(alike)} alike ({right} rightly, "
        f"{len(alike) - right} wrongly) and {len(parted)} differently."
    )
    assert sum(count for _, count in found.patterns) == len(parted)


def test_each_panel_shows_its_own_run(pair):
    for case in disagreement(pair).cases:
        assert [panel.run for panel in case.panels] == ["one", "two"]
        for panel in case.panels:
            judged = pair[panel.run].judged["vit"][case.case_id]
            assert panel.said.decision == judged.decision
            assert panel.said.right == (judged.decision == case.truth)
            assert set(panel.overlays) >= {"run-bilinear", "image-patches"}
        assert case.panels[0].overlays != case.panels[1].overlays


def test_runs_that_agree_have_nothing_to_show(make_run):
    twins = {name: read(make_run(name, cases=24)) for name in ("one", "two")}
    found = disagreement(twins)
    assert found.cases == ()
    assert found.sentence.endswith("and 0 differently.")


def test_at_most_so_many_cases_are_drawn_and_the_others_stand_in_a_table(pair, monkeypatch):
    every = [case.case_id for case in disagreement(pair).cases]
    monkeypatch.setattr("vitrail.report.disagreement.MOST_CASES", 1)
    assert MOST_CASES > 1
    page = build([contents.run for contents in pair.values()])
    assert re.findall(r'<li class="case" data-case="([^"]*)"', page) == every[:1]
    assert f"The first 1 of {len(every)} cases" in page
    table = page[page.index('aria-label="The other cases"') :]
    assert re.findall(r'<tr><th scope="row">([^<]*)</th><td>', table)[: len(every) - 1] == every[1:]
    judged = pair["one"].judged["vit"][every[1]]
    assert f"</span> {judged.decision} {max(judged.probabilities):.2f}</td>" in table


def test_a_case_leads_to_the_reports_that_show_it(pair, tmp_path):
    run = pair["one"].run
    write_text(run.report, "the report")
    folder = tmp_path / "both of them"
    for case in disagreement(pair, folder=folder).cases:
        one, two = (urlsplit(panel.closer) for panel in case.panels)
        assert (folder / unquote(one.path)).resolve() == run.report.resolve()
        assert parse_qs(one.fragment) == {"case": [case.case_id]}
        assert two.path == ""


def test_without_a_place_for_the_page_no_case_leads_anywhere(pair):
    write_text(pair["one"].run.report, "the report")
    found = disagreement(pair)
    assert not found.leads


def test_a_run_without_pictures_and_maps_still_gets_its_cases(pair):
    for contents in pair.values():
        for path in (*contents.run.pictures.iterdir(), *contents.run.explanations.glob("*.npz")):
            path.unlink()
    found = disagreement(pair)
    assert found.cases
    assert all(case.picture == "" for case in found.cases)
    assert all(panel.overlays == {} for case in found.cases for panel in case.panels)
