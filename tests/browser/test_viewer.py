"""The viewer inside the report, opened from disk: what it shows is the record."""

import io
import json
import zipfile
from importlib.resources import files
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from PIL import Image

from vitrail.report.contents import read
from vitrail.report.gallery import choose
from vitrail.runfolder import read_json

pytestmark = pytest.mark.browser

NARROW = {"width": 390, "height": 844}
AXE = files("axe_playwright_python") / "axe.min.js"
SIDE, TOKENS = 8, 65
PIXELS = """shown => {
  const canvas = new OffscreenCanvas(shown.width, shown.height);
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(shown, 0, 0);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let red = 0, color = 0;
  for (let i = 0; i < data.length; i += 4) {
    red += data[i]; color += Math.abs(data[i] - data[i + 2]);
  }
  return [red / data.length * 4, color / data.length * 4];
}"""


@pytest.fixture(scope="session")
def close(run):
    """Return a case that was looked at closely, with its arrays."""
    contents = read(run)
    shown = choose(contents)
    for case_id in shown:
        path = run.explanations / "attention" / run.explanation(case_id).name
        if path.is_file():
            with np.load(path) as stored:
                return case_id, dict(stored)
    raise AssertionError("no case was looked at closely")


@pytest.fixture(scope="session")
def plain(run):
    """Return a case with maps alone."""
    kept = {path.stem for path in (run.explanations / "attention").iterdir()}
    return next(name for name in read(run).truth if run.explanation(name).stem not in kept)


@pytest.fixture
def view(open_report, close):
    """Return a function that opens the viewer with some choices."""

    def opened(case=None, *, options=None, **choices):
        said = urlencode({"case": case or close[0], **choices})
        page = open_report(fragment=f"#{said}", **(options or {}))
        until(page, "document.querySelector('#v-wall-says').textContent !== ''")
        until(page, "document.querySelector('#v-says-a').textContent !== ''")
        return page

    return opened


