// What is known of a case beside its pictures: probabilities, trust, layers' answers, similar cases.

import { small } from "./color.js";
import { plainName } from "./view.js";

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
export function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** @param {number} share @param {number} digits */
export function percent(share, digits = share > 0.995 || share < 0.005 ? 1 : 0) {
  return `${(share * 100).toFixed(digits)}\u00a0%`;
}

/**
 * Divide the log odds by the temperature that was fitted on validation cases.
 * @param {Record<string, number>} probabilities @param {number} temperature
 */
export function calibrated(probabilities, temperature) {
  const raised = Object.entries(probabilities).map(([name, share]) => /** @type {[string, number]} */ ([name, share ** (1 / temperature)]));
  const total = raised.reduce((sum, [, share]) => sum + share, 0);
  return Object.fromEntries(raised.map(([name, share]) => [name, share / total]));
}

/**
 * Say what a model states of a case: the first model's probabilities are calibrated where that was learned.
 * @param {import("./types.js").Run} run @param {import("./types.js").Case} one @param {number} place of the model
 */
export function statedOf(run, one, place = 0) {
  const { probabilities } = one.said[place];
  return place === 0 && run.temperature !== null ? calibrated(probabilities, run.temperature) : probabilities;
}

/**
 * Say from which probability a model decides for the positive class; empty where the likeliest class wins.
 * @param {import("./types.js").Run} run @param {string} model @param {boolean} own whether it is the first model
 */
export function thresholdWords(run, model, own) {
  const threshold = run.thresholds[model];
  if (threshold === undefined || run.positive === null) return "";
  const both = { yes: threshold, no: 1 - threshold };
  const shown = own && run.temperature !== null ? calibrated(both, run.temperature).yes : threshold;
  return `${run.positive} is decided from ${percent(shown, 1)} up`;
}

/**
 * Show each model's probabilities, the first model's calibrated and with how often such held.
 * @param {HTMLElement} root @param {import("./types.js").Run} run @param {import("./types.js").Case} one
 */
export function showProbabilities(root, run, one) {
  const parts = one.said.map((said, place) => {
    const own = place === 0 && run.temperature !== null;
    const shares = statedOf(run, one, place);
    const rows = Object.entries(shares).sort((first, second) => second[1] - first[1]).slice(0, 5).map(([name, share]) => {
      const row = element("span", { class: "probability" }, element("span", {}, name), " ", element("b", {}, percent(share)));
      row.style.setProperty("--share", String(share));
      return row;
    });
    const words = [own ? "calibrated" : "as trained", said.trainings > 1 ? `mean of ${said.trainings} trainings` : "", thresholdWords(run, said.model, place === 0)];
    const head = element("p", {}, element("b", {}, said.model), ` decides ${said.decision} `, element("span", { class: said.right ? "right" : "wrong" }, one.truth ? (said.right ? "✓" : "✗") : ""), element("span", { class: "hint" }, ` ${words.filter(Boolean).join("; ")}`));
    return element("div", {}, head, ...rows, ...(place === 0 ? [held(run, shares)] : []));
  });
  root.replaceChildren(...parts, ...(one.note ? [element("p", { class: "hint" }, one.note)] : []));
}

/** Say how often cases with a probability like this were positive. @param {import("./types.js").Run} run @param {Record<string, number>} shares */
function held(run, shares) {
  const asked = run.positive ?? Object.entries(shares).sort((one, two) => two[1] - one[1])[0]?.[0] ?? "";
  const stated = shares[asked];
  const near = run.calibration.filter((bin) => bin.frequency !== null)
    .sort((one, two) => Math.abs(one.probability - stated) - Math.abs(two.probability - stated))[0];
  if (!near || near.frequency === null || near.low === null || near.high === null) return element("p", { class: "hint" }, "How often such cases were so is not known.");
  return element("p", { class: "hint" }, `Of the ${near.n} test cases stated nearest to this (${percent(near.probability)} ${asked}), ${percent(near.frequency)} were so, 95 % interval ${percent(near.low)} to ${percent(near.high)}.`);
}

