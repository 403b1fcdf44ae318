// Numbers on the patch grid: laying them over a picture, thresholds, rows and columns of attention.

/** @typedef {{low: Int32Array, high: Int32Array, weight: Float32Array, near: Int32Array}} Axis */

/**
 * Place the centers of shown pixels between the cells of the grid, as `register` in
 * report/pictures.py does: cell k covers [k, k + 1), values stand in the middle of their cells.
 * @param {number} count shown pixels
 * @param {[number, number]} ends where the picture lies in the input, px
 * @param {number} inputPx
 * @param {number} cells
 * @returns {Axis}
 */
export function axis(count, ends, inputPx, cells) {
  const made = {
    low: new Int32Array(count), high: new Int32Array(count),
    weight: new Float32Array(count), near: new Int32Array(count),
  };
  for (let pixel = 0; pixel < count; pixel += 1) {
    const at = ((ends[0] + ((pixel + 0.5) / count) * (ends[1] - ends[0])) * cells) / inputPx;
    const center = Math.min(Math.max(at - 0.5, 0), cells - 1);
    made.low[pixel] = Math.floor(center);
    made.high[pixel] = Math.min(made.low[pixel] + 1, cells - 1);
    made.weight[pixel] = center - made.low[pixel];
    made.near[pixel] = Math.min(Math.max(Math.floor(at), 0), cells - 1);
  }
  return made;
}

/**
 * Stretch a map over its picture.
 * @param {Float32Array} values row by row
 * @param {number} columns of the grid
 * @param {Axis} down
 * @param {Axis} across
 * @param {boolean} patches whether to repeat each patch's value instead of interpolating
 */
export function stretched(values, columns, down, across, patches) {
  const width = across.low.length;
  const laid = new Float32Array(down.low.length * width);
  for (let y = 0; y < down.low.length; y += 1) {
    const near = down.near[y] * columns, low = down.low[y] * columns, high = down.high[y] * columns;
    const below = down.weight[y], above = 1 - below;
    for (let x = 0; x < width; x += 1) {
      if (patches) { laid[y * width + x] = values[near + across.near[x]]; continue; }
      const left = across.low[x], right = across.high[x], share = across.weight[x];
      laid[y * width + x] =
        above * ((1 - share) * values[low + left] + share * values[low + right]) +
        below * ((1 - share) * values[high + left] + share * values[high + right]);
    }
  }
  return laid;
}

/**
 * Find the smallest value that belongs to the patches holding a share of the map's mass.
 * @param {Float32Array} values signed ones count by their size
 * @param {number} share in [0, 1]
 */
export function massThreshold(values, share) {
  if (share >= 1) return 0;
  const sizes = Float32Array.from(values, Math.abs).sort().reverse();
  const total = sizes.reduce((sum, one) => sum + one, 0);
  let kept = 0;
  for (const size of sizes) {
    kept += size;
    if (kept >= share * total) return size;
  }
  return 0;
}

/**
 * Read where a token attends, or who attends to it, as one value a patch.
 * @param {import("./types.js").Close} close with whole matrices
 * @param {number} layer
 * @param {number} head -1 is the mean over heads
 * @param {number} patch
 * @param {boolean} who
 */
export function attended(close, layer, head, patch, who) {
  const { tokens, prefix, scales } = close;
  const matrices = /** @type {Uint8Array} */ (close.matrices);
  const found = new Float32Array(tokens - prefix);
  const heads = head < 0 ? [...Array(close.heads).keys()] : [head];
  const token = prefix + patch;
  for (const one of heads) {
    const first = (layer * close.heads + one) * tokens;
    for (let place = 0; place < found.length; place += 1) {
      const query = who ? prefix + place : token;
      const key = who ? token : prefix + place;
      found[place] += (matrices[(first + query) * tokens + key] * scales[first + query]) / 255 / heads.length;
    }
  }
  return found;
}

/**
 * Read the read-out row, which the answer is read from.
 * @param {import("./types.js").Close} close
 * @param {number} layer
 * @param {number} head -1 is the mean over heads
 */
export function readOut(close, layer, head) {
  const patches = close.grid[0] * close.grid[1];
  const found = new Float32Array(patches);
  const heads = head < 0 ? [...Array(close.heads).keys()] : [head];
  for (const one of heads) {
    const first = (layer * close.heads + one) * patches;
    for (let place = 0; place < patches; place += 1) found[place] += close.rows[first + place] / heads.length;
  }
  return found;
}

/**
 * Average maps.
 * @param {Float32Array[]} maps of one size
 */
export function mean(maps) {
  return maps[0].map((_, place) => maps.reduce((sum, one) => sum + one[place], 0) / maps.length);
}

/**
 * Describe every head: the mean entropy of its rows (bits), and the mean distance over which its
 * patches attend (in patches; dosovitskiy2021image, figure 7).
 * @param {import("./types.js").Close} close
 * @returns {{entropy: Float32Array, distance: Float32Array}}
 */
export function headFacts(close) {
  const count = close.layers * close.heads;
  const facts = { entropy: new Float32Array(count), distance: new Float32Array(count).fill(NaN) };
  const patches = close.grid[0] * close.grid[1];
  for (let one = 0; one < count; one += 1) {
    if (close.matrices === null) facts.entropy[one] = entropy(close.rows.subarray(one * patches, (one + 1) * patches));
    else wholeHead(close, one, facts);
  }
  return facts;
}

/** @param {import("./types.js").Close} close @param {number} one @param {{entropy: Float32Array, distance: Float32Array}} facts */
function wholeHead(close, one, facts) {
  const { tokens, prefix, grid } = close;
  const matrices = /** @type {Uint8Array} */ (close.matrices);
  let bits = 0, far = 0;
  for (let query = 0; query < tokens; query += 1) {
    const row = matrices.subarray((one * tokens + query) * tokens, (one * tokens + query + 1) * tokens);
    bits += entropy(row);
    if (query < prefix) continue;
    const y = Math.floor((query - prefix) / grid[1]), x = (query - prefix) % grid[1];
    let mass = 0, path = 0;
    for (let key = prefix; key < tokens; key += 1) {
      if (!row[key]) continue;
      const down = Math.floor((key - prefix) / grid[1]) - y, right = ((key - prefix) % grid[1]) - x;
      mass += row[key];
      path += row[key] * Math.sqrt(down * down + right * right);
    }
    far += mass ? path / mass : 0;
  }
  facts.entropy[one] = bits / tokens;
  facts.distance[one] = far / (tokens - prefix);
}

/** @param {ArrayLike<number>} row of any positive sum; in bits */
export function entropy(row) {
  let total = 0, sum = 0;
  for (let place = 0; place < row.length; place += 1) {
    const value = row[place];
    if (value <= 0) continue;
    total += value;
    sum += value * Math.log2(value);
  }
  return total > 0 ? Math.log2(total) - sum / total : 0;
}
