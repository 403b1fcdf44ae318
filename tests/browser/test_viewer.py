"""The viewer inside the report, opened from disk: what it shows is the record."""

import io
import json
import re
import time
import zipfile
from importlib.resources import files
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

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
        expect(page.locator("#v-panes")).to_have_attribute("aria-busy", "false")
        expect(page.locator("#v-wall-says")).not_to_be_empty()
        return page

    return opened


def until(page, holds):
    """Ask again until something drawn holds; elements are waited for by ``expect``."""
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, "it never held"
        page.wait_for_timeout(25)


def chooses(page, **choices):
    """Wait until the address says these choices; None: says nothing of it."""
    for name, one in choices.items():
        if one is None:
            expect(page).not_to_have_url(re.compile(rf"[#&]{name}="))
        else:
            expect(page).to_have_url(re.compile(rf"[#&]{name}={re.escape(quote_plus(one))}(&|$)"))


def chosen(page, name):
    """Wait until the address says a choice, and return it."""
    expect(page).to_have_url(re.compile(rf"[#&]{name}="))
    return parse_qs(urlsplit(page.url).fragment)[name][0]


def says(page, words, *, pane="a"):
    expect(page.locator(f"#v-says-{pane}")).to_contain_text(words)


def reads(page, expected, *, rel=1e-5):
    """Wait until the raw value under the pointer is the expected one."""
    said = page.locator("#v-read")

    def holds():
        value = said.get_attribute("data-value")
        return value is not None and float(value) == pytest.approx(float(expected), rel=rel)

    until(page, holds)


def pixels(page):
    """Return (mean brightness, mean color) of what is drawn."""
    return page.locator("#v-pane-a").evaluate(PIXELS)


def point_of(page, row, column, canvas="#v-pane-a"):
    """Return where the middle of a patch lies: 128 x 96 px, padded into 64 x 64."""
    box = page.locator(canvas).bounding_box()
    scale = min(box["width"] / 128, box["height"] / 96)
    width, height = 128 * scale, 96 * scale
    left = box["x"] + (box["width"] - width) / 2
    top = box["y"] + (box["height"] - height) / 2
    return left + (column + 0.5) / SIDE * width, top + ((row + 0.5) * 8 - 8) / 48 * height


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
    expect(page.locator("#v-title .case-id")).to_have_text(name)
    chooses(page, case=name)
    page.keyboard.press("Escape")
    expect(page.locator("#stage")).to_be_hidden()
    chooses(page, case=None)


def test_back_closes_the_case_that_was_opened(open_report):
    page = open_report()
    page.locator(".case .panels").first.click()
    expect(page).to_have_url(re.compile("case="))
    page.go_back()
    expect(page.locator("#stage")).to_be_hidden()
    page.go_forward()
    expect(page.locator("#stage")).to_be_visible()


def test_the_button_of_a_case_opens_it_from_the_keyboard(open_report):
    page = open_report()
    page.locator(".look button").first.press("Enter")
    expect(page.locator("#stage")).to_be_visible()


def test_the_value_under_the_pointer_is_the_maps(view, run, plain):
    page = view(plain)
    with np.load(run.explanation(plain)) as stored:
        values = stored["values"]
    for row, column in ((3, 5), (1, 0), (6, 7)):
        page.mouse.move(*point_of(page, row, column))
        reads(page, values[row, column], rel=1e-6)
        expect(page.locator("#v-read")).to_contain_text(f"Row {row + 1}, column {column + 1}.")


def test_pointing_at_a_patch_shows_where_it_attends(view, close):
    page = view()
    row = patches(rows(close[1], 3)[1 + 3 * SIDE + 5])
    page.mouse.move(*point_of(page, 3, 5))
    reads(page, row[3, 5])
    says(page, "Where this patch attends, layer 4")
    peak = np.unravel_index(row.argmax(), row.shape)
    most = f"row {peak[0] + 1}, column {peak[1] + 1}."
    expect(page.locator("#v-read")).to_contain_text(most)