/** Show what was tested of the map. @param {HTMLElement} root @param {import("./types.js").Case} one @param {string} method @param {boolean} specific */
export function showTrust(root, one, method, specific) {
  const map = one.maps[method];
  const stamp = element("span", { class: specific ? "stamp" : "stamp agnostic" }, specific ? "class-specific" : "class-agnostic");
  const head = element("p", {}, element("b", {}, plainName(method) || "no map"), " ", ...(map ? [stamp] : []));
  const fails = map?.fails?.length ? [element("p", { class: "fails" }, element("b", {}, "Not to be trusted: "), `${map.fails.join("; ")}.`)] : [];
  const facts = (map?.facts ?? []).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  root.replaceChildren(head, ...fails, element("dl", {}, ...facts));
}

/**
 * Show the answer after every layer: one bar a layer, of the class that is decided for at the end.
 * @param {HTMLElement} root @param {import("./types.js").Run} run @param {import("./types.js").Close | null} close
 */
export function showLens(root, run, close) {
  const lens = close?.lens;
  root.hidden = !lens;
  if (!close || !lens) return;
  const count = run.classes.length;
  const last = lens.slice((close.layers - 1) * count);
  const decided = last.indexOf(Math.max(...last));
  const bars = Array.from({ length: lens.length / count }, (_, place) => {
    const row = [...lens.slice(place * count, (place + 1) * count)];
    const best = row.indexOf(Math.max(...row));
    const words = `After layer ${place + 1}: ${run.classes[best]} ${percent(row[best])}, ${run.classes[decided]} ${percent(row[decided])}`;
    const bar = element("button", { type: "button", "data-layer": String(place), title: words, "aria-label": words, class: best === decided ? "same" : "other" }, element("span", {}), element("i", {}, String(place + 1)));
    bar.style.setProperty("--share", String(row[decided]));
    return bar;
  });
  const title = element("p", { class: "hint" }, `Logit lens: probability of ${run.classes[decided]} if the model stopped after each layer; hatched where another class leads. Early layers were never trained to be read so.`);
  root.replaceChildren(title, element("div", { class: "bars", role: "group", "aria-label": "Answer after each layer" }, ...bars));
}

/** Mark the bar of the layer that is looked at. @param {HTMLElement} root @param {number} layer */
export function markLayer(root, layer) {
  for (const bar of root.querySelectorAll("button")) bar.setAttribute("aria-pressed", String(bar.dataset.layer === String(layer)));
}

/** Show the training cases that are most like this one to the model. @param {HTMLElement} root @param {import("./types.js").Run} run @param {import("./types.js").Case} one */
export function showSimilar(root, run, one) {
  root.hidden = !one.similar.length;
  const shown = one.similar.map((near) => {
    const source = near.picture ?? run.thumbnails[near.id];
    const picture = source ? [element("img", { src: source, alt: "" })] : [];
    return element("li", {}, ...picture, element("b", {}, near.label), ` ${small(near.distance)}`, element("span", { class: "case-id" }, near.id));
  });
  const title = element("p", { class: "hint" }, `Nearest of ${run.among}, by the cosine distance of what the model's head reads.`);
  root.replaceChildren(element("h3", {}, "Most similar training cases"), title, element("ul", {}, ...shown));
}

/** Say the ends of a color scale and what they are. @param {import("./types.js").View} view */
export function scaleWords(view) {
  return `${small(view.signed ? -view.top : view.bottom)} to ≥ ${small(view.top)}, ${view.scale}`;
}

/**
 * Show the color scale, its ends, and the words for it.
 * @param {HTMLCanvasElement} bar @param {HTMLElement[]} places of the low end, the words and the high end
 * @param {{sequential: Uint8ClampedArray, diverging: Uint8ClampedArray}} palettes @param {import("./types.js").View | null} view
 */
export function showScale(bar, places, palettes, view) {
  const context = /** @type {CanvasRenderingContext2D} */ (bar.getContext("2d"));
  const pixels = context.createImageData(256, 1);
  const colors = view?.signed ? palettes.diverging : palettes.sequential;
  for (let step = 0; step < 256; step += 1) pixels.data.set([colors[step * 3], colors[step * 3 + 1], colors[step * 3 + 2], view ? 255 : 0], step * 4);
  context.putImageData(pixels, 0, 0);
  const said = view ? [small(view.signed ? -view.top : view.bottom), view.scale, `≥ ${small(view.top)}`] : ["", "", ""];
  places.forEach((place, at) => { place.textContent = said[at]; });
}