def until(page, condition):
    """Wait until something holds (the page's own policy forbids Playwright's way of waiting)."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(condition)


def state(page):
    page.wait_for_timeout(150)
    return {name: one[0] for name, one in parse_qs(urlsplit(page.url).fragment).items()}


def point_of(page, row, column, canvas="#v-pane-a"):
    """Return where the middle of a patch lies: 128 x 96 px, padded into 64 x 64."""
    box = page.locator(canvas).bounding_box()
    scale = min(box["width"] / 128, box["height"] / 96)
    width, height = 128 * scale, 96 * scale
    left = box["x"] + (box["width"] - width) / 2
    top = box["y"] + (box["height"] - height) / 2
    return left + (column + 0.5) / SIDE * width, top + ((row + 0.5) * 8 - 8) / 48 * height


def value(page):
    until(page, "document.querySelector('#v-read').dataset.value !== undefined")
    page.wait_for_timeout(60)
    return float(page.locator("#v-read").get_attribute("data-value"))


def rows(arrays, layer, *, head=None):
    """Return attention [query, key] from the stored steps."""
    whole = arrays["matrices"] * arrays["scales"][..., None] / 255
    return whole[layer].mean(axis=0) if head is None else whole[layer, head]


def patches(row):
    return row[1:].reshape(SIDE, SIDE)


def test_a_click_on_a_picture_opens_its_case_and_escape_closes_it(open_report):
    page = open_report()
    card = page.locator(".case").nth(2)
    name = card.get_attribute("data-case")
    card.locator(".panels").click()
    assert page.locator("#v-title .case-id").inner_text() == name
    assert state(page)["case"] == name
    page.keyboard.press("Escape")
    assert not page.locator("#stage").is_visible()
    assert "case" not in state(page)


def test_the_button_of_a_case_opens_it_from_the_keyboard(open_report):
    page = open_report()
    page.locator(".look button").first.press("Enter")
    assert page.locator("#stage").is_visible()


def test_the_value_under_the_pointer_is_the_maps(view, run, plain):
    page = view(plain)
    with np.load(run.explanation(plain)) as stored:
        values = stored["values"]
    for row, column in ((3, 5), (1, 0), (6, 7)):
        page.mouse.move(*point_of(page, row, column))
        assert value(page) == pytest.approx(values[row, column], rel=1e-6)
        assert f"Row {row + 1}, column {column + 1}." in page.locator("#v-read").inner_text()


def test_pointing_at_a_patch_shows_where_it_attends(view, close):
    page = view()
    row = patches(rows(close[1], 3)[1 + 3 * SIDE + 5])
    page.mouse.move(*point_of(page, 3, 5))
    assert value(page) == pytest.approx(row[3, 5], rel=1e-5)
    assert "Where this patch attends, layer 4" in page.locator("#v-says-a").inner_text()
    peak = np.unravel_index(row.argmax(), row.shape)
    assert f"row {peak[0] + 1}, column {peak[1] + 1}." in page.locator("#v-read").inner_text()


def test_shift_shows_who_attends_to_it(view, close):
    page = view()
    page.keyboard.down("Shift")
    page.mouse.move(*point_of(page, 2, 6))
    column = patches(rows(close[1], 3)[:, 1 + 2 * SIDE + 6])
    assert "Who attends to this patch" in page.locator("#v-says-a").inner_text()
    assert value(page) == pytest.approx(column[2, 6], rel=1e-5)
    page.keyboard.up("Shift")
    page.mouse.move(*point_of(page, 2, 5))
    assert "Where this patch attends" in page.locator("#v-says-a").inner_text()


def test_a_click_pins_several_pins_are_averaged_and_a_second_click_unpins(view, close):
    page = view()
    for place in ((3, 5), (2, 1)):
        page.mouse.click(*point_of(page, *place))
    assert state(page)["pins"] == f"{3 * SIDE + 5}.{2 * SIDE + 1}"
    page.mouse.move(5, 5)
    page.wait_for_timeout(80)
    assert "2 pinned patches attend" in page.locator("#v-says-a").inner_text()
    attention = rows(close[1], 3)
    expected = (attention[1 + 3 * SIDE + 5] + attention[1 + 2 * SIDE + 1]) / 2
    with page.expect_download() as saved:
        page.locator("[data-save=npz]").click()
    np.testing.assert_allclose(
        np.load(saved.value.path())["values"], patches(expected), rtol=1e-5, atol=1e-9
    )
    page.mouse.click(*point_of(page, 2, 1))
    assert state(page)["pins"] == f"{3 * SIDE + 5}"
    page.locator("#v-unpin").click()
    assert "pins" not in state(page)


def test_the_layer_slider_and_the_head_choose_what_is_shown(view, close):
    page = view()
    page.locator("#v-layer").fill("2")
    page.locator("#v-head").select_option(index=2)
    assert (state(page)["layer"], state(page)["head"]) == ("1", "1")
    page.mouse.move(*point_of(page, 4, 4))
    expected = patches(rows(close[1], 1, head=1)[1 + 4 * SIDE + 4])[4, 4]
    assert value(page) == pytest.approx(expected, rel=1e-5)


def test_a_tile_of_the_wall_opens_its_layer_and_head(view):
    page = view()
    page.get_by_role("button", name="Layer 2, head 3").click()
    assert (state(page)["layer"], state(page)["head"], state(page)["show"]) == (
        "1",
        "2",
        "attention",
    )
    assert "layer 2, head 3" in page.locator("#v-says-a").inner_text()


@pytest.mark.parametrize("order", ["entropy", "distance", "importance"])
def test_the_wall_is_sorted_by_what_a_head_does(view, close, order):
    arrays = close[1]
    whole = arrays["matrices"].astype(np.float64)
    whole /= whole.sum(axis=-1, keepdims=True)
    if order == "importance":
        measure = arrays["importance"]
    elif order == "entropy":
        logs = np.log2(whole, where=whole > 0, out=np.zeros_like(whole))
        measure = -(whole * logs).sum(axis=-1).mean(axis=-1)
    else:
        y, x = np.divmod(np.arange(SIDE * SIDE), SIDE)
        far = np.hypot(y[:, None] - y, x[:, None] - x)
        inner = whole[:, :, 1:, 1:]
        measure = (inner * far).sum(axis=-1) / inner.sum(axis=-1)
        measure = measure.mean(axis=-1)
    page = view()
    page.locator("[data-state=wall]").select_option(order)
    until(page, "document.querySelector('#v-wall').classList.contains('sorted')")
    tiles = page.locator("#v-wall button").evaluate_all(
        "all => all.map(one => [Number(one.dataset.layer), Number(one.dataset.head)])"
    )
    shown = [measure[layer, head] for layer, head in tiles]
    np.testing.assert_allclose(shown, sorted(shown, reverse=True), rtol=1e-5)


def test_the_method_changes_map_scale_and_trust(view, run, plain):
    page = view(plain)
    assert "per run: 99.5th percentile" in page.locator("#v-words").inner_text()
    page.locator("[data-state=method]").select_option("libra")
    assert page.locator("#v-says-a").inner_text() == "libra"
    assert page.locator("#v-low").inner_text().startswith("\u2212")
    assert "Not to be trusted" in page.locator("#v-trust").inner_text()
    page.mouse.move(*point_of(page, 3, 5))
    with np.load(run.explanation(plain, method="libra")) as stored:
        assert value(page) == pytest.approx(stored["values"][3, 5], rel=1e-6)


def test_one_class_rather_than_the_other_is_their_difference(view, close):
    page = view(target="nodule", versus="clear", sides="difference")
    with page.expect_download() as saved:
        page.locator("[data-save=npz]").click()
    clear, nodule = close[1]["values"]
    np.testing.assert_allclose(
        np.load(saved.value.path())["values"], nodule - clear, rtol=1e-5, atol=1e-7
    )
    assert page.locator("#v-says-a").inner_text() == "relevance: nodule rather than clear"


def test_two_classes_stand_side_by_side(view):
    page = view(target="nodule", sides="two")
    assert page.locator("#v-pane-b").is_visible()
    assert page.locator("#v-says-a").inner_text() == "relevance: nodule"
    assert page.locator("#v-says-b").inner_text() == "relevance: clear"
    page.locator("[data-state=sides]").select_option("one")
    assert not page.locator("#v-pane-b").is_visible()


def test_opacity_zero_leaves_the_grey_picture(view, plain):
    page = view(plain)
    colored = page.locator("#v-pane-a").evaluate(PIXELS)[1]
    page.locator("[data-state=opacity]").fill("0")
    page.wait_for_timeout(80)
    assert page.locator("#v-pane-a").evaluate(PIXELS)[1] < 1 < colored


def test_a_share_of_the_mass_leaves_the_rest_uncolored(view, plain):
    page = view(plain, opacity=100)
    everything = page.locator("#v-pane-a").evaluate(PIXELS)[1]
    page.locator("[data-state=mass]").fill("30")
    page.wait_for_timeout(80)
    assert 0 < page.locator("#v-pane-a").evaluate(PIXELS)[1] < everything * 0.6


def test_the_spotlight_darkens_what_is_not_looked_at(view, plain):
    page = view(plain, opacity=0)
    bright = page.locator("#v-pane-a").evaluate(PIXELS)[0]
    page.locator("[data-state=opacity]").fill("90")
    page.locator("[data-state=paint]").select_option("spotlight")
    page.wait_for_timeout(80)
    dark, color = page.locator("#v-pane-a").evaluate(PIXELS)
    assert dark < 0.8 * bright
    assert color < 1


def test_a_contour_colors_little(view, plain):
    page = view(plain, paint="contour")
    page.wait_for_timeout(80)
    assert 0.2 < page.locator("#v-pane-a").evaluate(PIXELS)[1] < 12


def test_the_normalization_is_always_labelled(view, plain):
    page = view(plain)
    words = page.locator("#v-words")
    assert "per run" in words.inner_text()
    page.locator("[data-state=norm]").select_option("image")
    until(page, "document.querySelector('#v-words').textContent.includes('its own')")
    page.locator("[data-state=norm]").select_option("fixed")
    page.locator("[data-state=top]").fill("0.25")
    until(page, "document.querySelector('#v-words').textContent === 'fixed: 0.25'")
    assert page.locator("#v-high").inner_text() == "≥ 0.25"


def test_the_patch_grid_is_drawn_on_request(view, plain):
    page = view(plain)
    shot = "canvas => canvas.toDataURL()"
    seen = [page.locator("#v-pane-a").evaluate(shot)]
    for name in ("grid", "patches"):
        page.locator(f"[data-state={name}]").check()
        page.wait_for_timeout(80)
        seen.append(page.locator("#v-pane-a").evaluate(shot))
    assert len(set(seen)) == 3


def test_playing_goes_through_the_layers_and_stops(view):
    page = view()
    page.locator("#v-play").click()
    assert state(page)["layer"] == "0"
    until(page, "document.querySelector('#v-layer').value === '2'")
    page.locator("#v-play").click()
    now = state(page)["layer"]
    page.wait_for_timeout(900)
    assert state(page)["layer"] == now


def test_the_saved_animation_has_a_frame_a_layer(view):
    page = view()
    with page.expect_download() as saved:
        page.locator("[data-save=gif]").click()
    assert saved.value.suggested_filename.endswith(".gif")
    with Image.open(saved.value.path()) as picture:
        assert picture.n_frames == 4
        frames = []
        for place in range(4):
            picture.seek(place)
            frames.append(np.asarray(picture.convert("RGB")))
    assert all(frame.std() > 5 for frame in frames)
    assert (frames[0] != frames[3]).any()


def test_the_saved_picture_and_numbers_can_be_read(view, run, plain):
    page = view(plain)
    with page.expect_download() as saved:
        page.locator("[data-save=png]").click()
    with Image.open(saved.value.path()) as picture:
        assert picture.size[0] > 200
    with page.expect_download() as saved:
        page.locator("[data-save=npz]").click()
    content = saved.value.path().read_bytes()
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    with np.load(io.BytesIO(content)) as kept, np.load(run.explanation(plain)) as stored:
        np.testing.assert_array_equal(kept["values"], stored["values"])
        assert kept["box"].tolist() == [8, 0, 56, 64]


def test_the_lens_says_what_each_layer_would_answer(view, close):
    page = view()
    lens = close[1]["lens"]
    bars = page.locator("#v-lens button")
    assert bars.count() == 4
    for layer in range(4):
        best = int(lens[layer].argmax())
        label = bars.nth(layer).get_attribute("aria-label")
        assert label.startswith(f"After layer {layer + 1}: {('clear', 'nodule')[best]} ")
    bars.nth(1).click()
    assert state(page)["layer"] == "1"


def test_similar_training_cases_are_shown_with_their_distance(view, run, close):
    page = view()
    near = read_json(run.explanations / "similar.json")["cases"][close[0]]
    shown = page.locator("#v-similar li")
    assert shown.count() == len(near)
    assert near[0]["case_id"] in shown.first.inner_text()
    assert shown.first.locator("img").is_visible()


def test_probabilities_come_with_how_often_such_held(view):
    page = view()
    said = page.locator("#v-said").inner_text()
    assert "95 % interval" in said
    assert "as trained" in said
    assert "nodule" in said


def test_a_drag_changes_window_and_level_and_a_double_click_resets(view, plain):
    page = view(plain)
    x, y = point_of(page, 3, 3)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=6)
    page.mouse.up()
    changed = state(page)
    assert float(changed["width"]) > 290
    assert float(changed["level"]) > 150
    assert "pins" not in changed
    page.mouse.dblclick(x, y)
    until(page, "!location.hash.includes('level') && !location.hash.includes('width')")


def test_ctrl_and_wheel_zoom_where_the_pointer_is_and_middle_drag_pans(view, run, plain):
    page = view(plain)
    x, y = point_of(page, 2, 2)
    page.mouse.move(x, y)
    with np.load(run.explanation(plain)) as stored:
        expected = stored["values"][2, 2]
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert float(state(page)["zoom"]) == pytest.approx(np.e, rel=1e-3)
    page.mouse.move(x + 1, y)
    assert value(page) == pytest.approx(expected, rel=1e-6)
    page.mouse.down(button="middle")
    page.mouse.move(x + 31, y + 20, steps=3)
    page.mouse.up(button="middle")
    before = state(page)
    assert float(before["x"]) != 0
    assert value(page) == pytest.approx(expected, rel=1e-6)


def test_presets_and_inversion_have_keys(view, plain):
    page = view(plain)
    page.locator("#v-pane-a").focus()
    bright = page.locator("#v-pane-a").evaluate(PIXELS)[0]
    page.keyboard.press("3")
    assert (state(page)["level"], state(page)["width"]) == ("64", "128")
    page.keyboard.press("0")
    page.keyboard.press("i")
    assert state(page)["invert"] == "1"
    page.wait_for_timeout(60)
    assert page.locator("#v-pane-a").evaluate(PIXELS)[0] != pytest.approx(bright, rel=0.05)


def test_patches_are_pointed_at_and_pinned_by_keys(view):
    page = view()
    page.locator("#v-pane-a").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    page.wait_for_timeout(60)
    assert "Row 4, column 6." in page.locator("#v-read").inner_text()
    page.keyboard.press("Enter")
    assert state(page)["pins"] == str(3 * SIDE + 5)
    page.keyboard.press("[")
    assert state(page)["layer"] == "2"


def test_j_and_k_walk_through_the_cases(view, run):
    order = choose(read(run))
    page = view(order[0])
    page.keyboard.press("j")
    assert state(page)["case"] == order[1]
    page.keyboard.press("k")
    assert state(page)["case"] == order[0]
    page.locator("#v-next").click()
    assert state(page)["case"] == order[1]


def test_cases_are_filtered_sorted_and_counted(view, run):
    contents = read(run)
    judged = contents.judged["vit"]
    right = [name for name in judged if judged[name].decision == contents.truth[name]]
    page = view()
    page.locator("[data-state=outcome]").select_option("right")
    page.wait_for_timeout(80)
    assert page.locator("#v-list button").count() == len(right)
    page.locator("[data-state=sort]").select_option("unsure")
    page.wait_for_timeout(80)
    shown = page.locator("#v-list button").evaluate_all("all => all.map(one => one.dataset.case)")
    sure = [max(judged[name].probabilities) for name in shown]
    assert sure == sorted(sure)
    page.locator("[data-state=text]").fill(shown[0])
    page.wait_for_timeout(80)
    assert page.locator("#v-list button").count() == 1
    assert "1 of" in page.locator("#v-count").inner_text()


def test_a_confusion_cell_leads_to_its_cases(open_report):
    page = open_report()
    cell = page.locator('.confusion a[data-model="vit"][data-truth="nodule"]').last
    count = int(cell.inner_text().split()[0])
    cell.click()
    page.get_by_role("button", name="Look closer", exact=True).first.click()
    assert page.locator("#v-list button").count() == count
    assert state(page)["truth"] == "nodule"


def test_a_click_on_the_calibration_curve_opens_cases_stated_so(open_report, run):
    page = open_report()
    page.locator('.pick[data-axis="stated probability"]').first.scroll_into_view_if_needed()
    box = page.locator('.pick[data-axis="stated probability"]').first.bounding_box()
    contents = read(run)
    stated = sorted(one.probabilities[1] for one in contents.judged["vit"].values())
    middle = stated[len(stated) // 2]
    page.mouse.click(box["x"] + middle * box["width"], box["y"] + box["height"] / 2)
    near = float(state(page)["near"])
    assert near == pytest.approx(middle, abs=0.02)
    expected = sum(abs(one - near) <= 0.05 for one in stated)
    assert page.locator("#v-list button").count() == expected


def test_the_whole_state_is_in_the_address_and_comes_back(view):
    choices = {
        "target": "nodule",
        "sides": "difference",
        "layer": "1",
        "head": "2",
        "pins": "12.30",
        "paint": "spotlight",
        "opacity": "70",
        "mass": "60",
        "norm": "image",
        "grid": "1",
        "zoom": "1.5",
        "level": "100",
        "wall": "entropy",
        "outcome": "right",
        "show": "attention",
    }
    page = view(**choices)
    page.reload()
    until(page, "document.querySelector('#v-says-a').textContent !== ''")
    kept = state(page)
    assert {name: kept[name] for name in choices} == choices
    assert page.locator("[data-state=opacity]").input_value() == "70"
    assert page.locator("[data-state=grid]").is_checked()
    assert page.locator("#v-layer").input_value() == "2"


def test_a_case_without_whole_attention_says_so(view, plain):
    page = view(plain)
    assert "No attention was kept" in page.locator("#v-wall-says").inner_text()
    assert page.locator("#v-play").is_disabled()


def test_a_case_that_is_not_there_is_said_to_be_so(open_report):
    page = open_report(fragment="#case=nobody")
    assert "not among those shown" in page.locator("#v-status").inner_text()


@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
def test_the_viewer_never_scrolls_sideways(view, viewport):
    page = view(options={"viewport": viewport} if viewport else None)
    width = page.viewport_size["width"]
    assert page.locator("#stage").evaluate("one => one.scrollWidth") <= width
    assert page.locator(".v-body").evaluate("one => one.scrollWidth") <= width


def test_a_tap_pins_on_a_narrow_screen(view):
    page = view(options={"viewport": NARROW, "has_touch": True})
    page.locator("#v-pane-a").scroll_into_view_if_needed()
    page.touchscreen.tap(*point_of(page, 3, 4))
    assert state(page)["pins"] == str(3 * SIDE + 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_the_viewer(view, scheme):
    page = view(options={"color_scheme": scheme})
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run('#stage', {resultTypes: ['violations']})")
    serious = [
        (one["id"], [node["html"][:160] for node in one["nodes"][:4]])
        for one in result["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], json.dumps(serious, indent=1)
