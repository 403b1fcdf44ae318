// Files to keep: an animated GIF, a PNG, and the raw numbers as a NumPy archive.

/** @param {Blob} content @param {string} name */
export function download(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const LINE_PX = 19, GAP_PX = 6;

/**
 * Set panes side by side over what is said of them, so that a saved picture keeps its legend.
 * @param {HTMLCanvasElement[]} canvases of one height @param {string[]} words of each @param {string} scale
 * @param {number} longest side of what is made of a single pane, px
 */
export function sheet(canvases, words, scale, longest = Infinity) {
  const shrink = Math.min(1, longest / Math.max(canvases[0].width, canvases[0].height));
  const size = Math.min(devicePixelRatio || 1, 1 / shrink), line = Math.round(LINE_PX * size);
  const widths = canvases.map((canvas) => Math.round(canvas.width * shrink)), height = Math.round(canvases[0].height * shrink);
  const made = document.createElement("canvas");
  const gap = Math.round(GAP_PX * size);
  made.width = widths.reduce((sum, width) => sum + width, gap * (widths.length - 1));
  made.height = height + 2 * line;
  const context = /** @type {CanvasRenderingContext2D} */ (made.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, made.width, made.height);
  context.fillStyle = "#1b2130";
  context.font = `${13 * size}px system-ui, sans-serif`;
  let left = 0;
  canvases.forEach((canvas, place) => {
    context.drawImage(canvas, left, 0, widths[place], height);
    context.fillText(words[place], left + 4, height + line * 0.75, widths[place] - 8);
    left += widths[place] + gap;
  });
  context.fillText(scale, 4, height + line * 1.7, made.width - 8);
  return made;
}

/**
 * Write arrays as ``.npz``: a ZIP of ``.npy`` files, stored.
 * @param {Record<string, {values: Float32Array, shape: number[]}>} arrays
 */
export function npz(arrays) {
  const files = Object.entries(arrays).map(([name, { values, shape }]) => {
    const words = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
    const padded = `${words.padEnd(Math.ceil((words.length + 11) / 64) * 64 - 11)}\n`;
    const head = new Uint8Array(10 + padded.length);
    head.set([0x93, 78, 85, 77, 80, 89, 1, 0, padded.length & 255, padded.length >> 8]);
    head.set(new TextEncoder().encode(padded), 10);
    const body = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return { name: `${name}.npy`, content: joined([head, body]) };
  });
  return zip(files);
}

/** @param {Uint8Array[]} parts */
function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}

/** @param {Uint8Array} content */
export function crc32(content) {
  let sum = ~0;
  for (const byte of content) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (0xedb88320 & -(sum & 1));
  }
  return ~sum >>> 0;
}

/**
 * Write files into a ZIP archive without compression (APPNOTE 4.3).
 * @param {{name: string, content: Uint8Array}[]} files
 */
export function zip(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const { name, content } of files) {
    const letters = new TextEncoder().encode(name);
    const facts = new DataView(new ArrayBuffer(26));
    const fields = /** @type {[number, number, number][]} */ ([[0, 20, 2], [8, 0x21, 2], [10, crc32(content), 4], [14, content.length, 4], [18, content.length, 4], [22, letters.length, 2]]);
    for (const [place, value, size] of fields) size === 2 ? facts.setUint16(place, value, true) : facts.setUint32(place, value, true);
    const shared = new Uint8Array(facts.buffer);
    const local = joined([Uint8Array.of(80, 75, 3, 4), shared, letters]);
    const tail = new DataView(new ArrayBuffer(14));
    tail.setUint32(10, at, true);
    directory.push(joined([Uint8Array.of(80, 75, 1, 2, 20, 0), shared, new Uint8Array(tail.buffer), letters]));
    parts.push(local, content);
    at += local.length + content.length;
  }
  const size = directory.reduce((sum, one) => sum + one.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, at, true);
  return new Blob([joined([...parts, ...directory, new Uint8Array(end.buffer)])], { type: "application/zip" });
}

