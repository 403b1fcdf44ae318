// The viewer inside a report that opens from disk: everything it needs stands in the page.

import { NEAR, scoreOf } from "./cases.js";
import { loaded } from "./decode.js";
import { found } from "./controls.js";
import { Viewer } from "./main.js";

/** Figures that lead to cases, by how their axis begins. */
const LEADS = {
  "stated probability": "A click opens the cases stated so.",
  "false positive rate": "A click opens the cases near its threshold.",
};

/** @param {Element | null | undefined} script @returns {any} */
function written(script) {
  return script ? JSON.parse(script.textContent ?? "") : null;
}

/** @returns {import("./types.js").Source} */
function fromPage() {
  const cards = [...document.querySelectorAll(".case")], closer = [...document.querySelectorAll(".close-up")];
  /** @type {import("./types.js").Run} */
  const run = written(document.getElementById("viewer-run"));
  const of = (/** @type {Element[]} */ parts, /** @type {number} */ index) =>
    parts.find((one) => one instanceof HTMLElement && one.dataset.case === run.cases[index].id);
  return {
    run,
    picture: async (index) => {
      const shown = of(cards, index)?.querySelector(".panel img");
      if (!(shown instanceof HTMLImageElement)) throw new Error("the report holds no picture of it");
      return loaded(shown.src);
    },
    outline: async (index) => {
      const shown = of(cards, index)?.querySelector("img.outline");
      return shown instanceof HTMLImageElement ? loaded(shown.src) : null;
    },
    detail: async (index) => run.cases[index],
    close: async (index) => written(of(closer, index)),
  };
}

/** Open and close the dialog as the address says, and let the report's figures lead into it. */
function startOnPage() {
  const stage = found("stage", HTMLDialogElement);
  const viewer = new Viewer(fromPage());
  const { store, run } = viewer;
  const shown = () => {
    if (store.state.case && !stage.open) stage.showModal();
    if (!store.state.case && stage.open) stage.close();
  };
  store.listeners.push(shown);
  stage.addEventListener("close", () => store.set({ case: "" }));
  document.addEventListener("click", (event) => {
    const opener = /** @type {HTMLElement} */ (event.target).closest("[data-open]");
    if (opener instanceof HTMLElement) store.set({ case: String(opener.dataset.open), pins: "" });
  });
  for (const [axisName, words] of Object.entries(LEADS)) {
    const plot = document.querySelector(`#results .pick[data-axis^="${axisName}"]`); // of the first model, on the cases shown
    if (!plot || (run.positive === null && axisName !== "stated probability")) continue;
    plot.classList.add("leads");
    plot.closest("figure")?.querySelector("figcaption")?.append(` ${words}`);
    plot.addEventListener("click", (event) => {
      const box = plot.getBoundingClientRect();
      const near = probabilityAt(run, plot.getAttribute("data-axis") ?? "", (/** @type {MouseEvent} */ (event).clientX - box.left) / box.width);
      if (near === null) return;
      const shares = run.cases.map((one) => scoreOf(run, one, run.positive));
      const nearest = shares.reduce((best, share) => (Math.abs(share - near) < Math.abs(best - near) ? share : best));
      const kept = Math.abs(nearest - near) <= NEAR ? near : nearest; // a click always opens a case
      store.set({ near: Math.round(kept * 100) / 100, sort: "positive" });
      viewer.list.draw(store.state, found("v-count", HTMLElement));
      viewer.list.step(0);
    });
  }
  viewer.start();
  if (store.state.case) shown();
}

/**
 * Turn a place on a figure's axis into a probability of the positive class: a stated probability is
 * one; a false positive rate is that of the negative cases above it.
 * @param {import("./types.js").Run} run @param {string} axisName @param {number} at in [0, 1]
 */
function probabilityAt(run, axisName, at) {
  if (axisName === "stated probability") return at;
  if (!axisName.startsWith("false positive rate") || run.positive === null) return null;
  const scores = run.cases.filter((one) => one.truth !== run.positive).map((one) => scoreOf(run, one, run.positive)).sort((one, two) => one - two);
  return scores.length ? scores[Math.round((scores.length - 1) * (1 - at))] : null;
}

startOnPage();
