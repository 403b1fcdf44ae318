"""The viewer behind the server, in a real browser that may speak to nobody else."""

import io
import json
import re
import time
import zipfile
from base64 import b64encode
from importlib.resources import files
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = files("axe_playwright_python") / "axe.min.js"
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""

PASTE = DROP.replace(
    'new DragEvent("drop", { dataTransfer: data, ',
    'new ClipboardEvent("paste", { clipboardData: data, ',
)


def picture(seed=0):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def visit(browser, served):
    """Return a function that opens the server's page; whom it asked is checked."""
    contexts, asked = [], []

    def opened(fragment="", *, viewport=WIDE, path=None, server=served, **options):
        _, address, token = server
        path = f"?token={token}" if path is None else path
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.goto(address + path + fragment)
        if path.startswith("?token"):
            expect(page.locator("#v-panes")).to_have_attribute("aria-busy", "false")
            expect(page.locator("#v-wall-says")).not_to_be_empty()
        return page

    yield opened
    for context in contexts:
        context.close()
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts <= {"127.0.0.1"}


def test_without_the_token_the_page_says_what_is_missing(visit):
    page = visit(path="")
    expect(page.locator("body")).to_contain_text("needs the token")


def test_the_token_leaves_the_address_and_the_choices_stay(visit):
    page = visit("#case=case2&paint=contour")
    expect(page).not_to_have_url(re.compile("token"))
    expect(page.locator("#v-title")).to_contain_text("case2")
    expect(page.locator("[data-state=paint]")).to_have_value("contour")


def test_every_case_of_the_run_is_listed(visit, served):
    page = visit()
    for case_id in served[0].case_ids:
        expect(page.locator(f'#v-list button[data-case="{case_id}"]')).to_have_count(1)


def test_pointing_shows_attention_that_the_server_computed_now(visit, served):
    page = visit("#case=case1")
    stored = served[0].close_json(1)
    box = page.locator("#v-pane-a").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#v-read")).to_have_attribute("data-value", re.compile(r"\d"))
    said = f"Where this patch attends, layer {stored['layers']}, mean of heads"
    expect(page.locator("#v-says-a")).to_contain_text(said)


def test_a_chosen_picture_is_labelled_and_shown(visit, served):
    page = visit()
    page.locator("#v-files").set_input_files(
        {"name": "one.png", "mimeType": "image/png", "buffer": picture()}
    )
    expect(page.locator("#v-title")).to_contain_text("one.png")
    expect(page.locator("#v-says-a")).to_contain_text("rollout")
    one = next(sent.about for sent in served[0].sent if sent.name == "one.png")
    decided = one["said"][0]["decision"]
    expect(page.locator("#v-sent")).to_contain_text(f"one.png: {decided}")
    expect(page.locator("#v-said")).to_contain_text(f"decides {decided}")


def test_a_dropped_picture_is_labelled(visit):
    page = visit()
    content = b64encode(picture(1)).decode()
    page.evaluate(DROP, ["dropped.png", content])
    expect(page.locator("#v-title")).to_contain_text("dropped.png")


def test_a_pasted_picture_is_labelled(visit):
    page = visit()
    page.evaluate(PASTE, ["pasted.png", b64encode(picture(6)).decode()])
    expect(page.locator("#v-title")).to_contain_text("pasted.png")


def test_a_broken_file_is_refused_in_words_and_the_next_one_works(visit):
    page = visit()
    page.locator("#v-files").set_input_files(
        [
            {"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"},
            {"name": "good.png", "mimeType": "image/png", "buffer": picture(2)},
        ]
    )
    expect(page.locator("#v-title")).to_contain_text("good.png")
    expect(page.locator("#v-sent .wrong")).to_contain_text("bad.png: not a PNG")
    expect(page.locator("#v-progress")).to_have_js_property("value", 2)


def test_a_file_that_is_too_large_is_not_even_sent(visit, served):
    page = visit()
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(65 * 2 ** 20)], "large.png"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    expect(page.locator("#v-sent .wrong")).to_have_text("large.png: larger than 64 MB")
    assert "large.png" not in {one.name for one in served[0].sent}


def test_what_was_sent_can_be_exported(visit):
    page = visit()
    page.locator("#v-files").set_input_files(
        {"name": "kept.png", "mimeType": "image/png", "buffer": picture(3)}
    )
    expect(page.locator("#v-title")).to_contain_text("kept.png")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Export").click()
    with zipfile.ZipFile(saved.value.path()) as archive:
        assert "kept.png" in archive.read("predictions.csv").decode()


def test_new_pictures_can_be_listed_alone(visit):
    page = visit()
    page.locator("#v-files").set_input_files(
        {"name": "listed.png", "mimeType": "image/png", "buffer": picture(5)}
    )
    expect(page.locator("#v-title")).to_contain_text("listed.png")
    page.locator("[data-state=outcome]").select_option("new")
    rows = page.locator("#v-list button")
    expect(rows.filter(has_text="listed.png")).to_have_count(1)
    expect(rows.filter(has_not_text="new")).to_have_count(0)
    page.locator("[data-state=outcome]").select_option("right")
    expect(rows.filter(has_text="listed.png")).to_have_count(0)


def test_a_server_that_is_gone_is_said_to_be(visit):
    page = visit("#case=case0")
    page.route("**/cases/**", lambda route: route.abort())
    page.locator('[data-case="case1"]').click()
    expect(page.locator("#v-status")).to_contain_text("the server does not answer")


def test_the_browser_closed_while_it_works_leaves_the_server_alive(visit):
    page = visit()
    page.locator("#v-files").set_input_files(
        {"name": "left.png", "mimeType": "image/png", "buffer": picture(4)}
    )
    page.close()
    expect(visit("#case=case3").locator("#v-title")).to_contain_text("case3")


