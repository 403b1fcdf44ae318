// The picture of a volume: which slice a patch lies in, and where in the patient.

/**
 * Find the tile that holds the middle of a patch, and the middle's pixel in it, as
 * `Placement.to_stack` in data/montage.py does.
 * @param {import("./types.js").Place} place
 * @param {[number, number]} grid
 * @param {number} patch
 */
export function tileAt(place, grid, patch) {
  const [top, left, bottom, right] = place.box, [down, across] = place.tiles ?? [1, 1];
  const y = (((Math.floor(patch / grid[1]) + 0.5) * place.input[0]) / grid[0] - top) / (bottom - top);
  const x = ((((patch % grid[1]) + 0.5) * place.input[1]) / grid[1] - left) / (right - left);
  const row = Math.min(Math.max(Math.floor(y * down), 0), down - 1);
  const column = Math.min(Math.max(Math.floor(x * across), 0), across - 1);
  return {
    tile: row * across + column,
    row: (y - row / down) * place.source[0] - 0.5,
    column: (x - column / across) * place.source[1] - 0.5,
  };
}

/**
 * Say which slice a patch lies in and where its middle is in the patient; empty for a plain picture.
 * @param {import("./types.js").Place | null} place
 * @param {[number, number]} grid
 * @param {number} patch
 */
export function spotWords(place, grid, patch) {
  if (!place?.slices?.length) return "";
  const { tile, row, column } = tileAt(place, grid, patch);
  const slice = place.slices[place.tiles ? tile : Math.floor(place.slices.length / 2)];
  if (!place.affine) return "";
  const [x, y, z] = place.affine.slice(0, 3).map((way) => way[0] * (slice - 1) + way[1] * row + way[2] * column + way[3]);
  const side = (/** @type {number} */ mm, /** @type {string} */ plus, /** @type {string} */ minus) => `${Math.abs(mm).toFixed(1)}\u00a0mm ${mm < 0 ? minus : plus}`;
  return ` Slice ${slice}: ${side(x, "L", "R")}, ${side(y, "P", "A")}, ${side(z, "S", "I")} of the scan's origin.`;
}

/** Name a chosen tile by its slice. @param {import("./types.js").Place | null} place @param {number} slice from 1; 0 is all */
export function sliceWords(place, slice) {
  if (!place?.tiles || !slice) return "";
  const number = place.slices?.[slice - 1];
  return number ? `slice ${number}` : `tile ${slice}`;
}
