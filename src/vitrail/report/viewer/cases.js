// The list of cases: which are shown, in which order, and walking through them.

import { element } from "./facts.js";

/**
 * How much the first model says for a class, or for its decision.
 * @param {import("./types.js").Case} one @param {string | null} name
 */
export function scoreOf(one, name) {
  const said = one.said[0];
  return said ? (said.probabilities[name ?? said.decision] ?? 0) : 0;
}

/**
 * Choose and order cases; returns their places in the run.
 * @param {import("./types.js").Case[]} cases
 * @param {import("./state.js").State} state
 * @param {string | null} positive
 */
export function chosen(cases, state, positive) {
  const text = state.text.toLowerCase();
  const places = [...cases.keys()].filter((place) => {
    const one = cases[place];
    return (
      (!text || one.id.toLowerCase().includes(text)) &&
      (!state.outcome || (state.outcome === "right") === one.right) &&
      (!state.truth || one.truth === state.truth) &&
      (!state.decision || one.said[0]?.decision === state.decision) &&
      (state.near < 0 || Math.abs(scoreOf(one, positive) - state.near) <= 0.05)
    );
  });
  const by = /** @type {Object<string, (one: import("./types.js").Case, two: import("./types.js").Case) => number>} */ ({
    sure: (one, two) => scoreOf(two, null) - scoreOf(one, null),
    unsure: (one, two) => scoreOf(one, null) - scoreOf(two, null),
    positive: (one, two) => scoreOf(two, positive) - scoreOf(one, positive),
    name: (one, two) => (one.id < two.id ? -1 : 1),
  })[state.sort];
  return by ? places.sort((one, two) => by(cases[one], cases[two])) : places;
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
    root.addEventListener("click", (event) => {
      const button = /** @type {HTMLElement} */ (event.target).closest("button");
      if (button?.dataset.case) store.set({ case: button.dataset.case, pins: "" });
    });
    root.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.step(step);
      /** @type {HTMLElement | null} */ (root.querySelector("[aria-current]"))?.focus();
    });
  }

  /** @param {import("./state.js").State} state @param {HTMLElement} status */
  draw(state, status) {
    const key = JSON.stringify([state.text, state.outcome, state.truth, state.decision, state.near, state.sort, this.run.cases.length]);
    if (key !== this.key) {
      this.key = key;
      this.places = chosen(this.run.cases, state, this.run.positive);
      this.root.replaceChildren(...this.places.map((place) => this.row(this.run.cases[place])));
      status.textContent = `${this.places.length} of ${this.run.cases.length} cases`;
    }
    for (const button of this.root.querySelectorAll("button")) {
      const current = button.dataset.case === state.case;
      if (current === button.hasAttribute("aria-current")) continue;
      if (current) { button.setAttribute("aria-current", "true"); this.reveal(button); } else button.removeAttribute("aria-current");
    }
  }

  /** Scroll the list, and nothing but the list, to a row. @param {HTMLElement} row */
  reveal(row) {
    const list = this.root.getBoundingClientRect(), box = row.getBoundingClientRect();
    if (box.top < list.top) this.root.scrollTop -= list.top - box.top;
    else if (box.bottom > list.bottom) this.root.scrollTop += box.bottom - list.bottom;
  }

  /** @param {import("./types.js").Case} one */
  row(one) {
    const said = one.said[0];
    const mark = !one.truth ? "" : one.right ? "✓ " : "✗ ";
    const words = [one.truth || said?.decision || "", said && !one.right ? ` → ${said.decision}` : "", said ? ` ${(scoreOf(one, null) * 100).toFixed(0)}\u00a0%` : ""];
    return element("li", {}, element("button", { type: "button", "data-case": one.id, class: one.truth ? (one.right ? "right" : "wrong") : "new" },
      element("span", {}, mark + words.join("")), element("span", { class: "case-id" }, one.id)));
  }

  /** Go to another case of the list. @param {number} step */
  step(step) {
    const at = this.places.findIndex((place) => this.run.cases[place].id === this.store.state.case);
    const next = this.places[at < 0 ? 0 : Math.min(Math.max(at + step, 0), this.places.length - 1)];
    if (next !== undefined) this.store.set({ case: this.run.cases[next].id, pins: "" });
  }
}
