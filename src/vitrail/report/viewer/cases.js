// The list of cases: which are shown, in which order, and walking through them.

import { element, percent, statedOf, thresholdWords } from "./facts.js";

export const NEAR = 0.05; // a probability this far away is near

/**
 * How probable a class, or its decision, is to the first model, as the page states it.
 * @param {import("./types.js").Run} run @param {import("./types.js").Case} one @param {string | null} name
 */
export function scoreOf(run, one, name) {
  const said = one.said[0];
  return said ? (statedOf(run, one)[name ?? said.decision] ?? 0) : 0;
}

/**
 * Choose and order cases; returns their places in the run.
 * @param {import("./types.js").Run} run
 * @param {import("./state.js").State} state
 */
export function chosen(run, state) {
  const { cases, positive } = run;
  const text = state.text.toLowerCase();
  const places = [...cases.keys()].filter((place) => {
    const one = cases[place];
    return (
      (!text || one.id.toLowerCase().includes(text)) &&
      (!state.outcome || state.outcome === outcomeOf(one)) &&
      (!state.truth || one.truth === state.truth) &&
      (!state.decision || one.said[0]?.decision === state.decision) &&
      (state.near < 0 || Math.abs(scoreOf(run, one, positive) - state.near) <= NEAR)
    );
  });
  if (state.sort === "name") return places.sort((one, two) => (cases[one].id < cases[two].id ? -1 : 1));
  if (!["sure", "unsure", "positive"].includes(state.sort)) return places;
  const name = state.sort === "positive" ? positive : null, way = state.sort === "unsure" ? 1 : -1;
  const scores = new Map(places.map((place) => [place, way * scoreOf(run, cases[place], name)]));
  return places.sort((one, two) => /** @type {number} */ (scores.get(one)) - /** @type {number} */ (scores.get(two)));
}

/** @param {import("./types.js").Case} one */
function outcomeOf(one) {
  return !one.truth ? "new" : one.right ? "right" : "wrong";
}

/** Say what a row of the list shows. @param {import("./types.js").Run} run */
export function legend(run) {
  const named = run.positive === null ? "the decided class" : run.positive;
  const deciding = thresholdWords(run, run.cases[0]?.said[0]?.model ?? "", true);
  const share = `the probability of ${named}${run.temperature === null ? "" : ", calibrated"}`;
  return `Truth → decision where it is wrong (✗), and ${share}${deciding ? `; ${deciding}` : ""}.`;
}

export class CaseList {
  /**
   * @param {HTMLElement} root
   * @param {import("./types.js").Run} run
   * @param {import("./state.js").Store} store
   */
  constructor(root, run, store) {
    this.root = root;
    this.run = run;
    this.store = store;
    /** @type {number[]} */
    this.places = [];
    this.key = "";
    this.marked = ""; // the case that is marked as open
    root.addEventListener("click", (event) => {
      const button = /** @type {HTMLElement} */ (event.target).closest("button");
      if (button?.dataset.case) store.set({ case: button.dataset.case, pins: "" });
    });
    root.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.step(step);
    });
  }

  /** Draw the list anew where it shows other cases, and mark the open one. @param {import("./state.js").State} state @param {HTMLElement} status */
  draw(state, status) {
    const key = JSON.stringify([state.text, state.outcome, state.truth, state.decision, state.near, state.sort, this.run.cases.length]);
    if (key === this.key && state.case === this.marked) return;
    this.marked = state.case;
    if (key !== this.key) {
      this.key = key;
      this.places = chosen(this.run, state);
      this.root.replaceChildren(...this.places.map((place) => this.row(this.run.cases[place])));
      status.textContent = `${this.places.length} of ${this.run.cases.length} cases`;
    }
    this.root.querySelector("[aria-current]")?.removeAttribute("aria-current");
    const open = /** @type {HTMLElement | null} */ (this.root.querySelector(`[data-case="${CSS.escape(state.case)}"]`));
    if (!open) return;
    open.setAttribute("aria-current", "true");
    this.reveal(open);
    if (this.root.contains(document.activeElement)) open.focus({ preventScroll: true });
  }

  /** Scroll the list, and nothing but the list, to a row. @param {HTMLElement} row */
  reveal(row) {
    const list = this.root.getBoundingClientRect(), box = row.getBoundingClientRect();
    if (box.top < list.top) this.root.scrollTop -= list.top - box.top;
    else if (box.bottom > list.bottom) this.root.scrollTop += box.bottom - list.bottom;
  }

  /** @param {import("./types.js").Case} one */
  row(one) {
    const said = one.said[0], outcome = outcomeOf(one);
    const mark = { right: "✓ ", wrong: "✗ ", new: "" }[outcome];
    const words = `${mark}${one.truth || said?.decision || ""}${said && !one.right ? ` → ${said.decision}` : ""}`;
    const name = this.run.positive ?? said?.decision ?? "";
    const share = said ? [" ", element("span", { class: "share" }, `${name} ${percent(scoreOf(this.run, one, name))}`)] : [];
    return element("li", {}, element("button", { type: "button", "data-case": one.id, class: outcome },
      element("span", { class: "what" }, words), ...share, element("span", { class: "case-id" }, one.id)));
  }

  /** Go to another case of the list. @param {number} step */
  step(step) {
    const at = this.places.findIndex((place) => this.run.cases[place].id === this.store.state.case);
    const next = this.places[at < 0 ? 0 : Math.min(Math.max(at + step, 0), this.places.length - 1)];
    if (next !== undefined) this.store.set({ case: this.run.cases[next].id, pins: "" });
  }
}