def test_shift_shows_who_attends_to_it(view, close):
    page = view()
    page.keyboard.down("Shift")
    page.mouse.move(*point_of(page, 2, 6))
    column = patches(rows(close[1], 3)[:, 1 + 2 * SIDE + 6])
    says(page, "Who attends to this patch")
    reads(page, column[2, 6])
    page.keyboard.up("Shift")
    says(page, "Where this patch attends")


def test_who_attends_can_be_chosen_for_good_and_shift_turns_it_round(view, close):
    page = view(who="1")
    page.mouse.move(*point_of(page, 2, 6))
    says(page, "Who attends to this patch")
    reads(page, patches(rows(close[1], 3)[:, 1 + 2 * SIDE + 6])[2, 6])
    page.keyboard.down("Shift")
    says(page, "Where this patch attends")
    page.keyboard.up("Shift")
    page.mouse.move(*point_of(page, 3, 6))
    says(page, "Who attends to this patch")
    expect(page.locator("[data-state=who]")).to_be_checked()


def test_a_click_pins_several_pins_are_averaged_and_a_second_click_unpins(view, close):
    page = view()
    for place in ((3, 5), (2, 1)):
        page.mouse.click(*point_of(page, *place))
    chooses(page, pins=f"{3 * SIDE + 5}.{2 * SIDE + 1}")
    page.mouse.move(5, 5)
    says(page, "2 pinned patches attend")
    attention = rows(close[1], 3)
    expected = (attention[1 + 3 * SIDE + 5] + attention[1 + 2 * SIDE + 1]) / 2
    with page.expect_download() as saved:
        page.locator("[data-save=npz]").click()
    np.testing.assert_allclose(
        np.load(saved.value.path())["values"], patches(expected), rtol=1e-5, atol=1e-9
    )
    page.mouse.click(*point_of(page, 2, 1))
    chooses(page, pins=f"{3 * SIDE + 5}")
    page.locator("#v-unpin").click()
    chooses(page, pins=None)


def test_what_was_shown_before_a_pin_comes_back_after_it(view, close):
    page = view(target="nodule")
    says(page, "relevance: nodule")
    point = point_of(page, 3, 5)
    page.mouse.click(*point)
    page.mouse.move(5, 5)
    says(page, "Where this patch attends")
    expect(page.locator("[data-state=show]")).to_have_value("attention")
    page.mouse.dblclick(*point)
    page.mouse.click(*point)
    page.mouse.move(5, 5)
    says(page, "relevance: nodule")
    expect(page.locator("[data-state=show]")).to_have_value("map")


def test_the_layer_slider_and_the_head_choose_what_is_shown(view, close):
    page = view()
    page.locator("#v-layer").fill("2")
    page.locator("#v-head").select_option(index=2)
    chooses(page, layer="1", head="1")
    page.mouse.move(*point_of(page, 4, 4))
    expected = patches(rows(close[1], 1, head=1)[1 + 4 * SIDE + 4])[4, 4]
    reads(page, expected)


def test_a_tile_of_the_wall_opens_its_layer_and_head(view):
    page = view()
    page.get_by_role("button", name="Layer 2, head 3").click()
    chooses(page, layer="1", head="2", show="attention")
    says(page, "layer 2, head 3")


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
    expect(page.locator("#v-wall")).to_have_attribute("data-order", order)
    tiles = page.locator("#v-wall button").evaluate_all(
        "all => all.map(one => [Number(one.dataset.layer), Number(one.dataset.head)])"
    )
    shown = [measure[layer, head] for layer, head in tiles]
    np.testing.assert_allclose(shown, sorted(shown, reverse=True), rtol=1e-5)


def test_the_method_changes_map_scale_and_trust(view, run, plain):
    page = view(plain)
    expect(page.locator("#v-words")).to_contain_text("per run: 99.5th percentile")
    page.locator("[data-state=method]").select_option("libra")
    expect(page.locator("#v-says-a")).to_have_text("libra")
    expect(page.locator("#v-low")).to_contain_text("\u2212")
    expect(page.locator("#v-trust")).to_contain_text("Not to be trusted")
    page.mouse.move(*point_of(page, 3, 5))
    with np.load(run.explanation(plain, method="libra")) as stored:
        reads(page, stored["values"][3, 5], rel=1e-6)


