// One pane: a picture with its window, a map over it, and the way from the pointer to a patch.

import { axis, massThreshold, stretched } from "./grid.js";
import { fraction, palette } from "./color.js";
import { pinsOf } from "./state.js";

const LAID_PX = 112; // longest side of a laid-out map; the browser stretches it further

export class Pane {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Object<string, [number, number, number][]>} anchors
   */
  constructor(canvas, anchors) {
    this.canvas = canvas;
    this.colors = { sequential: palette(anchors.sequential), diverging: palette(anchors.diverging) };
    /** @type {HTMLImageElement | null} */
    this.picture = null;
    /** @type {HTMLImageElement | null} */
    this.outline = null;
    /** @type {import("./types.js").Place | null} */
    this.place = null;
    this.windowed = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.key = "";
    /** @type {{key: string, down: import("./grid.js").Axis, across: import("./grid.js").Axis} | null} */
    this.axes = null;
    /** @type {import("./types.js").View | null} */
    this.view = null;
    this.frame = { x: 0, y: 0, width: 1, height: 1 }; // where the whole picture lies, CSS px
  }

  /** @param {HTMLImageElement | null} picture @param {import("./types.js").Place | null} place @param {HTMLImageElement | null} outline */
  load(picture, place, outline) {
    this.picture = picture;
    this.outline = outline;
    this.place = place;
    this.key = "";
    this.axes = null;
  }

  /**
   * Draw everything anew.
   * @param {import("./state.js").State} state
   * @param {import("./types.js").View | null} view
   * @param {number | null} patch under the pointer
   */
  draw(state, view, patch) {
    this.view = view;
    const ratio = devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (!this.picture) return;
    this.frame = this.framed(state, width, height);
    context.save();
    this.clip(context, state.slice);
    const { x, y } = this.frame;
    context.imageSmoothingEnabled = this.frame.width < this.picture.naturalWidth * 4;
    context.drawImage(this.toWindow(state), x, y, this.frame.width, this.frame.height);
    if (view && !view.even && this.place) this.drawMap(context, state, view);
    if (this.outline && state.outline) context.drawImage(this.outline, x, y, this.frame.width, this.frame.height);
    if (view) this.drawMarks(context, state, view, patch);
    context.restore();
  }

  /** Draw nothing but one slice's tile. @param {CanvasRenderingContext2D} context @param {number} slice from 1; 0 is all */
  clip(context, slice) {
    if (!slice || !this.place?.tiles) return;
    const box = this.tileBox(slice, this.place.tiles);
    context.beginPath();
    context.rect(box.x, box.y, box.width, box.height);
    context.clip();
  }

  /** Where a slice's tile lies on the canvas. @param {number} slice from 1 @param {[number, number]} tiles down and across */
  tileBox(slice, tiles) {
    const [down, across] = tiles;
    const width = this.frame.width / across, height = this.frame.height / down;
    return { x: this.frame.x + ((slice - 1) % across) * width, y: this.frame.y + Math.floor((slice - 1) / across) * height, width, height };
  }

  /** @param {import("./state.js").State} state @param {number} width @param {number} height */
  framed(state, width, height) {
    const picture = /** @type {HTMLImageElement} */ (this.picture);
    const [rows, columns] = (state.slice > 0 && this.place?.tiles) || [1, 1];
    const tile = state.slice > 0 ? state.slice - 1 : 0;
    const scale = state.zoom * Math.min((width * columns) / picture.naturalWidth, (height * rows) / picture.naturalHeight);
    const full = { width: picture.naturalWidth * scale, height: picture.naturalHeight * scale };
    const center = { x: ((tile % columns) + 0.5) / columns, y: (Math.floor(tile / columns) + 0.5) / rows };
    return { x: width / 2 - center.x * full.width + state.x, y: height / 2 - center.y * full.height + state.y, ...full };
  }

  /** Apply window and level, anew only where they changed. @param {import("./state.js").State} state */
  toWindow(state) {
    const picture = /** @type {HTMLImageElement} */ (this.picture);
    const key = `${state.level} ${state.width} ${state.invert}`;
    if (key === this.key) return this.windowed;
    this.key = key;
    this.windowed.width = picture.naturalWidth;
    this.windowed.height = picture.naturalHeight;
    const context = /** @type {CanvasRenderingContext2D} */ (this.windowed.getContext("2d", { willReadFrequently: true }));
    context.drawImage(picture, 0, 0);
    if (state.level === 128 && state.width === 256 && !state.invert) return this.windowed;
    const low = state.level - state.width / 2;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, stored) => {
      const shown = ((stored - low) / Math.max(state.width, 1)) * 255;
      return state.invert ? 255 - shown : shown;
    });
    const pixels = context.getImageData(0, 0, this.windowed.width, this.windowed.height);
    for (let place = 0; place < pixels.data.length; place += 1) {
      if (place % 4 !== 3) pixels.data[place] = table[pixels.data[place]];
    }
    context.putImageData(pixels, 0, 0);
    return this.windowed;
  }

  /** @param {import("./types.js").View} view */
  laidAxes(view) {
    const place = /** @type {import("./types.js").Place} */ (this.place);
    const [height, width] = place.source;
    const shrink = LAID_PX / Math.max(height, width);
    const rows = Math.max(1, Math.round(height * shrink)), columns = Math.max(1, Math.round(width * shrink));
    const key = view.grid.join("x");
    if (this.axes?.key !== key) {
      const [top, left, bottom, right] = place.box;
      this.axes = {
        key,
        down: axis(rows, [top, bottom], place.input[0], view.grid[0]),
        across: axis(columns, [left, right], place.input[1], view.grid[1]),
      };
    }
    return this.axes;
  }

  /** @param {CanvasRenderingContext2D} context @param {import("./state.js").State} state @param {import("./types.js").View} view */
  drawMap(context, state, view) {
    const { down, across } = this.laidAxes(view);
    const laid = stretched(view.values, view.grid[1], down, across, state.patches);
    const width = across.low.length, height = down.low.length;
    const least = massThreshold(view.values, state.mass / 100);
    const { x, y } = this.frame;
    if (state.paint === "contour") {
      const border = state.mass < 100 ? least : massThreshold(view.values, 0.5);
      this.drawContour(context, laid, width, height, border);
      return;
    }
    this.overlay.width = width;
    this.overlay.height = height;
    const small = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));
    const pixels = small.createImageData(width, height);
    const colors = view.signed ? this.colors.diverging : this.colors.sequential;
    for (let place = 0; place < laid.length; place += 1) {
      const at = fraction(laid[place] - view.bottom, view.top - view.bottom, view.signed);
      const kept = Math.abs(laid[place]) >= least;
      if (state.paint === "spotlight") {
        pixels.data[place * 4 + 3] = 255 * (kept ? 1 - (view.signed ? Math.abs(at - 0.5) * 2 : at) : 1);
        continue;
      }
      const step = Math.round(at * 255) * 3;
      pixels.data[place * 4] = colors[step];
      pixels.data[place * 4 + 1] = colors[step + 1];
      pixels.data[place * 4 + 2] = colors[step + 2];
      pixels.data[place * 4 + 3] = kept ? (view.signed ? 510 * Math.abs(at * 2 - 1) : 255) : 0; // near zero the picture shows through (maps.py, too)
    }
    small.putImageData(pixels, 0, 0);
    context.globalAlpha = state.opacity / 100;
    context.imageSmoothingEnabled = !state.patches;
    context.drawImage(this.overlay, x, y, this.frame.width, this.frame.height);
    context.globalAlpha = 1;
  }

  /**
   * Draw the border of what is at least `border` (marching squares): dark below, light above.
   * @param {CanvasRenderingContext2D} context @param {Float32Array} laid @param {number} width @param {number} height @param {number} border
   */
  drawContour(context, laid, width, height, border) {
    const { frame } = this;
    const path = new Path2D();
    const toX = (/** @type {number} */ x) => frame.x + ((x + 0.5) / width) * frame.width;
    const toY = (/** @type {number} */ y) => frame.y + ((y + 0.5) / height) * frame.height;
    for (let y = 0; y + 1 < height; y += 1) {
      for (let x = 0; x + 1 < width; x += 1) {
        const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]];
        const values = corners.map(([column, row]) => Math.abs(laid[row * width + column]) - border);
        const points = [];
        for (let side = 0; side < 4; side += 1) {
          const next = (side + 1) % 4;
          if (values[side] >= 0 === values[next] >= 0) continue;
          const share = values[side] / (values[side] - values[next]);
          points.push(corners[side].map((from, way) => from + share * (corners[next][way] - from)));
        }
        for (let place = 0; place + 1 < points.length; place += 2) {
          path.moveTo(toX(points[place][0]), toY(points[place][1]));
          path.lineTo(toX(points[place + 1][0]), toY(points[place + 1][1]));
        }
      }
    }
    context.strokeStyle = "#10141e";
    context.lineWidth = 4;
    context.stroke(path);
    context.strokeStyle = "#fde737";
    context.lineWidth = 2;
    context.stroke(path);
  }

  /** @param {CanvasRenderingContext2D} context @param {import("./state.js").State} state @param {import("./types.js").View} view @param {number | null} patch */
  drawMarks(context, state, view, patch) {
    if (!this.place) return;
    if (state.grid) {
      context.strokeStyle = "rgba(255,255,255,.35)";
      context.lineWidth = 1;
      for (let one = 0; one < view.values.length; one += 1) {
        const box = this.patchBox(view.grid, one);
        context.strokeRect(box.x, box.y, box.width, box.height);
      }
    }
    const marked = pinsOf(state).map((pin) => ({ pin, color: "#fff" }));
    if (patch !== null) marked.push({ pin: patch, color: "#fde737" });
    for (const { pin, color } of marked) {
      const box = this.patchBox(view.grid, pin);
      for (const [width, style] of /** @type {[number, string][]} */ ([[4, "#10141e"], [2, color]])) {
        context.lineWidth = width;
        context.strokeStyle = style;
        context.strokeRect(box.x, box.y, box.width, box.height);
      }
    }
  }

  /** Frame the tile of a slice. @param {number} slice from 1 */
  frameTile(slice) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    if (!this.place?.tiles || !this.picture || !slice) return;
    const box = this.tileBox(slice, this.place.tiles);
    for (const [line, style] of /** @type {[number, string][]} */ ([[5, "#10141e"], [2.5, "#fff"]])) {
      context.lineWidth = line;
      context.strokeStyle = style;
      context.strokeRect(box.x, box.y, box.width, box.height);
    }
  }

  /** Where a patch lies on the canvas. @param {[number, number]} grid @param {number} patch */
  patchBox(grid, patch) {
    const { box: [top, left, bottom, right], input } = /** @type {import("./types.js").Place} */ (this.place);
    const tall = input[0] / grid[0], wide = input[1] / grid[1];
    const row = Math.floor(patch / grid[1]), column = patch % grid[1];
    const perX = this.frame.width / (right - left), perY = this.frame.height / (bottom - top);
    return {
      x: this.frame.x + (column * wide - left) * perX, y: this.frame.y + (row * tall - top) * perY,
      width: wide * perX, height: tall * perY,
    };
  }

  /**
   * Find the patch under a point, null outside the picture.
   * @param {number} x CSS px from the canvas's left
   * @param {number} y
   * @param {[number, number]} grid
   */
  patchAt(x, y, grid) {
    if (!this.place || !this.picture) return null;
    const [top, left, bottom, right] = this.place.box;
    const across = (x - this.frame.x) / this.frame.width, down = (y - this.frame.y) / this.frame.height;
    if (across < 0 || across >= 1 || down < 0 || down >= 1) return null;
    const row = Math.floor(((top + down * (bottom - top)) * grid[0]) / this.place.input[0]);
    const column = Math.floor(((left + across * (right - left)) * grid[1]) / this.place.input[1]);
    return Math.min(row, grid[0] - 1) * grid[1] + Math.min(column, grid[1] - 1);
  }
}