def test_a_picture_that_vanished_is_said_to_be_gone(served_copy, visit):
    served_copy[0].run.picture("case4").unlink()
    page = visit("#case=case0", server=served_copy)
    page.locator('[data-case="case4"]').click()
    expect(page.locator("#v-status")).to_contain_text("could not be opened")


def until(page, holds):
    """Ask again until something drawn holds."""
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, "it never held"
        page.wait_for_timeout(25)


def test_the_outline_of_the_mask_can_be_taken_away(visit):
    page = visit("#case=case0&opacity=0")
    canvas = page.locator("#v-pane-a")

    def shot():
        return canvas.evaluate("canvas => canvas.toDataURL()")

    with_it = shot()
    page.locator("[data-state=outline]").uncheck()
    until(page, lambda: shot() != with_it)
    canvas.press("m")
    expect(page.locator("[data-state=outline]")).to_be_checked()
    until(page, lambda: shot() == with_it)


def test_a_case_without_a_mask_offers_no_outline(visit):
    expect(visit("#case=case1").locator("#v-outline")).to_be_hidden()


def test_the_wheel_leafs_through_the_slices_of_a_volume(visit, served_scans):
    page = visit("#case=scan0", server=served_scans)
    says = page.locator("#v-slice-says")
    expect(says).to_have_text("all")
    page.locator("#v-pane-a").hover()
    for slice_ in (3, 5, 7):
        page.mouse.wheel(0, 100)
        expect(says).to_have_text(f"slice {slice_}")
    page.mouse.wheel(0, -100)
    expect(says).to_have_text("slice 5")
    expect(page.locator("#v-says-a")).to_contain_text("slice 5")
    expect(page).to_have_url(re.compile("slice=2"))
    page.locator("#v-pane-a").press("PageDown")
    expect(says).to_have_text("slice 7")


def test_pointing_at_a_tile_shows_its_slice_beside_and_where_it_is(visit, served_scans):
    page = visit("#case=scan0&beside=1", server=served_scans)
    expect(page.locator("#v-pane-b")).to_be_visible()
    box = page.locator("#v-pane-a").bounding_box()
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    for tile, slice_ in ((1, 5), (2, 7), (3, 9)):
        row, column = divmod(tile, 2)
        # The middle of the patch in the second row and column of six that each tile's three have.
        x, y = left + (column + 0.5) / 2 * side, top + (row + 0.5) / 2 * side
        page.mouse.move(x, y)
        expect(page.locator("#v-says-b")).to_have_text(f"slice {slice_}")
        read = page.locator("#v-read")
        expect(read).to_contain_text(f"Slice {slice_}: ")
        expect(read).to_contain_text(f"{100 + 4 * (slice_ - 1):.1f}\u00a0mm S")


def test_a_map_in_which_nothing_stands_out_is_said_to_be_even_and_veils_nothing(
    visit, served_scans
):
    def drawn(page):
        return page.evaluate("""() => new Promise(done => requestAnimationFrame(() =>
          requestAnimationFrame(() => done(document.querySelector("#v-pane-a").toDataURL()))))""")

    page = visit("#case=scan0", server=served_scans)
    expect(page.locator("#v-words")).to_contain_text("nearly even: its values differ by")
    expect(page.locator("#v-words")).to_contain_text("so nothing is painted")
    shown = drawn(page)
    page.locator('[data-state="norm"]').select_option("range")
    expect(page.locator("#v-words")).not_to_contain_text("so nothing is painted")
    assert drawn(page) != shown
    page.locator('[data-state="opacity"]').fill("0")
    assert drawn(page) == shown
    page.locator('[data-case="scan1"]').click()
    expect(page.locator("#v-title")).to_contain_text("scan1")
    expect(page.locator("#v-words")).not_to_contain_text("nearly even")


def test_a_dropped_series_is_labelled_as_one_scan(visit, served_scans, dicom_slice, tmp_path):
    for place in range(8):
        dicom_slice(tmp_path / f"{place}.dcm", place=place)
    page = visit("#case=scan0", server=served_scans)
    page.locator("#v-files").set_input_files(sorted(tmp_path.iterdir()))
    expect(page.locator("#v-title")).to_contain_text("new")
    expect(page.locator("#v-sent li")).to_have_count(1)
    expect(page.locator("#v-slices")).to_be_visible()


def test_a_chosen_folder_is_labelled_as_one_scan_by_its_name(
    visit, served_scans, dicom_slice, tmp_path
):
    folder = tmp_path / "thorax"
    folder.mkdir()
    for place in range(8):
        dicom_slice(folder / f"{place}.dcm", place=place)
    page = visit("#case=scan0", server=served_scans)
    page.locator("#v-folder").set_input_files(folder)
    expect(page.locator("#v-title")).to_contain_text("thorax")
    expect(page.locator("#v-sent li")).to_have_count(1)


def test_an_address_can_be_named_where_that_is_allowed_and_a_private_one_is_refused(
    visit, served_scans
):
    page = visit("#case=scan0", server=served_scans)
    page.locator("#v-url-field").fill("http://127.0.0.1:9/one.png")
    page.get_by_role("button", name="Fetch").click()
    expect(page.locator("#v-sent .wrong")).to_contain_text("private network")


def test_no_address_can_be_named_where_it_is_not_allowed(visit):
    expect(visit().locator("#v-url")).to_be_hidden()


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_servers_page_never_scrolls_sideways(visit, viewport):
    page = visit(viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_the_servers_page(visit, scheme):
    page = visit(color_scheme=scheme)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run({resultTypes: ['violations']})")
    serious = [
        (one["id"], [node["html"][:160] for node in one["nodes"][:4]])
        for one in result["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], json.dumps(serious, indent=1)