def test_one_class_rather_than_the_other_is_their_difference(view, close):
    page = view(target="nodule", versus="clear", sides="difference")
    expect(page.locator("#v-says-a")).to_have_text("relevance: nodule rather than clear")
    with page.expect_download() as saved:
        page.locator("[data-save=npz]").click()
    clear, nodule = close[1]["values"]
    np.testing.assert_allclose(
        np.load(saved.value.path())["values"], nodule - clear, rtol=1e-5, atol=1e-7
    )


def test_two_classes_stand_side_by_side(view):
    page = view(target="nodule", sides="two")
    expect(page.locator("#v-pane-b")).to_be_visible()
    expect(page.locator("#v-says-a")).to_have_text("relevance: nodule")
    expect(page.locator("#v-says-b")).to_have_text("relevance: clear")
    page.locator("[data-state=sides]").select_option("one")
    expect(page.locator("#v-pane-b")).to_be_hidden()


def test_a_second_class_stands_beside_the_decision_where_none_was_chosen(view):
    page = view()
    page.locator("[data-state=show]").select_option("attention")
    page.locator("[data-state=sides]").select_option("two")
    expect(page.locator("#v-pane-b")).to_be_visible()
    says(page, "relevance: ")
    with page.expect_download() as saved:
        page.locator("[data-save=npz]").click()
    with np.load(saved.value.path()) as kept:
        assert kept["values"].shape == kept["other"].shape == (SIDE, SIDE)
    page.locator("[data-state=method]").select_option("libra")
    expect(page.locator("#v-says-a")).to_have_text("libra")
    expect(page.locator("#v-pane-b")).to_be_hidden()


def test_opacity_zero_leaves_the_grey_picture(view, plain):
    page = view(plain)
    assert pixels(page)[1] > 1
    page.locator("[data-state=opacity]").fill("0")
    until(page, lambda: pixels(page)[1] < 1)


def test_a_share_of_the_mass_leaves_the_rest_uncolored(view, plain):
    page = view(plain, opacity=100)
    everything = pixels(page)[1]
    page.locator("[data-state=mass]").fill("30")
    until(page, lambda: 0 < pixels(page)[1] < everything * 0.6)


def test_the_spotlight_darkens_what_is_not_looked_at(view, plain):
    page = view(plain, opacity=0)
    bright = pixels(page)[0]
    page.locator("[data-state=opacity]").fill("90")
    page.locator("[data-state=paint]").select_option("spotlight")

    def dark_and_grey():
        light, color = pixels(page)
        return light < 0.8 * bright and color < 1

    until(page, dark_and_grey)


def test_a_contour_colors_little(view, plain):
    page = view(plain, paint="contour")
    until(page, lambda: 0.2 < pixels(page)[1] < 12)


def test_the_normalization_is_always_labelled(view, plain):
    page = view(plain)
    words = page.locator("#v-words")
    expect(words).to_contain_text("per run")
    page.locator("[data-state=norm]").select_option("image")
    expect(words).to_contain_text("its own")
    page.locator("[data-state=norm]").select_option("fixed")
    page.locator("[data-state=top]").fill("0.25")
    expect(words).to_have_text("fixed: 0.25")
    expect(page.locator("#v-high")).to_have_text("≥ 0.25")


def test_a_scale_can_go_from_the_least_to_the_largest_value(view, run, plain):
    page = view(plain)
    expect(page.locator("#v-low")).to_have_text("0")
    page.locator("[data-state=norm]").select_option("range")
    with np.load(run.explanation(plain)) as stored:
        least = float(f"{stored['values'].min():.3g}")
    expect(page.locator("#v-words")).to_contain_text("from its least to its largest value")
    assert float(page.locator("#v-low").inner_text()) == least


def test_controls_that_do_nothing_now_are_not_shown(view):
    page = view()
    expect(page.locator("#v-top")).to_be_hidden()
    page.locator("[data-state=norm]").select_option("fixed")
    expect(page.locator("#v-top")).to_be_visible()
    expect(page.locator("#v-versus")).to_be_hidden()
    page.locator("[data-state=sides]").select_option("difference")
    expect(page.locator("#v-versus")).to_be_visible()


