// What a value looks like: 256 colors of each scale, made from the anchors of vitrail/color.py.

/**
 * @param {[number, number, number][]} anchors evenly spaced over [0, 1]
 * @returns {Uint8ClampedArray} 256 times red, green, blue
 */
export function palette(anchors) {
  const colors = new Uint8ClampedArray(256 * 3);
  for (let step = 0; step < 256; step += 1) {
    const at = (step / 255) * (anchors.length - 1);
    const low = Math.min(Math.floor(at), anchors.length - 2), share = at - low;
    for (let channel = 0; channel < 3; channel += 1) {
      colors[step * 3 + channel] = Math.round((1 - share) * anchors[low][channel] + share * anchors[low + 1][channel]);
    }
  }
  return colors;
}

/**
 * Turn a value into its place on a scale: 0 to 1, the middle is zero where signed.
 * @param {number} value
 * @param {number} top value at the upper end
 * @param {boolean} signed
 */
export function fraction(value, top, signed) {
  const scaled = value / (top > 0 ? top : 1);
  return Math.min(Math.max(signed ? scaled / 2 + 0.5 : scaled, 0), 1);
}

/**
 * Write a number of any size in three digits.
 * @param {number} value
 */
export function small(value) {
  if (!Number.isFinite(value)) return "–";
  return value === 0 ? "0" : String(Number(value.toPrecision(3))).replace("-", "\u2212");
}
