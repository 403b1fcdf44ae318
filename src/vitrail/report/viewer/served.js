// The viewer behind `vitrail serve`: parts of a case are fetched when it is opened, and new pictures
// are sent by dropping, choosing or pasting them.

import { loaded } from "./decode.js";
import { element } from "./facts.js";
import { found, selectOf } from "./controls.js";
import { Viewer } from "./main.js";
import { readHash, writeHash } from "./state.js";

/** Ask the server; what it refuses, it says in words. @param {string} path @param {RequestInit} [options] */
async function asked(path, options) {
  const answer = await fetch(path, { credentials: "same-origin", ...options }).catch(() => { throw new Error("the server does not answer: does `vitrail serve` still run?"); });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({ error: answer.statusText }));
  throw new Error(said.error);
}

/** @param {import("./types.js").Run} run @returns {import("./types.js").Source} */
function fromServer(run) {
  return {
    run,
    picture: (index) => loaded(`cases/${index}/picture`).catch(async () => {
      await asked(`cases/${index}`); // says it where the whole case, or the server, is gone
      throw new Error("its picture is not to be had");
    }),
    outline: (index) => loaded(`cases/${index}/outline`).catch(() => null), // a case is shown without it
    detail: async (index) => (await asked(`cases/${index}`)).json(),
    close: async (index) => (await asked(`cases/${index}/close`)).json(),
  };
}

/**
 * What is sent at once: one picture, or the files of one scan, its mask last.
 * @typedef {{name: string, files: File[], mask: boolean}} Parcel
 * A file and the folder that it was dropped in.
 * @typedef {{file: File, folder: string}} Found
 */

/** Send pictures one after another, and say how it goes. */
class Sender {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    this.said = found("v-sent", HTMLElement);
    this.bar = found("v-progress", HTMLProgressElement);
    this.total = 0;
    this.busy = Promise.resolve();
  }

  /** @param {Found[]} files */
  add(files) {
    const { scans, mostBytes = Infinity } = this.viewer.run;
    for (const { name, files: parts, mask } of scans ? scansOf(files) : picturesOf(files)) {
      const size = parts.reduce((sum, one) => sum + one.size, 0);
      const said = new URLSearchParams({ name });
      if (scans) said.set("sizes", parts.map((one) => one.size).join(","));
      if (mask) said.set("mask", "1");
      this.queue(name, () => {
        if (size > mostBytes) throw new Error(`larger than ${Math.round(mostBytes / 2 ** 20)} MB`);
        return asked(`pictures?${said}`, { method: "POST", body: new Blob(parts) });
      });
    }
  }

  /** @param {string} url */
  ask(url) {
    this.queue(url, () => asked(`pictures?${new URLSearchParams({ url })}`, { method: "POST" }));
  }

  /** @param {string} name @param {() => Promise<Response>} sending */
  queue(name, sending) {
    this.total += 1;
    this.bar.max = this.total;
    this.bar.hidden = false;
    this.busy = this.busy.then(() => this.send(name, sending));
  }

  /** @param {string} name @param {() => Promise<Response>} sending */
  async send(name, sending) {
    const line = element("li", {}, `${name}: working…`);
    this.said.prepend(line);
    try {
      const one = /** @type {import("./types.js").Case} */ (await (await sending()).json());
      this.viewer.run.cases.push(one);
      found("v-export", HTMLElement).hidden = false;
      line.replaceChildren(`${name}: ${one.said[0].decision}${one.warning ? `. ${one.warning}` : ""}`);
      this.viewer.store.set({ case: one.id, pins: "" });
      this.viewer.soon();
    } catch (error) {
      line.className = "wrong";
      line.replaceChildren(`${name}: ${error instanceof Error ? error.message : error}`);
    }
    this.bar.value += 1;
  }
}

/** @param {Found[]} files @returns {Parcel[]} */
function picturesOf(files) {
  return files.map(({ file }) => ({ name: file.name, files: [file], mask: false }));
}

/**
 * Gather the files of each scan: a NIfTI file with the mask beside it (`NAME.mask.nii.gz`), or all
 * other files of one folder.
 * @param {Found[]} files @returns {Parcel[]}
 */
