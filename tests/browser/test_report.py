"""The report in a real browser, opened from disk."""

import json
from importlib.resources import files

import pytest

from vitrail.report import compare
from vitrail.report.tables import number
from vitrail.runfolder import read_json, write_text

pytestmark = pytest.mark.browser

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
VISIBLE = "img.overlay:visible"
AXE = files("axe_playwright_python") / "axe.min.js"


@pytest.fixture(scope="session")
def comparison(write_run, run, tmp_path_factory):
    """Write the page of two runs."""
    other = write_run(tmp_path_factory.mktemp("browser") / "other", cases=36, noise=11)
    path = other.root / "compare.html"
    write_text(path, compare.build([run, other]))
    return path


def gallery(page):
    return page.locator(".case:visible").count()


def test_every_number_of_the_headline_table_is_the_records(open_report, run):
    page = open_report()
    for model, metrics in read_json(run.evaluation)["sets"]["test"].items():
        for metric, one in metrics.items():
            cell = page.locator(
                f'[data-table="headline"] td[data-metric="{metric}"][data-model="{model}"]'
            )
            assert cell.locator("b").inner_text() == number(one["value"])
            if one["value"] is not None:
                span = f"{number(one['low'])} to {number(one['high'])}"
                assert cell.locator(".interval").inner_text() == span


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_never_scrolls_sideways(open_report, viewport):
    page = open_report(viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_a_click_on_a_confusion_cell_shows_its_cases_and_a_second_one_all(open_report):
    page = open_report()
    everything = gallery(page)
    cell = page.locator('.confusion a[data-model="vit"][data-truth="nodule"]').first
    count = int(cell.inner_text().split()[0])
    cell.click()
    assert gallery(page) == count < everything
    assert "nodule taken for" in page.locator("#filter").inner_text()
    cell.click()
    assert gallery(page) == everything


def test_a_confusion_cell_works_from_the_keyboard(open_report):
    page = open_report()
    everything = gallery(page)
    cell = page.locator(".confusion a").first
    cell.focus()
    page.keyboard.press("Space")
    assert cell.get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Show all").press("Enter")
    assert gallery(page) == everything


def test_the_opacity_slider_fades_the_overlays(open_report):
    page = open_report()
    page.locator("#opacity").fill("20")
    opacity = page.locator(VISIBLE).first.evaluate("one => getComputedStyle(one).opacity")
    assert opacity == "0.2"


def test_grid_and_normalization_change_what_is_drawn_and_what_is_said(open_report):
    page = open_report()
    first = page.locator(VISIBLE).first
    assert first.get_attribute("data-view") == "run-bilinear"
    page.get_by_label("patch grid").check()
    assert first.get_attribute("data-view") == "run-patches"
    page.locator("#per-image").check()
    assert first.get_attribute("data-view") == "image-patches"
    assert "per image" in page.locator(".legend-box figcaption").first.inner_text()


def test_an_overlay_covers_exactly_its_picture(open_report):
    page = open_report()
    overlay = page.locator(VISIBLE).first
    overlay.scroll_into_view_if_needed()
    picture = overlay.locator("xpath=../img[1]")
    assert overlay.bounding_box() == picture.bounding_box()


def test_the_theme_follows_the_system_and_the_button(open_report):
    page = open_report(color_scheme="dark")
    color = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(color)
    page.locator("#theme").click()
    assert page.evaluate(color) != dark
    page.locator("#theme").click()
    assert page.evaluate(color) == dark


def test_without_javascript_everything_is_readable_and_no_dead_control_is_shown(open_report):
    page = open_report(java_script_enabled=False)
    assert gallery(page) > 0
    assert page.locator(VISIBLE).count() > 0
    assert page.locator(".script:visible").count() == 0


def test_paper_gets_a_light_page_without_controls(open_report):
    page = open_report(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".script:visible").count() == 0
    assert page.pdf().startswith(b"%PDF")


def test_the_map_of_one_case_and_of_all_cases_can_be_chosen(open_report):
    page = open_report()
    first, second = page.locator(".case").nth(0), page.locator(".case").nth(1)

    def shown(case):
        name = case.locator(".strip:not([hidden]) b").first.text_content()
        return case.locator(VISIBLE).get_attribute("data-method"), name

    assert shown(first) == shown(second) == ("rollout", "rollout")
    first.locator(".choose select").select_option("libra")
    assert shown(first) == ("libra", "libra")
    assert shown(second) == ("rollout", "rollout")
    assert "Not to be trusted" in first.locator(".strip:not([hidden])").text_content()
    style = "one => getComputedStyle(one).filter"
    assert first.locator(VISIBLE).evaluate(style) == "grayscale(1)"
    page.locator("#method").select_option("libra")
    assert shown(second) == ("libra", "libra")
    assert second.locator(".choose select").input_value() == "libra"


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_of_several_runs_never_scrolls_sideways(open_report, comparison, viewport):
    page = open_report(comparison, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", ["report", "comparison"])
def test_axe_finds_no_serious_accessibility_fault(open_report, comparison, made, scheme):
    page = open_report(comparison if made == "comparison" else None, color_scheme=scheme)
    page.add_style_tag(content=".case, .wall { content-visibility: visible !important; }")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    serious = [
        (one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:4]])
        for one in result["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], json.dumps(serious, indent=1)
