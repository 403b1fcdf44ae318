// Hands on a pane: mouse, wheel, touch and keys become changes of the state.

import { pinsOf } from "./state.js";

/** Windows of the shown 8-bit picture: [name, level, width]. */
export const PRESETS = /** @type {[string, number, number][]} */ ([
  ["whole range", 128, 256], ["middle half", 128, 128], ["dark half", 64, 128],
  ["bright half", 192, 128], ["narrow middle", 128, 64], ["dark quarter", 32, 64],
  ["bright quarter", 224, 64], ["soft", 128, 400], ["hard edge", 128, 16],
]);

const CLICK_PX = 4;

export class Gestures {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./state.js").Store} store
   * @param {{patchAt: (x: number, y: number) => number | null, hover: (patch: number | null) => void, turn: (shift: boolean) => void,
   *   slices: () => number, grid: () => [number, number] | null, hovered: () => number | null}} pane
   */
  constructor(canvas, store, pane) {
    this.canvas = canvas;
    this.store = store;
    this.pane = pane;
    /** @type {Map<number, {x: number, y: number}>} */
    this.fingers = new Map();
    this.moved = 0;
    this.spread = 0;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.pane.hover(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.pane.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** @param {PointerEvent} event */
  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.moved = 0;
    this.spread = this.fingers.size === 2 ? this.between() : 0;
    if (event.button === 1) event.preventDefault();
  }

  /** @param {PointerEvent} event */
  move(event) {
    const last = this.fingers.get(event.pointerId);
    if (!last) { this.point(event); return; }
    const right = event.clientX - last.x, down = event.clientY - last.y;
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.moved += Math.abs(right) + Math.abs(down);
    const { state } = this.store;
    if (this.fingers.size === 2) this.pinch(right / 2, down / 2);
    else if (event.pointerType === "touch") this.point(event);
    else if (event.buttons & 4) this.store.set({ x: state.x + right, y: state.y + down });
    else if (event.buttons & 1 && this.moved > CLICK_PX) {
      this.store.set({ width: Math.min(Math.max(state.width + right, 1), 1024), level: Math.min(Math.max(state.level + down, -256), 512) });
    }
  }

  /** @param {PointerEvent} event */
  up(event) {
    const known = this.fingers.delete(event.pointerId);
    if (!known || event.type === "pointercancel" || event.button !== 0 || this.moved > CLICK_PX || this.spread) return;
    const patch = this.pane.patchAt(...this.at(event));
    if (patch !== null) this.pin(patch);
  }

  /** Two fingers: zoom by their distance, pan by their middle. @param {number} right @param {number} down */
  pinch(right, down) {
    const { state } = this.store, spread = this.between();
    const zoom = this.spread ? bounded((state.zoom * spread) / this.spread) : state.zoom;
    this.spread = spread;
    this.store.set({ zoom, x: state.x + right, y: state.y + down });
  }

  /** How far two fingers are apart. */
  between() {
    const [one, two] = [...this.fingers.values()];
    return Math.hypot(one.x - two.x, one.y - two.y);
  }

  /** @param {MouseEvent} event @returns {[number, number]} */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** @param {PointerEvent} event */
  point(event) {
    this.pane.turn(event.shiftKey);
    this.pane.hover(this.pane.patchAt(...this.at(event)));
  }

  /** @param {number} patch */
  pin(patch) {
    const pins = pinsOf(this.store.state);
    const kept = pins.includes(patch) ? pins.filter((one) => one !== patch) : [...pins, patch];
    this.store.set({ pins: kept.join(".") });
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    const { state } = this.store;
    const slices = this.pane.slices();
    if (event.ctrlKey) {
      event.preventDefault();
      const [x, y] = this.at(event);
      const zoom = bounded(state.zoom * Math.exp(-event.deltaY / 300)), grown = zoom / state.zoom;
      const fromX = x - this.canvas.clientWidth / 2, fromY = y - this.canvas.clientHeight / 2;
      this.store.set({ zoom, x: fromX - (fromX - state.x) * grown, y: fromY - (fromY - state.y) * grown });
    } else if (slices > 1) {
      event.preventDefault();
      this.leaf(Math.sign(event.deltaY));
    }
  }

  /** Go to another slice; before the first is the whole montage. @param {number} step */
  leaf(step) {
    const { state } = this.store, least = state.beside ? 1 : 0;
    this.store.set({ slice: Math.min(Math.max(state.slice + step, least), this.pane.slices()) });
  }

  reset() {
    this.store.set({ level: 128, width: 256, invert: false, zoom: 1, x: 0, y: 0, slice: 0 });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = /** @type {Object<string, [number, number]>} */ ({ ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] });
    if (steps[event.key]) this.walk(...steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") {
      const patch = this.pane.hovered();
      if (patch !== null) this.pin(patch);
    } else if ((event.key === "PageDown" || event.key === "PageUp") && this.pane.slices() > 1) this.leaf(event.key === "PageDown" ? 1 : -1);
    else return;
    event.preventDefault();
  }

  /** Do what a key says wherever it is pressed; returns whether it says anything. @param {string} key */
  shortcut(key) {
    const { state } = this.store;
    const preset = PRESETS[Number(key) - 1];
    if (preset) this.store.set({ level: preset[1], width: preset[2] });
    else if (key.toLowerCase() === "m") this.store.set({ outline: !state.outline });
    else if (key.toLowerCase() === "i") this.store.set({ invert: !state.invert });
    else if (key === "0") this.reset();
    else if (key === "+" || key === "-") this.store.set({ zoom: bounded(state.zoom * (key === "+" ? 1.25 : 0.8)) });
    else return false;
    return true;
  }

  /** Move the pointed patch with the arrows. @param {number} down @param {number} right */
  walk(down, right) {
    const grid = this.pane.grid();
    if (!grid) return;
    const patch = this.pane.hovered();
    const row = patch === null ? Math.floor(grid[0] / 2) : Math.floor(patch / grid[1]) + down;
    const column = patch === null ? Math.floor(grid[1] / 2) : (patch % grid[1]) + right;
    this.pane.hover(Math.min(Math.max(row, 0), grid[0] - 1) * grid[1] + Math.min(Math.max(column, 0), grid[1] - 1));
  }
}

/** @param {number} zoom */
function bounded(zoom) {
  return Math.min(Math.max(zoom, 0.5), 32);
}
