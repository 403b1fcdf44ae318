// The wall: one tile a layer and head, in their order or sorted by what a head does.

import { attended, headFacts, mean, readOut } from "./grid.js";
import { fraction, palette, small } from "./color.js";
import { pinsOf } from "./state.js";
import { isAttention } from "./view.js";

const ORDERS = /** @type {Object<string, string>} */ ({
  layer: "", entropy: "entropy, bits", distance: "distance, patches", importance: "importance",
});

export class Wall {
  /**
   * @param {HTMLElement} root
   * @param {import("./state.js").Store} store
   * @param {[number, number, number][]} anchors
   */
  constructor(root, store, anchors) {
    this.root = root;
    this.store = store;
    this.colors = palette(anchors);
    /** @type {import("./types.js").Close | null} */
    this.close = null;
    /** @type {ReturnType<typeof headFacts> | null} */
    this.facts = null;
    /** @type {{button: HTMLButtonElement, layer: number, head: number}[]} */
    this.tiles = [];
    root.addEventListener("click", (event) => {
      const button = /** @type {HTMLElement} */ (event.target).closest("button");
      if (button) store.set({ layer: Number(button.dataset.layer), head: Number(button.dataset.head), show: "attention" });
    });
  }

  /** @param {import("./types.js").Close | null} close */
  load(close) {
    this.close = close;
    this.facts = null;
    this.tiles = [];
    this.root.replaceChildren();
    if (!close) return;
    for (let layer = 0; layer < close.layers; layer += 1) {
      for (let head = 0; head < close.heads; head += 1) {
        const button = document.createElement("button");
        const canvas = document.createElement("canvas");
        [canvas.height, canvas.width] = close.grid;
        button.type = "button";
        Object.assign(button.dataset, { layer, head });
        button.append(canvas, document.createElement("span"));
        this.tiles.push({ button, layer, head });
      }
    }
    this.root.style.setProperty("--heads", String(close.heads));
  }

  /** What the wall sorts by; NaN where it is not known. @param {string} order @param {number} place */
  measure(order, place) {
    if (!this.close || order === "layer") return NaN;
    if (order === "importance") return this.close.importance?.[place] ?? NaN;
    this.facts ??= headFacts(this.close);
    return (order === "entropy" ? this.facts.entropy : this.facts.distance)[place];
  }

  /** Say what stands under a tile. @param {string} order */
  words(order) {
    if (!this.close) return "";
    return `Under each tile: layer.head${ORDERS[order] ? `, then ${ORDERS[order]}, most first` : ""}.`;
  }

  /** @param {import("./state.js").State} state */
  draw(state) {
    const { close } = this;
    if (!close) return;
    const order = ORDERS[state.wall] === undefined ? "layer" : state.wall;
    const measures = this.tiles.map((_, place) => this.measure(order, place));
    const places = [...this.tiles.keys()];
    if (order !== "layer") places.sort((one, two) => (measures[two] || 0) - (measures[one] || 0) || one - two);
    this.root.classList.toggle("sorted", order !== "layer");
    const pins = close.matrices ? pinsOf(state).filter((pin) => pin < close.grid[0] * close.grid[1]) : [];
    const current = state.layer < 0 ? close.layers - 1 : state.layer;
    for (const place of places) {
      const { button, layer, head } = this.tiles[place];
      const values = pins.length ? mean(pins.map((pin) => attended(close, layer, head, pin, state.who))) : readOut(close, layer, head);
      this.paint(/** @type {HTMLCanvasElement} */ (button.firstChild), values, close.top);
      const known = Number.isFinite(measures[place]) ? small(measures[place]) : "";
      const label = /** @type {HTMLElement} */ (button.lastChild);
      label.textContent = order === "layer" ? `${layer + 1}.${head + 1}` : `${layer + 1}.${head + 1} ${known}`;
      button.setAttribute("aria-label", `Layer ${layer + 1}, head ${head + 1}${known ? `, ${ORDERS[order]} ${known}` : ""}`);
      button.setAttribute("aria-pressed", String(isAttention(state, close) && layer === current && head === state.head));
    }
    if (this.root.dataset.order !== `${order}` || !this.root.childElementCount) {
      this.root.replaceChildren(...places.map((place) => this.tiles[place].button));
      this.root.dataset.order = order;
    }
  }

  /** @param {HTMLCanvasElement} canvas @param {Float32Array} values @param {number} top */
  paint(canvas, values, top) {
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const pixels = context.createImageData(canvas.width, canvas.height);
    for (let place = 0; place < values.length; place += 1) {
      const step = Math.round(fraction(values[place], top, false) * 255) * 3;
      pixels.data.set([this.colors[step], this.colors[step + 1], this.colors[step + 2], 255], place * 4);
    }
    context.putImageData(pixels, 0, 0);
  }
}
