// What a pane shows: from the reader's choices to raw values, their scale, and the words for both.

import { floatsOf } from "./decode.js";
import { attended, mean, readOut } from "./grid.js";
import { small } from "./color.js";
import { pinsOf } from "./state.js";

const EVEN = 0.1; // a map whose values differ by less than this share of the largest is called even (maps.py, too)

/** @param {string} name */
export function plainName(name) {
  return name.replaceAll("_", " ");
}

/** @param {import("./state.js").State} state @param {import("./types.js").Close} close */
export function layerOf(state, close) {
  return state.layer < 0 || state.layer >= close.layers ? close.layers - 1 : state.layer;
}

/** Whether attention is shown while nothing is pointed at. @param {import("./state.js").State} state @param {import("./types.js").Close} close */
export function isAttention(state, close) {
  return state.show === "attention" || Boolean(close.matrices && pinsOf(state).length);
}

/**
 * Say what each pane shows; null where the case has nothing of the kind.
 * @param {import("./state.js").State} state
 * @param {import("./types.js").Run} run
 * @param {import("./types.js").Case} one
 * @param {import("./types.js").Close | null} close
 * @param {number | null} patch the patch under the pointer
 * @returns {(import("./types.js").View | null)[]} one view, or two side by side
 */
export function viewsOf(state, run, one, close, patch) {
  if (close && (patch !== null || isAttention(state, close))) {
    const view = attentionView(state, close, patch);
    if (view) return [view];
  }
  const target = state.target || (state.sides === "one" ? "" : (one.said[0]?.decision ?? ""));
  if (target && close?.values) return classViews({ ...state, target }, run, close);
  return [mapView(state, run, one)];
}

/**
 * @param {import("./state.js").State} state
 * @param {import("./types.js").Close} close
 * @param {number | null} patch
 * @returns {import("./types.js").View | null}
 */
function attentionView(state, close, patch) {
  const layer = layerOf(state, close);
  const where = `layer ${layer + 1}, ${state.head < 0 ? "mean of heads" : `head ${state.head + 1}`}`;
  const pins = patch === null ? pinsOf(state).filter((pin) => pin < close.grid[0] * close.grid[1]) : [patch];
  if (patch !== null && !close.matrices) return null;
  const asked = close.matrices && pins.length;
  const values = asked
    ? mean(pins.map((pin) => attended(close, layer, state.head, pin, state.who)))
    : readOut(close, layer, state.head);
  const whose = pins.length > 1 ? `${pins.length} pinned patches` : "this patch";
  const name = !asked ? "Attention of the read-out" : state.who ? `Who attends to ${whose}` : `Where ${whose} attends`;
  return {
    values, grid: close.grid, signed: false, specific: false, name: `${name}, ${where}`,
    ...scaled(state, values, close.top, "per case: 99.5th percentile of the read-out's attention"),
  };
}

/**
 * @param {import("./state.js").State} state
 * @param {import("./types.js").Run} run
 * @param {import("./types.js").Close} close
 * @returns {import("./types.js").View[]}
 */
function classViews(state, run, close) {
  const values = /** @type {Float32Array} */ (close.values);
  const size = close.grid[0] * close.grid[1];
  const of = (/** @type {string} */ name) => {
    const place = Math.max(run.classes.indexOf(name), 0);
    return values.slice(place * size, (place + 1) * size);
  };
  const peak = largest(values);
  const method = plainName(close.method);
  const shared = { grid: close.grid, specific: true };
  const words = "per case: the largest value of any class";
  const versus = state.versus || run.classes.find((name) => name !== state.target) || state.target;
  const first = of(state.target), second = of(versus);
  if (state.sides === "difference") {
    const difference = first.map((value, place) => value - second[place]);
    const most = first.map((_, place) => spread(run.classes.map((name) => of(name)[place])));
    const scale = scaled(state, difference, largest(most), "per case: the largest difference of two classes");
    return [{ ...shared, ...scale, values: difference, signed: true, name: `${method}: ${state.target} rather than ${versus}` }];
  }
  const view = (/** @type {string} */ name, /** @type {Float32Array} */ found) => ({
    ...shared, ...scaled(state, state.sides === "two" ? Float32Array.of(...first, ...second) : found, peak, words), values: found,
    signed: values.some((value) => value < 0), name: `${method}: ${name}`,
  });
  return state.sides === "two" ? [view(state.target, first), view(versus, second)] : [view(state.target, first)];
}

/**
 * @param {import("./state.js").State} state
 * @param {import("./types.js").Run} run
 * @param {import("./types.js").Case} one
 * @returns {import("./types.js").View | null}
 */
function mapView(state, run, one) {
  const name = one.maps[state.method] ? state.method : Object.keys(one.maps)[0];
  if (!name) return null;
  const stored = one.maps[name];
  const values = floatsOf(stored.values);
  const method = run.methods.find((known) => known.name === name);
  const facts = { values, grid: stored.grid, name: plainName(name), specific: method?.specific ?? stored.specific ?? false, signed: method?.signed ?? stored.signed ?? false };
  if (!method) return { ...facts, ...scaled({ ...state, norm: state.norm === "run" ? "image" : state.norm }, values, 0, "") };
  return { ...facts, ...scaled(state, values, method.largest, `per run: 99.5th percentile of ${method.count} maps`) };
}

/**
 * Choose the ends of the color scale, and say which they are. A map in which hardly anything stands
 * out would only veil the picture: it is said to be so and painted only from its least value to its largest.
 * @param {import("./state.js").State} state
 * @param {Float32Array} values
 * @param {number} shared
 * @param {string} words
 * @returns {{top: number, bottom: number, scale: string, even: boolean}}
 */
function scaled(state, values, shared, words) {
  const peak = largest(values), low = values.reduce((least, value) => Math.min(least, value), Infinity);
  const apart = values.reduce((most, value) => Math.max(most, value), -Infinity) - low;
  const even = apart <= EVEN * peak;
  const said = even ? `; nearly even: its values differ by ${(peak ? (apart / peak) * 100 : 0).toPrecision(2)}\u00a0%` : "";
  if (state.norm === "range" && low >= 0) return { top: peak, bottom: low, scale: `per image: from its least to its largest value${said}`, even: false };
  const tail = even ? `${said}, so nothing is painted` : "";
  if (state.norm === "image") return { top: peak, bottom: 0, scale: `per image: its own peak is ${small(peak)}${tail}`, even };
  if (state.norm === "fixed") return { top: state.top, bottom: 0, scale: `fixed: ${small(state.top)}${tail}`, even };
  return { top: shared, bottom: 0, scale: `${words}${tail}`, even };
}

/** @param {number[]} values */
function spread(values) {
  return Math.max(...values) - Math.min(...values);
}

/** @param {Float32Array} values */
function largest(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}
