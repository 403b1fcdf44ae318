// Bytes from text: base64, deflate, numbers; pictures; and the opening of a close look.

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
export function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place += 1) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

/** Load a picture whole. @param {string} source an address */
export async function loaded(source) {
  const picture = new Image();
  picture.src = source;
  await picture.decode();
  return picture;
}

/** @param {string} text little-endian float32 in base64 */
export function floatsOf(text) {
  return new Float32Array(bytesOf(text).buffer);
}

/** @param {string} text zlib-compressed bytes in base64 */
async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Open a close look: rows of attention become numbers, whole matrices stay in steps.
 * @param {import("./types.js").StoredClose} stored
 * @returns {Promise<import("./types.js").Close>}
 */
export async function opened(stored) {
  const { layers, heads, grid, prefix } = stored;
  const patches = grid[0] * grid[1];
  const steps = await inflated(stored.rows);
  const tops = floatsOf(stored.rowScales);
  const rows = Float32Array.from(steps, (step, place) => (step * tops[Math.floor(place / patches)]) / 255);
  const floats = (/** @type {string | null} */ text) => (text === null ? null : floatsOf(text));
  return {
    layers, heads, grid, prefix, rows,
    tokens: prefix + patches,
    matrices: stored.matrices === null ? null : await inflated(stored.matrices),
    scales: stored.scales === null ? new Float32Array(0) : floatsOf(stored.scales),
    method: stored.method,
    importance: floats(stored.importance),
    lens: floats(stored.lens),
    values: floats(stored.values),
    top: percentile(rows, 0.995),
  };
}

/** @param {Float32Array} values @param {number} share in [0, 1] */
export function percentile(values, share) {
  const sorted = values.slice().sort();
  return sorted[Math.round((sorted.length - 1) * share)];
}