def test_controls_that_a_case_has_no_data_for_are_off(view, plain):
    page = view(plain)
    for which in ("[data-save=gif]", "[data-state=show]", "[data-state=sides]", "#v-unpin"):
        expect(page.locator(which)).to_be_disabled()
    expect(page.locator("[data-save=png]")).to_be_enabled()


def test_the_outline_of_a_mask_lies_over_its_picture(view, run):
    masked = next(name for name in read(run).truth if run.mask(name).is_file())
    page = view(masked, opacity="0")
    seen = pixels(page)
    page.locator("[data-state=outline]").uncheck()
    until(page, lambda: pixels(page) != seen)
    chooses(page, outline="0")


def test_any_probability_is_an_empty_field(view, run):
    page = view()
    field = page.locator("[data-state=near]")
    expect(field).to_have_value("")
    everything = len(choose(read(run)))
    field.fill("0.5")
    expect(page.locator("#v-list button")).not_to_have_count(everything)
    field.fill("")
    expect(page.locator("#v-list button")).to_have_count(everything)
    chooses(page, near=None)


def test_the_patch_grid_is_drawn_on_request(view, plain):
    page = view(plain)
    seen = set()

    def is_new():
        shot = page.locator("#v-pane-a").evaluate("canvas => canvas.toDataURL()")
        new = shot not in seen
        seen.add(shot)
        return new

    assert is_new()
    for name in ("grid", "patches"):
        page.locator(f"[data-state={name}]").check()
        until(page, is_new)


def test_playing_goes_through_the_layers_and_stops(view):
    page = view()
    play, layer = page.locator("#v-play"), page.locator("#v-layer")
    play.click()
    expect(play).to_have_attribute("aria-pressed", "true")
    for seen in ("1", "3", "1"):  # round and round; each is shown for most of a second
        expect(layer).to_have_value(seen)
    play.click()
    expect(play).to_have_attribute("aria-pressed", "false")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    now = layer.input_value()
    page.wait_for_timeout(900)
    assert layer.input_value() == now


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
    expect(bars).to_have_count(4)
    for layer in range(4):
        best = int(lens[layer].argmax())
        label = re.compile(f"^After layer {layer + 1}: {('clear', 'nodule')[best]} ")
        expect(bars.nth(layer)).to_have_attribute("aria-label", label)
    bars.nth(1).click()
    chooses(page, layer="1")


def test_similar_training_cases_are_shown_with_their_distance(view, run, close):
    page = view()
    near = read_json(run.explanations / "similar.json")["cases"][close[0]]
    shown = page.locator("#v-similar li")
    expect(shown).to_have_count(len(near))
    expect(shown.first).to_contain_text(near[0]["case_id"])
    expect(shown.first.locator("img")).to_be_visible()


def test_probabilities_come_with_how_often_such_held(view):
    page = view()
    for words in ("95 % interval", "as trained", "nodule"):
        expect(page.locator("#v-said")).to_contain_text(words)


def test_a_drag_changes_window_and_level_and_a_double_click_resets(view, plain):
    page = view(plain)
    x, y = point_of(page, 3, 3)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=6)
    page.mouse.up()
    until(page, lambda: float(chosen(page, "width")) == 256 + 60)
    assert float(chosen(page, "level")) == 128 + 40
    chooses(page, pins=None)
    expect(page.locator("#v-window-says")).to_have_text("level 168, width 316")
    expect(page.locator("#v-preset")).to_have_value("")
    page.mouse.dblclick(x, y)
    expect(page.locator("#v-preset")).to_have_value("0")
    chooses(page, level=None, width=None)


def test_ctrl_and_wheel_zoom_where_the_pointer_is_and_middle_drag_pans(view, run, plain):
    page = view(plain)
    x, y = point_of(page, 2, 2)
    page.mouse.move(x, y)
    with np.load(run.explanation(plain)) as stored:
        expected = stored["values"][2, 2]
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    chooses(page, zoom="2.7183")
    page.mouse.move(x + 1, y)
    reads(page, expected, rel=1e-6)
    before = float(chosen(page, "x"))
    page.mouse.down(button="middle")
    page.mouse.move(x + 31, y + 20, steps=3)
    page.mouse.up(button="middle")
    until(page, lambda: float(chosen(page, "x")) == pytest.approx(before + 30, abs=0.01))
    reads(page, expected, rel=1e-6)


