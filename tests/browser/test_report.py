"""The report in a real browser, opened from disk."""

import json
from importlib.resources import files

import pytest
from playwright.sync_api import expect

from vitrail.report import compare
from vitrail.report.page import build
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
    write_text(path, compare.build([run, other], folder=other.root))
    return path


@pytest.fixture(scope="session")
def long_run(write_run, tmp_path_factory):
    """Write a report whose gallery is folded."""
    run = write_run(tmp_path_factory.mktemp("browser") / "long", cases=120)
    write_text(run.report, build(run))
    return run.report


def gallery(page):
    return page.locator(".case:visible")


def test_every_number_of_the_headline_table_is_the_records(open_report, run):
    page = open_report()
    for model, metrics in read_json(run.evaluation)["sets"]["test"].items():
        for metric, one in metrics.items():
            cell = page.locator(
                f'[data-table="headline"] td[data-metric="{metric}"][data-model="{model}"]'
            )
            expect(cell.locator("b")).to_have_text(number(one["value"]))
            if one["value"] is not None:
                span = f"{number(one['low'])} to {number(one['high'])}"
                expect(cell.locator(".interval")).to_have_text(span)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_bar_on_top_leads_to_the_very_place(open_report, long_run, viewport):
    page = open_report(long_run, viewport=viewport)
    for link in page.locator("nav a").all():
        name = link.get_attribute("href")
        link.click()
        page.wait_for_function(
            """name => {
              const at = document.querySelector(name).getBoundingClientRect().top;
              const page = document.documentElement;
              return Math.abs(at - 44) < 8 || page.scrollHeight - scrollY - innerHeight < 2;
            }""",
            arg=name,
        )


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_never_scrolls_sideways(open_report, viewport):
    page = open_report(viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_many_trainings_keep_readable_panels_on_a_narrow_screen(open_report, write_run, tmp_path):
    run = write_run(tmp_path / "run", cases=24, seeds=range(5), models=("vit",))
    write_text(run.report, build(run))
    page = open_report(run.report, viewport=NARROW)
    panels = page.get_by_role("region", name="Panels of Loss: Vision Transformer")
    words = panels.locator("text").first
    words.scroll_into_view_if_needed()
    assert words.evaluate("one => one.getBoundingClientRect().height") > 9
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_a_click_on_a_confusion_cell_shows_its_cases_and_a_second_one_all(open_report):
    page = open_report()
    everything = gallery(page).count()
    cell = page.locator('.confusion a[data-model="vit"][data-truth="nodule"]').first
    count = int(cell.inner_text().split()[0])
    assert count < everything
    cell.click()
    expect(gallery(page)).to_have_count(count)
    expect(page.locator("#filter")).to_contain_text("nodule taken for")
    cell.click()
    expect(gallery(page)).to_have_count(everything)


def test_a_click_on_a_confusion_cell_unfolds_its_cases(open_report, long_run):
    page = open_report(long_run)
    unfolded = gallery(page).count()
    assert unfolded < page.locator(".case").count()
    cell = page.locator('.confusion a[data-model="vit"][data-truth="nodule"]').last
    count = int(cell.inner_text().split()[0])
    assert count > 12
    cell.click()
    expect(gallery(page)).to_have_count(count)
    cell.click()
    expect(gallery(page)).to_have_count(unfolded)


def test_a_confusion_cell_works_from_the_keyboard(open_report):
    page = open_report()
    everything = gallery(page).count()
    cell = page.locator(".confusion a").first
    cell.press("Space")
    expect(cell).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Show all").press("Enter")
    expect(gallery(page)).to_have_count(everything)


def test_the_opacity_slider_fades_the_overlays(open_report):
    page = open_report()
    page.locator("#opacity").fill("20")
    expect(page.locator(VISIBLE).first).to_have_css("opacity", "0.2")


def test_grid_and_normalization_change_what_is_drawn_and_what_is_said(open_report):
    page = open_report()
    first = page.locator(VISIBLE).first
    expect(first).to_have_attribute("data-view", "run-bilinear")
    page.get_by_label("patch grid").check()
    expect(first).to_have_attribute("data-view", "run-patches")
    page.locator("#per-image").check()
    expect(first).to_have_attribute("data-view", "image-patches")
    expect(page.locator(".legend-box figcaption").first).to_contain_text("per image")


def test_an_overlay_covers_exactly_its_picture(open_report):
    page = open_report()
    overlay = page.locator(VISIBLE).first
    overlay.scroll_into_view_if_needed()
    boxes = """one => [one, one.parentElement.querySelector("img")].map(part => {
      const box = part.getBoundingClientRect();
      return [box.x, box.y, box.width, box.height];
    })"""  # in one go: the page may still be scrolling
    over, picture = overlay.evaluate(boxes)
    assert over == picture


def test_the_theme_follows_the_system_and_the_button(open_report):
    page = open_report(color_scheme="dark")
    body = page.locator("body")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    expect(body).not_to_have_css("background-color", dark)
    page.locator("#theme").click()
    expect(body).to_have_css("background-color", dark)


def test_without_javascript_everything_is_readable_and_no_dead_control_is_shown(open_report):
    page = open_report(java_script_enabled=False)
    expect(gallery(page)).not_to_have_count(0)
    expect(page.locator(VISIBLE)).not_to_have_count(0)
    expect(page.locator(".script:visible")).to_have_count(0)


def test_paper_gets_a_light_page_without_controls(open_report):
    page = open_report(color_scheme="dark")
    page.emulate_media(media="print")
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    expect(page.locator(".script:visible")).to_have_count(0)
    assert page.pdf().startswith(b"%PDF")


def test_the_map_of_one_case_and_of_all_cases_can_be_chosen(open_report):
    page = open_report()
    first, second = page.locator(".case").nth(0), page.locator(".case").nth(1)

    def shows(case, method):
        expect(case.locator(VISIBLE)).to_have_attribute("data-method", method)
        expect(case.locator(".strip:not([hidden]) b").first).to_have_text(method)

    shows(first, "rollout")
    shows(second, "rollout")
    first.locator(".choose select").select_option("libra")
    shows(first, "libra")
    shows(second, "rollout")
    expect(first.locator(".strip:not([hidden])")).to_contain_text("Not to be trusted")
    expect(first.locator(VISIBLE)).to_have_css("filter", "grayscale(1)")
    page.locator("#method").select_option("libra")
    shows(second, "libra")
    expect(second.locator(".choose select")).to_have_value("libra")


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_page_of_several_runs_never_scrolls_sideways(open_report, comparison, viewport):
    page = open_report(comparison, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_the_maps_of_both_runs_stand_side_by_side(open_report, comparison):
    page = open_report(comparison)
    case = page.locator("#cases .case").first
    panels = case.locator(".panel")
    expect(panels).to_have_count(2)
    for place, run in enumerate(("run", "other")):
        expect(panels.nth(place)).to_have_attribute("data-run", run)
        expect(panels.nth(place).locator(VISIBLE)).to_have_attribute("data-view", "run-bilinear")
    said = case.locator(".said dt")
    expect(said.filter(has_text="✓")).to_have_count(1)
    expect(said.filter(has_text="✗")).to_have_count(1)
    page.get_by_label("patch grid").check()
    expect(panels.first.locator(VISIBLE)).to_have_attribute("data-view", "run-patches")


@pytest.mark.parametrize("made", ["report", "comparison"])
def test_nothing_covers_a_curve(open_report, comparison, made):
    page = open_report(comparison if made == "comparison" else None)
    over = page.locator(".chart .pick")
    expect(over).not_to_have_count(0)
    assert set(over.evaluate_all("all => all.map(one => getComputedStyle(one).fill)")) == {"none"}


def test_a_case_of_the_comparison_opens_in_the_report_of_its_run(open_report, comparison):
    page = open_report(comparison)
    case = page.locator("#cases .case").first
    name = case.get_attribute("data-case")
    expect(case.locator(".said a")).to_have_count(1)  # the other run has no report
    case.get_by_role("link", name=f"Look closer at case {name} in the report of run").click()
    expect(page.locator("#stage")).to_be_visible()
    expect(page.locator("#v-title .case-id")).to_have_text(name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", ["report", "comparison"])
def test_axe_finds_no_serious_accessibility_fault(open_report, comparison, made, scheme):
    page = open_report(comparison if made == "comparison" else None, color_scheme=scheme)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    serious = [
        (one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:4]])
        for one in result["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], json.dumps(serious, indent=1)
