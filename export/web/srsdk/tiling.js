// Cut a picture into equal, overlapping tiles; the same spans as `srsdk/inference/tiling.py`.

import { UpscaleError } from "./errors.js";

/**
 * A tile's extent along one axis, in source pixels, and the part of it that is kept.
 * @typedef {{ start: number, stop: number, keepStart: number, keepStop: number }} Span
 */

/** Largest tile area for `tile: "auto"`, in input pixels; that of Python's first choice. */
export const TILE_BUDGET_PX = 512 * 512;

/**
 * Cover `length` pixels with windows of exactly `tile`; the last one is shifted back.
 * @param {number} length pixels of the picture along this axis
 * @param {number} tile pixels of the window
 * @param {number} halo pixels that are cut off at inner borders: the receptive-field radius
 * @param {number} [multiple] every start is a multiple of this, if length and tile are
 * @returns {Span[]} in order
 */
export function spans(length, tile, halo, multiple = 1) {
  if (length <= tile) return [{ start: 0, stop: length, keepStart: 0, keepStop: length }];
  const core = Math.floor((tile - 2 * halo) / multiple) * multiple;
  if (core < 1) {
    throw new UpscaleError(
      "usage",
      `a tile of ${tile} px is too small: this model needs ${halo} px of overlap on each side, ` +
        `so at least ${2 * halo + multiple} px`,
    );
  }
  const count = Math.ceil((length - tile) / core) + 1;
  const starts = Array.from({ length: count }, (_, i) => Math.min(i * core, length - tile));
  const edges = [0, ...starts.slice(0, -1).map((start) => start + tile - halo), length];
  return starts.map((start, i) => ({
    start,
    stop: start + tile,
    keepStart: edges[i],
    keepStop: edges[i + 1],
  }));
}

/**
 * Choose the tile that computes the fewest pixels, with at most `budget` of them.
 * @param {number} height pixels of the picture
 * @param {number} width pixels of the picture
 * @param {number} halo receptive-field radius in pixels
 * @param {number} budget pixels of a tile at most
 * @param {number} [multiple] of which the tile's sides are multiples, if the picture's are
 * @returns {[number, number]} (height, width)
 */
export function balancedTile(height, width, halo, budget, multiple = 1) {
  if (height * width <= budget) return [height, width];
  const smallest = Math.ceil((2 * halo) / multiple) * multiple + multiple;
  /** @type {number[][]} */
  const choices = [];
  for (let rows = 1; rows <= height; rows++) {
    const tileHeight = share(height, rows, halo, multiple);
    const fitting = Math.floor(Math.floor(budget / tileHeight) / multiple) * multiple;
    const widest = Math.max(fitting, smallest);
    const columns = spans(width, widest, halo, multiple).length;
    const tileWidth = Math.min(share(width, columns, halo, multiple), widest);
    const cost = rows * tileHeight * columns * tileWidth;
    choices.push([tileHeight * tileWidth > budget ? 1 : 0, cost, tileHeight, tileWidth]);
    if (tileHeight <= smallest) break;
  }
  const best = choices.reduce((a, b) => (isBefore(b, a) ? b : a));
  return [best[2], best[3]];
}

/**
 * Return the smallest tile with which `count` tiles cover `length`.
 * @param {number} length
 * @param {number} count
 * @param {number} halo
 * @param {number} multiple
 */
function share(length, count, halo, multiple) {
  if (count === 1) return length;
  const core = Math.ceil((length - 2 * halo) / count);
  const tile = Math.ceil(core / multiple) * multiple + 2 * halo;
  return Math.min(length, Math.ceil(tile / multiple) * multiple);
}

/**
 * Compare two lists of numbers as Python compares tuples.
 * @param {number[]} a
 * @param {number[]} b
 */
function isBefore(a, b) {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at] < b[at];
}

/**
 * Return where a mirrored picture has its pixel: NumPy's `pad(mode="reflect")`, without the edge.
 * @param {number} index 0 or more
 * @param {number} length pixels of the picture
 * @returns {number} 0 to length - 1
 */
export function mirrored(index, length) {
  if (index < length) return index;
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const at = index % period;
  return at < length ? at : period - at;
}
