// The shapes that the viewer's modules share; nothing here runs.

/**
 * What one model said of a case.
 * @typedef {{model: string, decision: string, right: boolean, trainings: number,
 *   probabilities: Object<string, number>}} Said
 *
 * A map as the record has it: raw float32 values, row by row, in base64.
 * @typedef {{grid: [number, number], values: string, facts?: [string, string][],
 *   fails?: string[], signed?: boolean, specific?: boolean}} StoredMap
 *
 * Where a picture lies in the model's input: (top, left, bottom, right) of `input` px.
 * @typedef {{box: [number, number, number, number], input: [number, number],
 *   source: [number, number], tiles?: [number, number], slices?: number[], affine?: number[][]}} Place
 * A volume's picture shows `slices` (from 1) as `tiles`; `affine` takes (slice from 0, tile row,
 * tile column, 1) to mm in the patient (LPS).
 *
 * @typedef {{id: string, truth: string, right: boolean, said: Said[], place: Place | null,
 *   maps: Object<string, StoredMap>, mask?: boolean, note?: string,
 *   similar: {id: string, distance: number, label: string, picture?: string}[], warning?: string}} Case
 *
 * A method; `largest` is the top of the color scale that all maps of the run share.
 * @typedef {{name: string, specific: boolean, signed: boolean, largest: number, count: number,
 *   target: string}} Method
 *
 * @typedef {{probability: number, frequency: number | null, low: number | null,
 *   high: number | null, n: number}} Bin
 *
 * A run; `thresholds` holds, by model, the probability (as trained) from which it decides for `positive`.
 * @typedef {{classes: string[], positive: string | null, temperature: number | null, thresholds: Record<string, number>,
 *   calibration: Bin[], palettes: Object<string, [number, number, number][]>, methods: Method[],
 *   cases: Case[], among: string, thumbnails: Object<string, string>, mostBytes?: number,
 *   scans?: boolean, allowUrl?: boolean, report?: boolean}} Run
 *
 * A close look as it is sent: see `close_json` in report/payload.py.
 * @typedef {{layers: number, heads: number, grid: [number, number], prefix: number, rows: string,
 *   rowScales: string, matrices: string | null, scales: string | null, method: string,
 *   importance: string | null, lens: string | null, values: string | null}} StoredClose
 *
 * A close look, opened. `rows` [layer head patch], `matrices` [layer head query key].
 * @typedef {{layers: number, heads: number, grid: [number, number], prefix: number,
 *   tokens: number, rows: Float32Array, matrices: Uint8Array | null, scales: Float32Array,
 *   method: string, importance: Float32Array | null, lens: Float32Array | null,
 *   values: Float32Array | null, top: number}} Close
 *
 * What a pane shows: raw values on the patch grid and how they become colors.
 * @typedef {{values: Float32Array, grid: [number, number], signed: boolean, top: number,
 *   bottom: number, name: string, scale: string, specific: boolean, even: boolean}} View
 *
 * Where the viewer gets a case's parts from: the page itself, or a server.
 * @typedef {{run: Run, picture: (index: number) => Promise<HTMLImageElement>,
 *   outline: (index: number) => Promise<HTMLImageElement | null>,
 *   detail: (index: number) => Promise<Case>,
 *   close: (index: number) => Promise<StoredClose | null>}} Source
 */

export {};
