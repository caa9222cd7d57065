// The same levels and tiles as in Python, from values that Python wrote (`tests/export/web/values.py`).

import { readFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { filled, isConstant, setAlpha } from "../srsdk/alpha.js";
import { agreement, probePicture } from "../srsdk/probe.js";
import { bicubic, widened, writeRow } from "../srsdk/resample.js";
import { balancedTile, mirrored, spans } from "../srsdk/tiling.js";
import { chroma, luma, rowToRgb } from "../srsdk/ycbcr.js";

/**
 * @typedef {object} Values
 * @property {[number[], number[][]][]} spans
 * @property {[number[], number[]][]} tiles
 * @property {[number, number[]][]} mirrored
 * @property {{ triples: number[], to_ycbcr: number[], to_rgb: number[] }} colors
 * @property {{ scale: number, plane: number[], width: number, large: number[] }[]} resized
 * @property {{ height: number, width: number } & Record<"rgba" | "filled" | "large" | "clamped", number[]>} alpha
 * @property {{ picture: number[], probe: import("../srsdk/manifest.js").Probe }} probe
 */

/** @type {Values} */
const python = JSON.parse(readFileSync(new URL("python.json", import.meta.url), "utf8"));

/**
 * @param {number[]} triples
 * @returns {Uint8ClampedArray}
 */
function rgba(triples) {
  return Uint8ClampedArray.from({ length: (triples.length / 3) * 4 }, (_, i) =>
    i % 4 === 3 ? 255 : triples[Math.floor(i / 4) * 3 + (i % 4)],
  );
}

/**
 * @param {Uint8ClampedArray} pixels
 * @returns {number[]} without alpha
 */
function rgb(pixels) {
  return Array.from(pixels).filter((_, i) => i % 4 !== 3);
}

describe("tiles", () => {
  test.each(python.spans)("spans of %j", (args, expected) => {
    const [length, tile, halo, multiple] = args;
    const found = spans(length, tile, halo, multiple);
    expect(found.map((s) => [s.start, s.stop, s.keepStart, s.keepStop])).toEqual(expected);
  });

  test.each(python.tiles)("tile of %j", (args, expected) => {
    const [height, width, halo, budget, multiple] = args;
    expect(balancedTile(height, width, halo, budget, multiple)).toEqual(expected);
  });

  test("a tile that keeps no pixel is an error with the smallest size", () => {
    expect(() => spans(100, 20, 10)).toThrow("at least 21 px");
  });

  test.each(python.mirrored)("%i px mirrored", (length, expected) => {
    expect(expected.map((_, i) => mirrored(i, length))).toEqual(expected);
  });
});

describe("colors", () => {
  const { triples, to_ycbcr, to_rgb } = python.colors;

  test("RGB to YCbCr", () => {
    const pixels = rgba(triples);
    const { cb, cr } = chroma(pixels);
    const found = Array.from(cb).flatMap((level, i) => [
      luma(pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]),
      level,
      cr[i],
    ]);
    expect(found).toEqual(to_ycbcr);
  });

  test("YCbCr to RGB", () => {
    const pixels = rgba(triples);
    const plane = (/** @type {number} */ c) =>
      Uint8Array.from({ length: pixels.length / 4 }, (_, i) => pixels[4 * i + c]);
    rowToRgb(pixels, plane(1), plane(2));
    expect(rgb(pixels)).toEqual(to_rgb);
  });

  test.each(python.resized)("bicubic x$scale", ({ scale, plane, width, large }) => {
    const rows = widened(Uint8Array.from(plane), width, bicubic(width, scale));
    const filter = bicubic(plane.length / width, scale);
    const row = new Uint8Array(width * scale);
    const found = Array.from({ length: filter.start.length }, (_, y) => {
      writeRow(rows, y, filter, row);
      return Array.from(row);
    });
    expect(found.flat()).toEqual(large);
  });
});

describe("alpha", () => {
  const { height, width, rgba: source, filled: colors, large, clamped } = python.alpha;
  const picture = { data: Uint8ClampedArray.from(source), width, height };

  test("transparent pixels get the colors around them", () => {
    expect(rgb(filled(picture).data)).toEqual(colors);
    expect(isConstant(picture)).toBe(false);
  });

  test("enlarged alpha stays between its source pixels", () => {
    const gray = rgba(large.flatMap((level) => [level, level, level]));
    const result = { data: new Uint8ClampedArray(gray.length), width: 2 * width, height: 2 * height };
    setAlpha(gray, picture, result);
    expect(Array.from(result.data).filter((_, i) => i % 4 === 3)).toEqual(clamped);
  });

  test("a picture without a visible pixel stays as it is", () => {
    const data = Uint8ClampedArray.from([1, 2, 3, 0, 4, 5, 6, 0]);
    expect(Array.from(filled({ data, width: 2, height: 1 }).data)).toEqual(Array.from(data));
    expect(isConstant({ data, width: 2, height: 1 })).toBe(true);
  });
});

test("the self-test's picture and its samples", () => {
  const drawn = probePicture(9, 11, 3);
  expect(Array.from(drawn)).toEqual(python.probe.picture);
  expect(agreement(drawn, python.probe.probe)).toEqual({ psnr_db: 99, max_lsb: 0 });
  drawn.fill(0);
  expect(agreement(drawn, python.probe.probe).psnr_db).toBeLessThan(10);
});
