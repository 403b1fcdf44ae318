// The viewer: one state, drawn by panes, wall, list and facts.

import { opened } from "./decode.js";
import { palette, small } from "./color.js";
import { Store } from "./state.js";
import { layerOf, viewsOf } from "./view.js";
import { Pane } from "./canvas.js";
import { sliceWords, spotWords, tileAt } from "./scan.js";
import { Gestures } from "./gestures.js";
import { Wall } from "./wall.js";
import { CaseList } from "./cases.js";
import { bindControls, found, showControls } from "./controls.js";
import { element, markLayer, scaleWords, showLens, showProbabilities, showScale, showSimilar, showTrust } from "./facts.js";
import { download, gif, npz, sheet } from "./save.js";

const FRAME_MS = 700; // how long a layer is shown
const GIF_PX = 360;

export class Viewer {
  /** @param {import("./types.js").Source} source */
  constructor(source) {
    this.source = source;
    this.run = source.run;
    this.store = new Store();
    /** @type {import("./types.js").Case | null} */
    this.case = null;
    /** @type {import("./types.js").Close | null} */
    this.close = null;
    /** @type {number | null} */
    this.patch = null;
    this.shift = false; // while Shift is held, attention is read the other way round
    this.waiting = false;
    this.playing = 0;
    this.loading = 0;
    /** @type {unknown[]} */
    this.known = []; // what list and controls were drawn from
    this.busy = false; // while parts of the open case are fetched
    /** @type {(import("./types.js").View | null)[]} */
    this.views = [];
    this.panes = ["v-pane-a", "v-pane-b"].map((id) => new Pane(found(id, HTMLCanvasElement), this.run.palettes));
    this.wall = new Wall(found("v-wall", HTMLElement), this.store, this.run.palettes.sequential);
    this.list = new CaseList(found("v-list", HTMLElement), this.run, this.store);
    this.colors = { sequential: palette(this.run.palettes.sequential), diverging: palette(this.run.palettes.diverging) };
    this.hands = this.panes.map((pane) => this.hand(pane));
    this.bind();
    this.store.listeners.push((state, changed) => this.changed(state, changed));
    new ResizeObserver(() => this.soon()).observe(found("v-panes", HTMLElement));
  }

  /** @param {Pane} pane */
  hand(pane) {
    return new Gestures(pane.canvas, this.store, {
      patchAt: (x, y) => { const grid = this.grid(); return grid && pane.patchAt(x, y, grid); },
      hover: (patch) => this.hover(pane, patch),
      turn: (shift) => this.turn(shift),
      slices: () => { const tiles = this.case?.place?.tiles; return tiles ? tiles[0] * tiles[1] : 1; },
      grid: () => this.grid(),
      hovered: () => this.patch,
    });
  }

  /** Point at a patch; in a montage beside its slice, at the slice too. @param {Pane} pane @param {number | null} patch */
  hover(pane, patch) {
    if (patch === this.patch) return;
    this.patch = patch;
    const place = this.case?.place, grid = this.grid();
    if (patch !== null && place && grid && this.isBeside() && pane === this.panes[0]) this.store.set({ slice: tileAt(place, grid, patch).tile + 1 });
    this.soon();
  }

  /** Whether montage and slice stand side by side. */
  isBeside() {
    return Boolean(this.store.state.beside && this.case?.place?.tiles && this.views.length < 2);
  }

  /** The grid that is pointed at. @returns {[number, number] | null} */
  grid() {
    return this.close?.grid ?? this.views[0]?.grid ?? null;
  }

  /** Hold or let go of Shift. @param {boolean} shift */
  turn(shift) {
    if (shift === this.shift) return;
    this.shift = shift;
    this.soon();
  }