def test_presets_and_inversion_have_keys(view, plain):
    page = view(plain)
    page.locator("#v-next").focus()  # they work wherever nothing is typed
    bright = pixels(page)[0]
    page.keyboard.press("3")
    chooses(page, level="64", width="128")
    page.keyboard.press("0")
    page.keyboard.press("i")
    chooses(page, invert="1", level=None)
    until(page, lambda: pixels(page)[0] != pytest.approx(bright, rel=0.05))
    page.locator("[data-state=text]").press_sequentially("i3")
    chooses(page, text="i3", invert="1", level=None)


def test_patches_are_pointed_at_and_pinned_by_keys(view):
    page = view()
    page.locator("#v-pane-a").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#v-read")).to_contain_text("Row 4, column 6.")
    page.keyboard.press("Enter")
    chooses(page, pins=str(3 * SIDE + 5))
    page.keyboard.press("[")
    chooses(page, layer="2")


def test_j_and_k_walk_through_the_cases(view, run):
    order = choose(read(run))
    page = view(order[0])
    page.keyboard.press("j")
    chooses(page, case=order[1])
    page.keyboard.press("k")
    chooses(page, case=order[0])
    page.locator("#v-next").click()
    chooses(page, case=order[1])
    page.locator("#v-list [aria-current]").press("ArrowDown")
    chooses(page, case=order[2])
    expect(page.locator("#v-list [aria-current]")).to_be_focused()


def test_cases_are_filtered_sorted_and_counted(view, run):
    contents = read(run)
    judged = contents.judged["vit"]
    right = [name for name in judged if judged[name].decision == contents.truth[name]]
    page = view()
    cases = page.locator("#v-list button")
    page.locator("[data-state=outcome]").select_option("right")
    expect(cases).to_have_count(len(right))
    page.locator("[data-state=sort]").select_option("unsure")

    def is_sorted():
        shown = cases.evaluate_all("all => all.map(one => one.dataset.case)")
        sure = [max(judged[name].probabilities) for name in shown]
        return sure == sorted(sure)

    until(page, is_sorted)
    page.locator("[data-state=text]").fill(right[0])
    expect(cases).to_have_count(1)
    expect(page.locator("#v-count")).to_contain_text("1 of")


def test_the_list_names_the_class_whose_probability_it_shows(view, run):
    contents = read(run)
    page = view()
    for name in choose(contents)[:3]:
        share = contents.judged["vit"][name].probabilities[1]
        row = page.locator(f'#v-list button[data-case="{name}"] .share')
        expect(row).to_have_text(re.compile(r"nodule [\d.]+\u00a0%"))
        assert float(row.inner_text().split()[1].rstrip("\u00a0%")) == pytest.approx(
            100 * share, abs=0.51
        )
    expect(page.locator("#v-legend")).to_contain_text("the probability of nodule")
    expect(page.locator("#v-near")).to_have_text("nodule")


def test_the_list_is_let_alone_while_the_pointer_moves(view):
    page = view()
    page.evaluate("""() => {
      window.touched = 0;
      const options = { childList: true, attributes: true, subtree: true };
      const seen = new MutationObserver(all => { window.touched += all.length; });
      seen.observe(document.getElementById("v-list"), options);
    }""")
    for place in ((1, 1), (3, 5), (6, 2)):
        page.mouse.move(*point_of(page, *place))
        expect(page.locator("#v-read")).to_contain_text(f"Row {place[0] + 1}, ")
    assert page.evaluate("window.touched") == 0
    page.locator("#v-next").click()
    until(page, lambda: page.evaluate("window.touched") == 2)
    expect(page.locator("#v-list [aria-current]")).to_have_count(1)


def test_a_confusion_cell_leads_to_its_cases(open_report):
    page = open_report()
    cell = page.locator('.confusion a[data-model="vit"][data-truth="nodule"]').last
    count = int(cell.inner_text().split()[0])
    cell.click()
    page.get_by_role("button", name="Look closer", exact=True).first.click()
    expect(page.locator("#v-list button")).to_have_count(count)
    chooses(page, truth="nodule")


