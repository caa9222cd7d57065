// Enlarge a plane of 8-bit levels with a bicubic filter, level for level as Pillow's `resize`:
// weights in 22-bit fixed point, rows first, rounded to 8 bits between the two passes.

const BITS = 22;
const HALF = 1 << (BITS - 1);

/**
 * Weights of one axis: output `i` is the sum of `count[i]` levels from `start[i]` on.
 * @typedef {{ start: Int32Array, count: Int32Array, weight: Int32Array, taps: number }} Filter
 */

/**
 * Keys' cubic with a = -0.5 ("Cubic Convolution Interpolation", 1981).
 * @param {number} x distance in source pixels
 */
function cubic(x) {
  const d = Math.abs(x);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

/**
 * Compute the weights that enlarge `length` levels to `length * scale`.
 * @param {number} length levels of the source
 * @param {number} scale 1 or more
 * @returns {Filter} the weights
 */
export function bicubic(length, scale) {
  const taps = 5;
  const size = length * scale;
  const start = new Int32Array(size);
  const count = new Int32Array(size);
  const weight = new Int32Array(size * taps);
  for (let i = 0; i < size; i++) {
    const center = (i + 0.5) / scale;
    const first = Math.max(0, Math.trunc(center - 2 + 0.5));
    const last = Math.min(length, Math.trunc(center + 2 + 0.5));
    const exact = [];
    for (let x = first; x < last; x++) exact.push(cubic(x - center + 0.5));
    const sum = exact.reduce((a, b) => a + b, 0);
    exact.forEach((value, k) => {
      const fixed = (value / sum) * (1 << BITS);
      weight[i * taps + k] = Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    });
    start[i] = first;
    count[i] = last - first;
  }
  return { start, count, weight, taps };
}

/**
 * @param {number} sum in 22-bit fixed point
 */
function level(sum) {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/**
 * Enlarge every row of a plane.
 * @param {Uint8Array} plane levels, row by row
 * @param {number} width levels of a row
 * @param {Filter} filter that of the columns
 * @returns {Uint8Array} rows of `filter.start.length` levels
 */
export function widened(plane, width, filter) {
  const { start, count, weight, taps } = filter;
  const height = plane.length / width;
  const wide = start.length;
  const result = new Uint8Array(height * wide);
  for (let y = 0, row = 0; y < height; y++, row += width) {
    for (let x = 0; x < wide; x++) {
      const from = row + start[x];
      let sum = HALF;
      for (let k = 0; k < count[x]; k++) sum += plane[from + k] * weight[x * taps + k];
      result[y * wide + x] = level(sum);
    }
  }
  return result;
}

/**
 * Compute one row of the result from the rows that `widened` returned.
 * @param {Uint8Array} rows the widened rows
 * @param {number} y row of the result
 * @param {Filter} filter that of the rows
 * @param {Uint8Array} target one row of the result
 */
export function writeRow(rows, y, filter, target) {
  const wide = target.length;
  const { start, count, weight, taps } = filter;
  const from = start[y] * wide;
  for (let x = 0; x < wide; x++) {
    let sum = HALF;
    for (let k = 0; k < count[y]; k++) sum += rows[from + k * wide + x] * weight[y * taps + k];
    target[x] = level(sum);
  }
}