function scansOf(files) {
  const isVolume = (/** @type {Found} */ one) => /\.nii(\.gz)?$/i.test(one.file.name);
  const stem = (/** @type {Found} */ one) => `${one.folder}/${one.file.name}`.replace(/(\.mask)?\.nii(\.gz)?$/i, "");
  const masks = files.filter((one) => /\.mask\.nii(\.gz)?$/i.test(one.file.name));
  const maskOf = (/** @type {string} */ name) => masks.filter((one) => stem(one) === name).map((one) => one.file).slice(0, 1);
  const single = files.filter((one) => isVolume(one) && !masks.includes(one)).map((one) => ({ name: one.file.name, files: [one.file, ...maskOf(stem(one))], mask: maskOf(stem(one)).length > 0 }));
  const slices = files.filter((one) => !isVolume(one));
  const series = [...new Set(slices.map((one) => one.folder))].map((folder) => {
    const own = slices.filter((one) => one.folder === folder).map((one) => one.file);
    const name = folder.split("/").pop() || `${own[0].name}${own.length > 1 ? ` and ${own.length - 1} more` : ""}`;
    return { name, files: [...own, ...maskOf(folder)], mask: maskOf(folder).length > 0 };
  });
  return [...single, ...series];
}

async function startServed() {
  const status = found("v-status", HTMLElement);
  try {
    const run = await (await asked("run")).json();
    const first = { ...readHash(location.hash), case: run.cases[0]?.id ?? "" };
    if (!readHash(location.hash).case) history.replaceState(null, "", writeHash(first) || location.pathname);
    const viewer = new Viewer(fromServer(run));
    receive(viewer, new Sender(viewer));
    viewer.start();
  } catch (error) {
    status.textContent = `The run could not be read: ${error instanceof Error ? error.message : error}`;
  }
}

/** Let pictures be chosen, dropped, pasted, and named. @param {Viewer} viewer @param {Sender} sender */
function receive(viewer, sender) {
  const { scans, allowUrl } = viewer.run;
  for (const input of [found("v-files", HTMLInputElement), found("v-folder", HTMLInputElement)]) {
    input.addEventListener("change", () => {
      sender.add([...(input.files ?? [])].map((file) => ({ file, folder: file.webkitRelativePath.split("/").slice(0, -1).join("/") })));
      input.value = "";
    });
  }
  selectOf("outcome").append(element("option", {}, "new"));
  found("v-report", HTMLElement).hidden = !viewer.run.report;
  found("v-export", HTMLElement).hidden = viewer.run.cases.every((one) => one.truth);
  found("v-folder-of", HTMLElement).hidden = !scans;
  found("v-kind", HTMLElement).textContent = scans ? "New scans (the files of a series, or NIfTI)" : "New pictures";
  document.addEventListener("paste", (event) => sender.add([...(event.clipboardData?.files ?? [])].map((file) => ({ file, folder: "" }))));
  const dropping = (/** @type {boolean} */ on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => { event.preventDefault(); dropping(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) dropping(false); });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    dropping(false);
    sender.add(await dropped([...(event.dataTransfer?.items ?? [])]));
  });
  const form = found("v-url", HTMLFormElement), field = found("v-url-field", HTMLInputElement);
  form.hidden = !allowUrl;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sender.ask(field.value);
    field.value = "";
  });
}

/** List dropped files, those of dropped folders included. @param {DataTransferItem[]} items @returns {Promise<Found[]>} */
async function dropped(items) {
  const given = items.map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  const files = given.map(({ entry, file }) => (entry ? filesOf(entry) : Promise.resolve(file ? [{ file, folder: "" }] : [])));
  return (await Promise.all(files)).flat();
}

/** @param {FileSystemEntry} entry @returns {Promise<Found[]>} */
async function filesOf(entry) {
  if (entry.isFile) {
    /** @type {File} */
    const file = await new Promise((done, failed) => /** @type {FileSystemFileEntry} */ (entry).file(done, failed));
    return [{ file, folder: entry.fullPath.split("/").slice(1, -1).join("/") }];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {FileSystemEntry[]} */
  const inside = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break; // a reader hands a folder out in parts
    inside.push(...some);
  }
  return (await Promise.all(inside.map(filesOf))).flat();
}

startServed();