def test_a_click_on_the_calibration_curve_opens_cases_stated_so(open_report, run):
    page = open_report()
    plot = page.locator('.pick[data-axis="stated probability"]').first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    contents = read(run)
    stated = sorted(one.probabilities[1] for one in contents.judged["vit"].values())
    middle = stated[len(stated) // 2]
    plot.click(position={"x": middle * box["width"], "y": box["height"] / 2})
    near = float(chosen(page, "near"))
    assert near == pytest.approx(middle, abs=0.02)
    expected = sum(abs(one - near) <= 0.05 for one in stated)
    expect(page.locator("#v-list button")).to_have_count(expected)


def test_a_click_on_the_roc_curve_opens_the_cases_at_its_threshold(open_report, run):
    page = open_report()
    plot = page.locator('.pick[data-axis^="false positive rate"]').first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    contents = read(run)
    judged = contents.judged["vit"]
    negative = sorted(
        judged[name].probabilities[1] for name in judged if contents.truth[name] == "clear"
    )
    plot.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    near = float(chosen(page, "near"))
    assert near == pytest.approx(negative[round((len(negative) - 1) / 2)], abs=0.05)
    expected = sum(abs(one.probabilities[1] - near) <= 0.05 for one in judged.values())
    expect(page.locator("#v-list button")).to_have_count(expected)
    expect(page.locator("#stage")).to_be_visible()
    page.get_by_role("button", name="Show all").last.click()
    expect(page.locator("#v-list button")).to_have_count(len(choose(contents)))


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
    chooses(page, **choices)
    page.reload()
    expect(page.locator("#v-layer")).to_have_value("2")
    expect(page.locator("[data-state=opacity]")).to_have_value("70")
    expect(page.locator("[data-state=grid]")).to_be_checked()
    chooses(page, **choices)


def test_a_case_without_whole_attention_says_so(view, plain):
    page = view(plain)
    expect(page.locator("#v-wall-says")).to_contain_text("No attention was kept")
    expect(page.locator("#v-play")).to_be_disabled()


def test_a_case_that_is_not_there_is_said_to_be_so(open_report):
    page = open_report(fragment="#case=nobody")
    expect(page.locator("#v-status")).to_contain_text("not among those shown")


@pytest.mark.parametrize("viewport", [None, NARROW], ids=["wide", "narrow"])
def test_the_viewer_never_scrolls_sideways(view, viewport):
    page = view(options={"viewport": viewport} if viewport else None)
    width = page.viewport_size["width"]
    assert page.locator("#stage").evaluate("one => one.scrollWidth") <= width
    assert page.locator(".v-body").evaluate("one => one.scrollWidth") <= width


def test_a_case_opens_at_its_picture_on_a_narrow_screen(view, run):
    page = view(choose(read(run))[-1], options={"viewport": NARROW})
    expect(page.locator("#v-list [aria-current]")).to_have_count(1)
    expect(page.locator("#v-pane-a")).to_be_in_viewport(ratio=0.9)


def test_a_tap_pins_on_a_narrow_screen(view):
    page = view(options={"viewport": NARROW, "has_touch": True})
    page.locator("#v-pane-a").scroll_into_view_if_needed()
    page.touchscreen.tap(*point_of(page, 3, 4))
    chooses(page, pins=str(3 * SIDE + 4))


def test_two_fingers_zoom_and_pan(view):
    page = view(options={"viewport": NARROW, "has_touch": True})
    page.locator("#v-pane-a").scroll_into_view_if_needed()
    x, y = point_of(page, 3, 4)
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *points):
        at = [
            {"x": x + right, "y": y + down, "id": one} for one, (right, down) in enumerate(points)
        ]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (-20, 0), (20, 0))
    for far in (22, 25, 30, 40):
        touch("touchMove", (10 - far, 0), (10 + far, 0))
    touch("touchEnd")
    until(page, lambda: float(chosen(page, "zoom")) == pytest.approx(2, rel=0.01))
    until(page, lambda: float(chosen(page, "x")) == pytest.approx(10, abs=1))
    chooses(page, pins=None)


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