/**
 * Write pictures of one size as an endless animation (GIF89a), each with its own 256 colors.
 * @param {ImageData[]} frames @param {number} seconds each
 */
export function gif(frames, seconds) {
  const { width, height } = frames[0];
  const word = (/** @type {number} */ value) => [value & 255, value >> 8];
  const text = (/** @type {string} */ letters) => [...letters].map((one) => one.charCodeAt(0));
  const parts = [Uint8Array.of(...text("GIF89a"), ...word(width), ...word(height), 0x70, 0, 0,
    0x21, 0xff, 11, ...text("NETSCAPE2.0"), 3, 1, 0, 0, 0)];
  for (const frame of frames) {
    const { colors, places } = indexed(frame);
    parts.push(Uint8Array.of(0x21, 0xf9, 4, 0, ...word(Math.round(seconds * 100)), 0, 0,
      0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0x87), colors, Uint8Array.of(8), lzw(places));
  }
  return new Blob([joined([...parts, Uint8Array.of(0x3b)])], { type: "image/gif" });
}

/** Reduce a picture to its 256 most frequent colors of 15 bits. @param {ImageData} frame */
function indexed(frame) {
  const counts = new Uint32Array(32768);
  const bins = new Uint16Array(frame.width * frame.height);
  for (let place = 0; place < bins.length; place += 1) {
    const [red, green, blue] = frame.data.subarray(place * 4, place * 4 + 3);
    bins[place] = ((red >> 3) << 10) | ((green >> 3) << 5) | (blue >> 3);
    counts[bins[place]] += 1;
  }
  const kept = [...counts.keys()].filter((bin) => counts[bin]).sort((one, two) => counts[two] - counts[one]).slice(0, 256);
  const of = (/** @type {number} */ bin) => [(bin >> 10) & 31, (bin >> 5) & 31, bin & 31];
  const colors = new Uint8Array(768);
  kept.forEach((bin, place) => colors.set(of(bin).map((part) => Math.round((part * 255) / 31)), place * 3));
  const nearest = new Int16Array(32768).fill(-1);
  kept.forEach((bin, place) => { nearest[bin] = place; });
  const places = Uint8Array.from(bins, (bin) => {
    if (nearest[bin] < 0) {
      const wanted = of(bin);
      let least = Infinity;
      kept.forEach((other, place) => {
        const far = of(other).reduce((sum, part, way) => sum + (part - wanted[way]) ** 2, 0);
        if (far < least) { least = far; nearest[bin] = place; }
      });
    }
    return nearest[bin];
  });
  return { colors, places };
}

/** Compress indices of 8 bits (GIF89a, appendix F) into sub-blocks. @param {Uint8Array} places */
function lzw(places) {
  /** @type {number[]} */
  const out = [];
  let bits = 0, held = 0, size = 9, next = 258;
  /** @type {Map<number, number>} */
  let known = new Map();
  const put = (/** @type {number} */ code) => {
    bits |= code << held;
    held += size;
    while (held >= 8) { out.push(bits & 255); bits >>>= 8; held -= 8; }
  };
  put(256);
  let prefix = places[0];
  for (const place of places.subarray(1)) {
    const key = (prefix << 8) | place, code = known.get(key);
    if (code !== undefined) { prefix = code; continue; }
    put(prefix);
    if (next === 4096) { put(256); known = new Map(); size = 9; next = 258; } else {
      if (next === 1 << size) size += 1;
      known.set(key, next);
      next += 1;
    }
    prefix = place;
  }
  put(prefix);
  put(257);
  if (held) out.push(bits & 255);
  const blocks = [];
  for (let at = 0; at < out.length; at += 255) {
    const block = out.slice(at, at + 255);
    blocks.push(Uint8Array.of(block.length), Uint8Array.from(block));
  }
  return joined([...blocks, Uint8Array.of(0)]);
}
