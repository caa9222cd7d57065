// One picture through one network: tiles, luma and chroma, transparency, progress and abort.

import { filled, isConstant, setAlpha } from "./alpha.js";
import { UpscaleError } from "./errors.js";
import { bicubic, widened, writeRow } from "./resample.js";
import { TILE_BUDGET_PX, balancedTile, mirrored, spans } from "./tiling.js";
import { chroma, luma, rowToRgb } from "./ycbcr.js";

/** @typedef {import("./alpha.js").Picture} Picture */
/** @typedef {import("./manifest.js").Manifest} Manifest */
/** @typedef {import("./tiling.js").Span} Span */
/** @typedef {(levels: Uint8Array, height: number, width: number) => Promise<Uint8Array>} Run */
/** @typedef {"auto" | number | [number, number]} Tile */

/**
 * How one picture is enlarged.
 * @typedef {object} Options
 * @property {Tile} [tile] side, or (height, width), of a tile in input pixels; `auto`: as in Python
 * @property {(done: number, total: number) => void} [onProgress] called after each tile
 * @property {() => Promise<void>} [between] awaited between tiles; throws to stop
 */

/**
 * The tiles of one picture: their size, and where they lie.
 * @typedef {{ height: number, width: number, rows: Span[], columns: Span[] }} Plan
 */

/**
 * Plan the tiles of a picture.
 * @param {Manifest} manifest of the model
 * @param {number} height pixels
 * @param {number} width pixels
 * @param {Tile} [tile] see `Options`
 * @returns {Plan} size of the model's input, and the spans; those at the end may be mirrored
 */
export function plan(manifest, height, width, tile = "auto") {
  const { radius_px: halo, multiple_px: multiple, size_px: only } = manifest;
  const up = (/** @type {number} */ side) => Math.ceil(side / multiple) * multiple;
  const padded = [up(height), up(width)];
  const asked = tileSize(manifest, tile);
  let size = only ?? asked?.map(up);
  if (!size) size = balancedTile(padded[0], padded[1], halo, TILE_BUDGET_PX, multiple);
  const inside = size.map((side, i) => Math.min(side, padded[i]));
  return {
    height: only ? only[0] : inside[0],
    width: only ? only[1] : inside[1],
    rows: spans(padded[0], inside[0], halo, multiple),
    columns: spans(padded[1], inside[1], halo, multiple),
  };
}

/**
 * Check a tile's size before any work.
 * @param {Manifest} manifest
 * @param {Tile} tile
 * @returns {number[] | null} (height, width); null: automatic
 */
function tileSize(manifest, tile) {
  if (tile === "auto") return null;
  const pair = typeof tile === "number" ? [tile, tile] : tile;
  const { radius_px, multiple_px, size_px, name } = manifest;
  if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((n) => Number.isInteger(n) && n > 0)) {
    throw new UpscaleError(
      "usage",
      `tile is ${JSON.stringify(tile)}, expected pixels, [height, width] or "auto"`,
    );
  }
  if (size_px && String(pair) !== String(size_px)) {
    throw new UpscaleError("usage", `tile is ${pair}, but ${name} accepts ${size_px} only`);
  }
  const smallest = 2 * radius_px + multiple_px;
  if (Math.min(...pair) < smallest) {
    throw new UpscaleError(
      "usage",
      `a tile of ${Math.min(...pair)} px is too small: ${name} needs ${radius_px} px of overlap ` +
        `on each side, so at least ${smallest} px`,
    );
  }
  return pair;
}

/**
 * Enlarge a picture.
 * @param {Run} run the network
 * @param {Manifest} manifest of the network
 * @param {Picture} picture RGBA, not premultiplied; not changed
 * @param {Options} [options] tiles, progress, abort
 * @returns {Promise<Picture>} a new picture with `scale` times the sides
 */
export async function enlarge(run, manifest, picture, options = {}) {
  const tiles = plan(manifest, picture.height, picture.width, options.tile);
  const opaque = isConstant(picture);
  const passes = opaque || manifest.scale === 1 ? 1 : 2;
  const total = passes * tiles.rows.length * tiles.columns.length;
  let done = 0;
  const report = () => options.onProgress?.(++done, total);
  const color = (/** @type {Picture} */ source) =>
    enlargeColor(run, manifest, source, tiles, report, options.between);
  const result = await color(opaque ? picture : filled(picture));
  if (opaque) {
    fillAlpha(result.data, picture.data[3]);
    return result;
  }
  // a model of scale 1 restores color and leaves alpha as it is
  const large = manifest.scale === 1 ? alphaAsGray(picture) : await color(alphaAsGray(picture));
  setAlpha(large.data, picture, result);
  return result;
}

