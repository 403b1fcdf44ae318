"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  root.classList.add("js");

  const dark = matchMedia("(prefers-color-scheme: dark)");
  $("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });

  const toggle = (id, key, on) => $(id)?.addEventListener("change", (event) => {
    if (event.target.checked) root.dataset[key] = on; else delete root.dataset[key];
  });
  toggle("patches", "resampling", "patches");
  toggle("per-image", "normalization", "image");
  $("opacity")?.addEventListener("input", (event) => {
    root.style.setProperty("--opacity", event.target.value / 100);
  });

  const choose = (scope, method) => {
    const select = scope.querySelector(".choose select");
    if (!select || ![...select.options].some((one) => one.value === method)) return;
    select.value = method;
    scope.querySelectorAll("[data-method]").forEach((one) => { one.hidden = one.dataset.method !== method; });
  };
  document.querySelectorAll(".choose select").forEach((one) => one.addEventListener("change", () => choose(one.closest(".case"), one.value)));
  $("method")?.addEventListener("change", (event) => document.querySelectorAll(".case").forEach((one) => choose(one, event.target.value)));

  const cells = [...document.querySelectorAll(".confusion a")];
  const cases = [...document.querySelectorAll(".case")];
  const status = $("filter");
  const show = (cell) => {
    cells.forEach((one) => one.setAttribute("aria-pressed", String(one === cell)));
    const { model, truth, decision } = cell ? cell.dataset : {};
    document.querySelectorAll("#gallery .more").forEach((one) => { one.open = Boolean(cell); });
    let shown = 0;
    for (const one of cases) {
      const fits = !cell || (one.dataset.truth === truth && JSON.parse(one.dataset.decisions)[model] === decision);
      one.hidden = !fits;
      shown += fits;
    }
    status.hidden = !cell;
    status.replaceChildren();
    if (!cell) return;
    const all = Object.assign(document.createElement("button"), { type: "button", textContent: "Show all" });
    all.addEventListener("click", () => show(null));
    const first = cases.find((one) => !one.hidden);
    const closer = Object.assign(document.createElement("button"), { type: "button", textContent: "Look closer" });
    closer.addEventListener("click", () => { location.hash = new URLSearchParams({ case: first.dataset.case, truth, decision }); });
    if (first && document.getElementById("stage")) status.append(closer, " ");
    status.append(`${shown} shown: ${truth} taken for ${decision} by ${cell.closest("table").caption.textContent}. `, all);
    document.getElementById("gallery").scrollIntoView();
  };
  for (const cell of cells) {
    cell.setAttribute("role", "button");
    cell.setAttribute("aria-pressed", "false");
    cell.addEventListener("click", (event) => {
      event.preventDefault();
      show(cell.getAttribute("aria-pressed") === "true" ? null : cell);
    });
    cell.addEventListener("keydown", (event) => {
      if (event.key === " ") { event.preventDefault(); cell.click(); }
    });
  }
})();
