// The controls: each names the field of the state that it changes and shows.

import { isAttention, layerOf, plainName } from "./view.js";
import { element, percent } from "./facts.js";
import { sliceWords } from "./scan.js";
import { legend } from "./cases.js";
import { DEFAULTS, pinsOf } from "./state.js";
import { PRESETS } from "./gestures.js";

/** What else a choice changes, so that it is seen at once. */
const WITH = /** @type {Record<string, Partial<import("./state.js").State>>} */ ({
  head: { show: "attention" }, layer: { show: "attention" },
  show: { pins: "" }, method: { show: "map", pins: "", target: "", sides: "one" },
  target: { show: "map", pins: "" }, sides: { show: "map", pins: "" }, versus: { show: "map", pins: "" },
});

const FILTERS = /** @type {const} */ (["text", "outcome", "truth", "decision", "near"]);

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
export function found(id, kind) {
  const element_ = document.getElementById(id);
  if (!(element_ instanceof kind)) throw new Error(`#${id} is not there`);
  return element_;
}

/** @param {string} name @returns {HTMLSelectElement} */
export function selectOf(name) {
  return /** @type {HTMLSelectElement} */ (document.querySelector(`select[data-state="${name}"]`));
}

/** Offer what the run has, and let every control change the state. @param {import("./state.js").Store} store @param {import("./types.js").Run} run */
export function bindControls(store, run) {
  const offer = (/** @type {string} */ id, /** @type {string[]} */ names, label = (/** @type {string} */ name) => name) =>
    selectOf(id).append(...names.map((name) => element("option", { value: name }, label(name))));
  offer("method", run.methods.map((one) => one.name), plainName);
  for (const id of ["target", "versus", "decision"]) offer(id, run.classes);
  offer("truth", [...new Set(run.cases.map((one) => one.truth))].filter(Boolean).sort());
  if (run.positive !== null) offer("sort", ["positive"], () => `most probably ${run.positive} first`);
  found("v-near", HTMLElement).textContent = run.positive ?? "the decision";
  found("v-legend", HTMLElement).textContent = legend(run);
  const preset = found("v-preset", HTMLSelectElement);
  preset.append(...PRESETS.map(([name], place) => element("option", { value: String(place) }, `${place + 1} ${name}`)));
  preset.addEventListener("input", () => {
    const [, level, width] = PRESETS[Number(preset.value)];
    store.set({ level, width });
  });
  for (const control of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("[data-state]"))) {
    control.addEventListener("input", () => {
      const name = /** @type {keyof import("./state.js").State} */ (control.dataset.state);
      const number = control.value === "" ? DEFAULTS[name] : Number(control.value);
      const value = control.type === "checkbox" ? control.checked : typeof store.state[name] === "number" ? number : control.value;
      store.set({ ...WITH[name], [name]: value });
    });
  }
  found("v-all", HTMLElement).addEventListener("click", () => store.set(Object.fromEntries(FILTERS.map((name) => [name, DEFAULTS[name]]))));
  found("v-layer", HTMLInputElement).addEventListener("input", (event) => store.set({ ...WITH.layer, layer: Number(/** @type {HTMLInputElement} */ (event.target).value) - 1 }));
}

/**
 * Let every control show the state, and be of use only where it does something.
 * @param {import("./state.js").State} state
 * @param {import("./types.js").Case | null} one
 * @param {import("./types.js").Close | null} close
 */
export function showControls(state, one, close) {
  for (const control of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("[data-state]"))) {
    const name = /** @type {keyof import("./state.js").State} */ (control.dataset.state), value = state[name];
    const text = name === "near" && state.near < 0 ? "" : String(value);
    if (control.type === "checkbox") control.checked = Boolean(value);
    else if (control.type === "number" && control === document.activeElement) continue; // half a number is typed
    else if (control.value !== text) control.value = text;
  }
  for (const name of /** @type {const} */ (["opacity", "mass"])) found(`v-${name}-says`, HTMLElement).textContent = percent(state[name] / 100, 0);
  found("v-all", HTMLElement).hidden = FILTERS.every((name) => state[name] === DEFAULTS[name]);
  found("v-versus", HTMLElement).hidden = state.sides === "one";
  found("v-top", HTMLElement).hidden = state.norm !== "fixed";
  selectOf("show").value = close && isAttention(state, close) ? "attention" : "map";
  const byClass = Boolean(close?.values && (state.target || state.sides !== "one"));
  const method = selectOf("method");
  method.options[0].text = close?.values ? plainName(close.method) : "";
  if (byClass) method.value = "";
  else if (one && !one.maps[state.method]) method.value = Object.keys(one.maps)[0] ?? "";
  const preset = PRESETS.findIndex(([, level, width]) => level === state.level && width === state.width);
  found("v-preset", HTMLSelectElement).value = preset < 0 ? "" : String(preset);
  found("v-window-says", HTMLElement).textContent = `level ${Math.round(state.level)}, width ${Math.round(state.width)}`;
  const layer = close ? layerOf(state, close) + 1 : 1;
  found("v-layer", HTMLInputElement).value = String(layer);
  found("v-layer-says", HTMLElement).textContent = close ? `${layer} of ${close.layers}` : "";
  found("v-slice-says", HTMLElement).textContent = sliceWords(one?.place ?? null, state.beside ? Math.max(state.slice, 1) : state.slice) || "all";
  const useless = /** @type {[string, boolean][]} */ ([
    ["#v-layer, #v-head, #v-play, [data-save=gif], [data-state=show], [data-state=wall]", !close],
    ["[data-state=who]", !close?.matrices], ["[data-save=png], [data-save=npz]", !one], ["#v-unpin", !pinsOf(state).length],
    ["[data-state=target], [data-state=versus], [data-state=sides]", !close?.values],
  ]);
  for (const [which, off] of useless) for (const control of document.querySelectorAll(which)) /** @type {HTMLInputElement} */ (control).disabled = off;
}