/**
 * @param {Uint8ClampedArray} rgba
 * @param {number} level
 */
function fillAlpha(rgba, level) {
  for (let at = 3; at < rgba.length; at += 4) rgba[at] = level;
}

/**
 * Return alpha as the three channels of a picture.
 * @param {Picture} picture
 * @returns {Picture}
 */
function alphaAsGray({ data, width, height }) {
  const gray = new Uint8ClampedArray(data.length);
  for (let at = 0; at < data.length; at += 4) gray.fill(data[at + 3], at, at + 4);
  return { data: gray, width, height };
}

/**
 * Enlarge red, green and blue; alpha of the result is 255 or undefined.
 * @param {Run} run
 * @param {Manifest} manifest
 * @param {Picture} picture
 * @param {Plan} tiles
 * @param {() => void} report
 * @param {() => Promise<void>} [between]
 * @returns {Promise<Picture>}
 */
async function enlargeColor(run, manifest, picture, tiles, report, between) {
  const { scale, channels } = manifest;
  const result = newPicture(picture.width * scale, picture.height * scale);
  for (const row of tiles.rows) {
    for (const column of tiles.columns) {
      await between?.();
      const levels = cut(picture, row.start, column.start, tiles, channels);
      const large = await run(levels, tiles.height, tiles.width);
      paste(large, row, column, tiles.width * scale, scale, channels, result);
      report();
    }
  }
  if (channels === 1) addChroma(picture, scale, result);
  return result;
}

/**
 * Allocate a result.
 * @param {number} width
 * @param {number} height
 * @returns {Picture}
 */
function newPicture(width, height) {
  try {
    return { data: new Uint8ClampedArray(width * height * 4), width, height };
  } catch (error) {
    throw new UpscaleError(
      "picture",
      `the ${width}x${height} result needs ${width * height * 4} bytes of memory, which are not ` +
        "available: enlarge a smaller picture",
      error,
    );
  }
}

/**
 * Copy a tile's levels, mirrored beyond the picture's end.
 * @param {Picture} picture
 * @param {number} top
 * @param {number} left
 * @param {{ height: number, width: number }} size
 * @param {number} channels
 * @returns {Uint8Array} (height, width, channels)
 */
function cut(picture, top, left, size, channels) {
  const { data, width, height } = picture;
  const levels = new Uint8Array(size.height * size.width * channels);
  const columns = Int32Array.from({ length: size.width }, (_, x) => 4 * mirrored(left + x, width));
  let to = 0;
  for (let y = 0; y < size.height; y++) {
    const row = 4 * mirrored(top + y, height) * width;
    for (const column of columns) {
      const at = row + column;
      if (channels === 1) levels[to++] = luma(data[at], data[at + 1], data[at + 2]);
      else {
        levels[to++] = data[at];
        levels[to++] = data[at + 1];
        levels[to++] = data[at + 2];
      }
    }
  }
  return levels;
}

/**
 * Copy the kept part of an enlarged tile into the result; luma into its red channel.
 * @param {Uint8Array} large levels of the tile
 * @param {Span} row
 * @param {Span} column
 * @param {number} wide pixels of a row of `large`
 * @param {number} scale
 * @param {number} channels
 * @param {Picture} result
 */
function paste(large, row, column, wide, scale, channels, result) {
  const bottom = Math.min(row.keepStop * scale, result.height);
  const right = Math.min(column.keepStop * scale, result.width);
  for (let y = row.keepStart * scale; y < bottom; y++) {
    let from = ((y - row.start * scale) * wide + (column.keepStart - column.start) * scale) * channels;
    let to = 4 * (y * result.width + column.keepStart * scale);
    for (let x = column.keepStart * scale; x < right; x++, to += 4) {
      for (let c = 0; c < channels; c++) result.data[to + c] = large[from++];
      result.data[to + 3] = 255;
    }
  }
}

/**
 * Turn enlarged luma, in the red channel of the result, into RGB; chroma is enlarged bicubically.
 * @param {Picture} picture the source
 * @param {number} scale
 * @param {Picture} result changed in place
 */
function addChroma(picture, scale, result) {
  const columns = bicubic(picture.width, scale);
  const rows = bicubic(picture.height, scale);
  const planes = chroma(picture.data);
  const cbRows = widened(planes.cb, picture.width, columns);
  const crRows = widened(planes.cr, picture.width, columns);
  const cb = new Uint8Array(result.width);
  const cr = new Uint8Array(result.width);
  for (let y = 0; y < result.height; y++) {
    writeRow(cbRows, y, rows, cb);
    writeRow(crRows, y, rows, cr);
    rowToRgb(result.data.subarray(4 * y * result.width, 4 * (y + 1) * result.width), cb, cr);
  }
}
