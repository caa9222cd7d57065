// Transparency without color fringes, as `srsdk/image/alpha.py` does it.

/** How far colors spread into transparent parts, in pixels. */
const FILL_REACH_PX = 24;
const NEIGHBORS = [-1, 0, 1].flatMap((dy) => [-1, 0, 1].map((dx) => [dy, dx])).filter(([y, x]) => y || x);

/**
 * A picture as `ImageData` holds it: RGBA, not premultiplied, row by row.
 * @typedef {{ data: Uint8ClampedArray, width: number, height: number }} Picture
 */

/**
 * Return whether alpha has a single value.
 * @param {Picture} picture the picture
 * @returns {boolean} true for opaque pictures
 */
export function isConstant({ data }) {
  for (let at = 7; at < data.length; at += 4) if (data[at] !== data[3]) return false;
  return true;
}

/**
 * Give transparent pixels the colors of the visible pixels around them, ring by ring.
 * @param {Picture} picture the picture; not changed
 * @returns {Picture} a picture of the same size whose alpha has no meaning
 */
export function filled({ data, width, height }) {
  const color = data.slice();
  const weight = new Float32Array(width * height);
  const known = new Uint8Array(width * height);
  for (let i = 0; i < known.length; i++) {
    weight[i] = data[4 * i + 3];
    known[i] = weight[i] > 0 ? 1 : 0;
  }
  let edge = unknownBeside(known.keys(), known, width, height);
  for (let ring = 0; ring < FILL_REACH_PX && edge.length; ring++) {
    const means = edge.map((at) => mean(at, color, weight, known, width, height));
    edge.forEach((at, i) => {
      const [rgb, share] = means[i];
      color.set(rgb, 4 * at);
      weight[at] = share;
      known[at] = 1;
    });
    edge = unknownBeside(edge, known, width, height);
  }
  return { data: color, width, height };
}

/**
 * List the unknown pixels that touch a known one of those given, in any of eight directions.
 * @param {Iterable<number>} from pixels
 * @param {Uint8Array} known
 * @param {number} width
 * @param {number} height
 * @returns {number[]} each once
 */
function unknownBeside(from, known, width, height) {
  /** @type {Set<number>} */
  const found = new Set();
  for (const at of from) {
    if (!known[at] || isInside(at, known, width, height)) continue;
    for (const other of around(at, width, height)) if (!known[other]) found.add(other);
  }
  return [...found];
}

/**
 * Return whether a pixel's neighbors are certainly known, without listing them.
 * @param {number} at
 * @param {Uint8Array} known
 * @param {number} width
 * @param {number} height
 */
function isInside(at, known, width, height) {
  const column = at % width;
  if (column === 0 || column === width - 1 || at < width || at >= width * (height - 1)) return false;
  const above = at - width;
  const below = at + width;
  return Boolean(
    known[above - 1] & known[above] & known[above + 1] & known[at - 1] & known[at + 1] &
    known[below - 1] & known[below] & known[below + 1],
  );
}

/**
 * List the pixels beside one, in the order of NEIGHBORS.
 * @param {number} at
 * @param {number} width
 * @param {number} height
 */
function around(at, width, height) {
  const row = Math.floor(at / width);
  const column = at % width;
  return NEIGHBORS.map(([dy, dx]) => [row + dy, column + dx])
    .filter(([y, x]) => y >= 0 && y < height && x >= 0 && x < width)
    .map(([y, x]) => y * width + x);
}

/**
 * Return the mean color around a pixel, weighted by alpha, and the mean of the weights.
 * @param {number} at
 * @param {Uint8ClampedArray} color
 * @param {Float32Array} weight
 * @param {Uint8Array} known
 * @param {number} width
 * @param {number} height
 * @returns {[number[], number]}
 */
function mean(at, color, weight, known, width, height) {
  // in float32, as NumPy sums them
  const sums = new Float32Array(4);
  let count = 0;
  for (const other of around(at, width, height)) {
    if (!known[other]) continue;
    count++;
    sums[3] += weight[other];
    for (let c = 0; c < 3; c++) sums[c] += Math.fround(weight[other] * color[4 * other + c]);
  }
  const rgb = [0, 1, 2].map((c) => roundHalfEven(Math.fround(sums[c] / sums[3])));
  return [rgb, Math.fround(sums[3] / count)];
}

/**
 * @param {number} value 0 or more
 */
function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return below + (rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? 1 : 0);
}

/**
 * Write an enlarged alpha into a result, each level clamped to the four source pixels around it.
 * @param {Uint8ClampedArray} large RGBA of alpha, enlarged as a gray picture
 * @param {Picture} source the picture before
 * @param {Picture} result the enlarged picture, whose alpha is set
 */
export function setAlpha(large, source, result) {
  const scale = result.height / source.height;
  const [left, right] = sides(result.width, scale, source.width);
  const [top, bottom] = sides(result.height, scale, source.height);
  const alpha = (/** @type {number} */ at) => source.data[4 * at + 3];
  for (let y = 0, at = 0; y < result.height; y++) {
    const [above, below] = [top[y] * source.width, bottom[y] * source.width];
    for (let x = 0; x < result.width; x++, at += 4) {
      const a = alpha(above + left[x]);
      const b = alpha(above + right[x]);
      const c = alpha(below + left[x]);
      const d = alpha(below + right[x]);
      const level = Math.floor((large[at] + large[at + 1] + large[at + 2] + 1) / 3);
      result.data[at + 3] = Math.min(Math.max(level, Math.min(a, b, c, d)), Math.max(a, b, c, d));
    }
  }
}

/**
 * Return the source pixels on both sides of every pixel of the result, along one axis.
 * @param {number} size
 * @param {number} scale
 * @param {number} length
 * @returns {[Int32Array, Int32Array]}
 */
function sides(size, scale, length) {
  const after = Int32Array.from({ length: size }, (_, i) => Math.trunc((i + 0.5) / scale + 0.5));
  return [after.map((i) => Math.max(0, i - 1)), after.map((i) => Math.min(length - 1, i))];
}
