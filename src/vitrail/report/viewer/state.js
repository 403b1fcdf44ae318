// What the reader has chosen: one flat record, written into the address after "#" and read from it.

/** Every choice with its default; the type of a default is the type of its field. */
export const DEFAULTS = Object.freeze({
  case: "",
  show: "map", // "map" or "attention"
  method: "",
  target: "", // class name; "" is the map that the record holds
  versus: "",
  sides: "one", // "one", "two" or "difference"
  layer: -1, // -1 is the last
  head: -1, // -1 is the mean over heads
  pins: "", // patches, "3.17"
  who: false, // who attends to the patch, instead of where it attends; Shift turns it round
  paint: "color", // "color", "contour" or "spotlight"
  opacity: 55,
  mass: 100,
  norm: "run", // "run", "image", "range" or "fixed"
  top: 0.05,
  patches: false,
  grid: false,
  level: 128,
  width: 256,
  invert: false,
  zoom: 1,
  x: 0,
  y: 0,
  slice: 0, // 0 is the whole montage
  beside: false, // montage and slice side by side
  outline: true, // of the known mask
  wall: "layer",
  sort: "given",
  outcome: "",
  truth: "",
  decision: "",
  near: -1, // cases whose probability of the positive class is near this
  text: "",
});

/** @typedef {{-readonly [K in keyof typeof DEFAULTS]: typeof DEFAULTS[K] extends boolean ? boolean :
 *   typeof DEFAULTS[K] extends number ? number : string}} State */

/** @param {string} hash @returns {State} */
export function readHash(hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const state = /** @type {Record<string, string | number | boolean>} */ ({ ...DEFAULTS });
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const text = said.get(name);
    if (text === null) continue;
    if (typeof value === "boolean") state[name] = text === "1";
    else if (typeof value === "number") state[name] = Number.isFinite(Number(text)) ? Number(text) : value;
    else state[name] = text;
  }
  return /** @type {State} */ (/** @type {unknown} */ (state));
}

/** @param {State} state */
export function writeHash(state) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value === DEFAULTS[/** @type {keyof State} */ (name)]) continue;
    const round = typeof value === "number" ? Math.round(value * 1e4) / 1e4 : value;
    said.set(name, typeof round === "boolean" ? (round ? "1" : "0") : String(round));
  }
  return said.size ? `#${said}` : "";
}

/** The state, and who is told of its changes. The address is renewed once a frame at most. */
export class Store {
  constructor() {
    this.state = readHash(location.hash);
    /** @type {((state: State, changed: Set<string>) => void)[]} */
    this.listeners = [];
    this.waiting = false;
    this.opening = false; // opening the first case is a step that "Back" takes back
    addEventListener("hashchange", () => {
      this.set(readHash(location.hash));
      this.opening = false;
    });
  }

  /** @param {Partial<State>} change */
  set(change) {
    const names = /** @type {(keyof State)[]} */ (Object.keys(change));
    const changed = names.filter((name) => change[name] !== this.state[name]);
    if (!changed.length) return;
    this.opening ||= Boolean(change.case && !this.state.case);
    this.state = { ...this.state, ...change };
    for (const told of this.listeners) told(this.state, new Set(changed));
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => {
      this.waiting = false;
      const hash = writeHash(this.state);
      const address = hash || location.pathname + location.search;
      if (hash !== location.hash) this.opening ? history.pushState(null, "", address) : history.replaceState(null, "", address);
      this.opening = false;
    }, 100); // browsers refuse more than some hundred changes of the address in half a minute
  }
}

/** @param {State} state @returns {number[]} */
export function pinsOf(state) {
  return state.pins ? state.pins.split(".").map(Number).filter(Number.isInteger) : [];
}