  bind() {
    const { store, run } = this;
    bindControls(store, run);
    const on = (/** @type {string} */ id, /** @type {() => void} */ act) => found(id, HTMLElement).addEventListener("click", act);
    on("v-previous", () => this.list.step(-1));
    on("v-next", () => this.list.step(1));
    on("v-close", () => store.set({ case: "" }));
    on("v-unpin", () => store.set({ pins: "" }));
    on("v-play", () => this.play());
    on("v-reset", () => this.hands[0].reset());
    found("v-lens", HTMLElement).addEventListener("click", (event) => {
      const bar = /** @type {HTMLElement} */ (event.target).closest("button");
      if (bar) store.set({ layer: Number(bar.dataset.layer), show: "attention" });
    });
    for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => this.save(String(/** @type {HTMLElement} */ (button).dataset.save)));
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keyup", (event) => { if (event.key === "Shift") this.turn(false); });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyped = target.matches("select, textarea, input:not([type=range], [type=checkbox])");
    const isCommand = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
    if (isTyped || isCommand || !found("viewer", HTMLElement).getClientRects().length) return;
    const step = { j: 1, k: -1 }[event.key];
    if (step) this.list.step(step);
    else if ((event.key === "[" || event.key === "]") && this.close) {
      const layer = layerOf(this.store.state, this.close) + (event.key === "]" ? 1 : -1);
      this.store.set({ layer: Math.min(Math.max(layer, 0), this.close.layers - 1), show: "attention" });
    } else if (event.key === "Shift") this.turn(true);
    else if (this.hands[0].shortcut(event.key)) event.preventDefault();
  }

  /** @param {import("./state.js").State} state @param {Set<string>} changed */
  changed(state, changed) {
    if (changed.has("case")) this.open(state.case);
    this.soon();
  }

  /** Draw at the next frame, once. */
  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  /** Fetch a case's parts and show it. @param {string} id */
  async open(id) {
    const turn = (this.loading += 1);
    const place = this.run.cases.findIndex((one) => one.id === id);
    this.case = place < 0 ? null : this.run.cases[place];
    this.patch = null;
    this.stop();
    this.panes.forEach((pane) => pane.load(null, null, null));
    this.attend(null);
    const status = found("v-status", HTMLElement);
    status.textContent = id && place < 0 ? "This case is not among those shown." : "";
    this.titled();
    this.busy = place >= 0;
    this.soon();
    if (place < 0) return;
    try {
      const masked = this.case?.mask ? this.source.outline(place) : null;
      const [one, picture, outline] = await Promise.all([this.source.detail(place), this.source.picture(place), masked]);
      if (turn !== this.loading) return; // another case was asked for meanwhile
      this.case = one;
      this.panes.forEach((pane) => pane.load(picture, one.place, outline));
      status.textContent = one.warning ?? "";
      this.titled();
      this.soon();
      const stored = await this.source.close(place);
      const close = stored && (await opened(stored));
      if (turn !== this.loading) return;
      this.attend(close);
    } catch (error) {
      if (turn !== this.loading) return;
      status.textContent = `This case could not be opened: ${error instanceof Error ? error.message : error}`;
    }
    this.busy = false;
    this.soon();
  }

  /** Name the case and show what is known of it. */
  titled() {
    const { run } = this, one = this.case;
    const title = found("v-title", HTMLElement);
    title.replaceChildren(...(one ? [element("span", { class: `outcome ${one.truth ? (one.right ? "right" : "wrong") : ""}` }, one.truth ? (one.right ? "✓ right" : "✗ wrong") : "new"), ` ${one.truth && !one.right ? `${one.truth} taken for ${one.said[0]?.decision}` : one.truth || one.said[0]?.decision || ""} `, element("span", { class: "case-id" }, one.id)] : ["No case is open"]));
    for (const id of ["v-said", "v-trust", "v-similar"]) found(id, HTMLElement).replaceChildren();
    if (!one) return;
    showProbabilities(found("v-said", HTMLElement), run, one);
    showSimilar(found("v-similar", HTMLElement), run, one);
    const tiles = one.place?.tiles;
    for (const id of ["v-slices", "v-beside"]) found(id, HTMLElement).hidden = !tiles;
    found("v-outline", HTMLElement).hidden = !one.mask;
    if (tiles) /** @type {HTMLInputElement} */ (document.querySelector('[data-state="slice"]')).max = String(tiles[0] * tiles[1]);
  }

  /** Take a close look, or none, and offer the layers and heads that there are. @param {import("./types.js").Close | null} close */
  attend(close) {
    this.close = close;
    this.wall.load(close);
    showLens(found("v-lens", HTMLElement), this.run, close);
    found("v-layer", HTMLInputElement).max = String(close?.layers ?? 1);
    const heads = Array.from({ length: close?.heads ?? 0 }, (_, head) => element("option", { value: String(head) }, String(head + 1)));
    found("v-head", HTMLSelectElement).replaceChildren(element("option", { value: "-1" }, "mean"), ...heads);
    found("v-wall-says", HTMLElement).textContent = !close
      ? "No attention was kept for this case."
      : close.matrices
        ? "The tiles show the pinned patches, else the read-out. One color scale for all tiles; its top is the 99.5th percentile of the read-out's attention."
        : "Only the read-out's attention was kept for this case: there is none to show of single patches.";
  }

  draw() {
    const state = { ...this.store.state, who: this.store.state.who !== this.shift };
    const known = [this.store.state, this.case, this.close, this.run.cases.length];
    if (known.some((one, place) => one !== this.known[place])) { // nothing of this follows the pointer
      this.known = known;
      this.list.draw(state, found("v-count", HTMLElement));
      showControls(this.store.state, this.case, this.close);
    }
    found("v-panes", HTMLElement).setAttribute("aria-busy", String(this.busy));
    const one = this.case;
    if (!one) { this.panes.forEach((pane) => pane.draw(state, null, null)); return; }
    this.views = viewsOf(state, this.run, one, this.close, this.patch);
    const second = found("v-pane-b", HTMLCanvasElement).parentElement;
    const beside = this.isBeside(), slice = Math.max(state.slice, 1);
    if (second) second.hidden = this.views.length < 2 && !beside;
    const shown = beside
      ? [{ view: this.views[0], state: { ...state, slice: 0, zoom: 1, x: 0, y: 0 } }, { view: this.views[0], state: { ...state, slice } }]
      : this.views.map((view) => ({ view, state }));
    shown.forEach((part, place) => {
      this.panes[place].draw(part.state, part.view, this.patch);
      const name = part.view ? `${part.view.name}${part.view.specific ? "" : " (class-agnostic)"}` : "no map";
      const words = sliceWords(one.place, part.state.slice);
      const parts = [name, words, part.view && state.paint === "contour" ? `around ${state.mass < 100 ? state.mass : 50}\u00a0% of the mass` : ""];
      found(`v-says-${"ab"[place]}`, HTMLElement).textContent = beside && place ? words : parts.filter(Boolean).join(", ");
    });
    if (beside) this.panes[0].frameTile(slice);
    const [bar, low, words, high] = ["v-bar", "v-low", "v-words", "v-high"].map((id) => found(id, HTMLElement));
    showScale(/** @type {HTMLCanvasElement} */ (bar), [low, words, high], this.colors, this.views[0]);
    this.read(one);
    if (this.patch === null) this.slowly(state, one);
  }

  /** Draw what need not follow the pointer. @param {import("./state.js").State} state @param {import("./types.js").Case} one */
  slowly(state, one) {
    this.wall.draw(state);
    found("v-wall-order", HTMLElement).textContent = this.wall.words(state.wall);
    markLayer(found("v-lens", HTMLElement), this.close ? layerOf(state, this.close) : 0);
    const name = one.maps[state.method] ? state.method : (Object.keys(one.maps)[0] ?? "");
    showTrust(found("v-trust", HTMLElement), one, name, this.run.methods.find((known) => known.name === name)?.specific ?? false);
  }

  /** Say the raw values under the pointer. @param {import("./types.js").Case} one */
  read(one) {
    const view = this.views[0], patch = this.patch, said = found("v-read", HTMLElement);
    said.removeAttribute("data-value");
    if (!view || patch === null) { said.textContent = view ? "Point at a patch, or at the picture with the arrow keys." : `No map of ${one.id}.`; return; }
    const value = view.values[patch] ?? NaN;
    const at = `Row ${Math.floor(patch / view.grid[1]) + 1}, column ${(patch % view.grid[1]) + 1}`;
    const peak = view.values.indexOf(Math.max(...view.values));
    const seen = `${view.name}: ${small(value)} here, most (${small(view.values[peak])}) at row ${Math.floor(peak / view.grid[1]) + 1}, column ${(peak % view.grid[1]) + 1}`;
    said.dataset.value = String(value);
    said.textContent = `${at}. ${seen}.${spotWords(one.place, view.grid, patch)}`;
  }

  /** Play through the layers, or stop. */
  play() {
    if (this.playing) { this.stop(); return; }
    if (!this.close) return;
    const layers = this.close.layers;
    let layer = 0;
    const next = () => { this.store.set({ layer, show: "attention" }); layer = (layer + 1) % layers; };
    next();
    this.playing = window.setInterval(next, FRAME_MS);
    found("v-play", HTMLElement).setAttribute("aria-pressed", "true");
  }

  stop() {
    clearInterval(this.playing);
    this.playing = 0;
    found("v-play", HTMLElement).setAttribute("aria-pressed", "false");
  }

  /** @param {string} kind */
  save(kind) {
    const one = this.case, view = this.views[0];
    if (!one || !view) return;
    const name = one.id.replace(/[^\w.-]+/g, "_");
    if (kind === "npz") {
      const place = Float32Array.from(one.place?.box ?? []), other = this.views[1];
      /** @type {Parameters<typeof npz>[0]} */
      const arrays = { values: { values: view.values, shape: view.grid }, box: { values: place, shape: [place.length] } };
      if (other) arrays.other = { values: other.values, shape: other.grid };
      download(npz(arrays), `${name}.npz`);
    } else if (kind === "png") {
      const shown = this.panes.filter((pane) => pane.canvas.clientWidth);
      const said = ["a", "b"].map((pane) => found(`v-says-${pane}`, HTMLElement).textContent ?? "");
      sheet(shown.map((pane) => pane.canvas), said, scaleWords(view)).toBlob((blob) => blob && download(blob, `${name}.png`));
    } else if (this.close) download(gif(this.frames(this.close), FRAME_MS / 1000), `${name}.gif`);
  }

  /** Draw every layer as it would be shown. @param {import("./types.js").Close} close */
  frames(close) {
    const { state } = this.store, one = /** @type {import("./types.js").Case} */ (this.case);
    const pane = this.panes[0], frames = [];
    for (let layer = 0; layer < close.layers; layer += 1) {
      const shown = { ...state, layer, show: "attention" };
      const view = /** @type {import("./types.js").View} */ (viewsOf(shown, this.run, one, close, null)[0]);
      pane.draw(shown, view, null);
      const drawn = sheet([pane.canvas], [view.name], scaleWords(view), GIF_PX);
      frames.push(/** @type {CanvasRenderingContext2D} */ (drawn.getContext("2d")).getImageData(0, 0, drawn.width, drawn.height));
    }
    this.soon();
    return frames;
  }

  /** Show what the address says. */
  start() {
    if (this.store.state.case) this.open(this.store.state.case);
    this.soon();
  }
}
