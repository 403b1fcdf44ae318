// The viewer behind `vitrail serve`: parts of a case are fetched when it is opened, and new pictures
// are sent by dropping, choosing or pasting them.

import { element } from "./facts.js";
import { Viewer, found } from "./main.js";

/** Ask the server; what it refuses, it says in words. @param {string} path @param {RequestInit} [options] */
async function asked(path, options) {
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({ error: answer.statusText }));
  throw new Error(said.error);
}

/** @param {import("./types.js").Run} run @returns {import("./types.js").Source} */
function fromServer(run) {
  return {
    run,
    picture: async (index) => {
      const picture = new Image();
      picture.src = `cases/${index}/picture`;
      await picture.decode().catch(() => { throw new Error("its picture is not to be had"); });
      return picture;
    },
    detail: async (index) => (await asked(`cases/${index}`)).json(),
    close: async (index) => (await asked(`cases/${index}/close`)).json(),
  };
}

/** Send pictures one after another, and say how it goes. */
class Sender {
  /** @param {Viewer} viewer @param {number} most bytes a file */
  constructor(viewer, most) {
    this.viewer = viewer;
    this.most = most;
    this.said = found("v-sent", HTMLElement);
    this.bar = found("v-progress", HTMLProgressElement);
    this.total = 0;
    this.busy = Promise.resolve();
  }

  /** @param {File[]} files */
  add(files) {
    this.total += files.length;
    this.bar.max = this.total;
    this.bar.hidden = false;
    for (const file of files) this.busy = this.busy.then(() => this.send(file));
  }

  /** @param {File} file */
  async send(file) {
    const line = element("li", {}, `${file.name}: working…`);
    this.said.prepend(line);
    try {
      if (file.size > this.most) throw new Error(`larger than ${Math.round(this.most / 2 ** 20)} MB`);
      const answer = await asked(`pictures?${new URLSearchParams({ name: file.name })}`, { method: "POST", body: file });
      const one = /** @type {import("./types.js").Case} */ (await answer.json());
      this.viewer.run.cases.push(one);
      line.replaceChildren(`${file.name}: ${one.said[0].decision}${one.warning ? `. ${one.warning}` : ""}`);
      this.viewer.store.set({ case: one.id, pins: "" });
      this.viewer.soon();
    } catch (error) {
      line.className = "wrong";
      line.replaceChildren(`${file.name}: ${error instanceof Error ? error.message : error}`);
    }
    this.bar.value += 1;
  }
}

async function startServed() {
  const status = found("v-status", HTMLElement);
  try {
    const run = await (await asked("run")).json();
    const viewer = new Viewer(fromServer(run));
    const sender = new Sender(viewer, run.mostBytes);
    const chosen_ = found("v-files", HTMLInputElement);
    chosen_.addEventListener("change", () => { sender.add([...(chosen_.files ?? [])]); chosen_.value = ""; });
    document.addEventListener("paste", (event) => sender.add([...(event.clipboardData?.files ?? [])]));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", async (event) => {
      event.preventDefault();
      sender.add(await dropped([...(event.dataTransfer?.items ?? [])]));
    });
    viewer.start();
    if (!viewer.store.state.case && run.cases.length) viewer.store.set({ case: run.cases[0].id });
  } catch (error) {
    status.textContent = `The run could not be read: ${error instanceof Error ? error.message : error}`;
  }
}

/** List dropped files, those of dropped folders included. @param {DataTransferItem[]} items @returns {Promise<File[]>} */
async function dropped(items) {
  const found_ = items.map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  const files = found_.map(({ entry, file }) => (entry ? filesOf(entry) : Promise.resolve(file ? [file] : [])));
  return (await Promise.all(files)).flat();
}

/** @param {FileSystemEntry} entry @returns {Promise<File[]>} */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => /** @type {FileSystemFileEntry} */ (entry).file(done, failed))];
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
