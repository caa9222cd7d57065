// Which model is opened, and what is said of a folder or an option that is wrong.

import { describe, expect, test } from "vitest";

import { enlarge, plan } from "../srsdk/enlarge.js";
import { UpscaleError } from "../srsdk/errors.js";
import { checkBytes, checkManifest, chooseForm, chooseModel } from "../srsdk/manifest.js";

/** @type {import("../srsdk/manifest.js").Manifest} */
const MANIFEST = {
  name: "toy",
  file: "toy.onnx",
  bytes: 3,
  sha256: "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81",
  scale: 2,
  channels: 3,
  dtype: "uint8",
  layout: "NHWC",
  radius_px: 1,
  multiple_px: 1,
  size_px: null,
  precision: "fp32",
  probe: null,
  licence: "",
};
const INDEX = {
  default: "b",
  realtime: "a",
  models: [
    { name: "a", scale: 2, forms: { fp32: "a", int8: "a.int8" } },
    { name: "b", scale: 2, forms: { fp32: "b" } },
    { name: "c", scale: 4, forms: { int8: "c" } },
  ],
};

describe("choice", () => {
  test("by name, by scale, or the default", () => {
    expect(chooseModel(INDEX, {}).name).toBe("b");
    expect(chooseModel(INDEX, { model: "a", scale: 2 }).name).toBe("a");
    expect(chooseModel(INDEX, { scale: 2 }).name).toBe("b");
    expect(chooseModel(INDEX, { scale: 4 }).name).toBe("c");
  });

  test("what there is not lists what there is", () => {
    expect(() => chooseModel(INDEX, { model: "d" })).toThrow('model is "d", expected one of a (x2), b');
    expect(() => chooseModel(INDEX, { model: "a", scale: 3 })).toThrow("scale is 3");
  });

  test("the form follows the backend", () => {
    const [a, b, c] = INDEX.models;
    expect(chooseForm(a, "auto", "wasm")).toBe("a.int8");
    expect(chooseForm(a, "auto", "webgpu")).toBe("a");
    expect(chooseForm(a, "fp32", "wasm")).toBe("a");
    expect(chooseForm(b, "auto", "wasm")).toBe("b");
    expect(() => chooseForm(b, "int8", "wasm")).toThrow("b is there as fp32 only");
    expect(() => chooseForm(c, "auto", "webgpu")).toThrow("c has no fp32 file");
  });
});

describe("files", () => {
  test.each([
    [{ scale: 0 }, "scale is 0"],
    [{ channels: 4 }, "channels is 4, expected 1 or 3"],
    [{ dtype: "float32" }, 'dtype is "float32"'],
    [{ layout: "NCHW" }, "NHWC"],
    [{ radius_px: -1 }, "radius_px is -1"],
    [{ scale: 17 }, "at most 16"],
  ])("a manifest with %j is refused", (wrong, message) => {
    expect(() => checkManifest({ ...MANIFEST, ...wrong }, "x.json")).toThrow(message);
  });

  test("damaged bytes are found", async () => {
    await checkBytes(Uint8Array.of(1, 2, 3).buffer, MANIFEST, "toy.onnx");
    const changed = Uint8Array.of(1, 2, 4).buffer;
    await expect(checkBytes(changed, MANIFEST, "toy.onnx")).rejects.toThrow("its SHA-256 is");
    const short = Uint8Array.of(1).buffer;
    await expect(checkBytes(short, MANIFEST, "toy.onnx")).rejects.toThrow("got 1 bytes, expected 3");
  });
});

/**
 * Repeat each pixel; counts its calls and the largest tile.
 * @param {{ calls: number, largest: number }} seen
 * @returns {import("../srsdk/enlarge.js").Run}
 */
function repeating(seen) {
  return async (levels, height, width) => {
    seen.calls++;
    seen.largest = Math.max(seen.largest, height * width);
    const large = new Uint8Array(levels.length * 4);
    for (let y = 0; y < 2 * height; y++) {
      for (let x = 0; x < 2 * width; x++) {
        const from = 3 * ((y >> 1) * width + (x >> 1));
        large.set(levels.subarray(from, from + 3), 3 * (y * 2 * width + x));
      }
    }
    return large;
  };
}

describe("tiles", () => {
  const picture = {
    data: Uint8ClampedArray.from({ length: 4 * 23 * 31 }, (_, i) => (i % 4 === 3 ? 255 : (i * 37) & 255)),
    width: 31,
    height: 23,
  };

  test("tiled equals untiled, in tiles of one size", async () => {
    const whole = await enlarge(repeating({ calls: 0, largest: 0 }), MANIFEST, picture);
    const seen = { calls: 0, largest: 0 };
    /** @type {number[][]} */
    const progress = [];
    const onProgress = (/** @type {number[]} */ ...counts) => progress.push(counts);
    const tiled = await enlarge(repeating(seen), MANIFEST, picture, { tile: [8, 9], onProgress });
    expect(tiled.data).toEqual(whole.data);
    expect(seen).toEqual({ calls: 20, largest: 72 });
    expect(progress.at(0)).toEqual([1, 20]);
    expect(progress.at(-1)).toEqual([20, 20]);
  });

  test("sides are mirrored up to a multiple, or to the only size", async () => {
    const whole = await enlarge(repeating({ calls: 0, largest: 0 }), MANIFEST, picture);
    for (const only of [{ multiple_px: 8 }, { size_px: /** @type {[number, number]} */ ([40, 40]) }]) {
      const result = await enlarge(repeating({ calls: 0, largest: 0 }), { ...MANIFEST, ...only }, picture);
      expect(result.data).toEqual(whole.data);
    }
  });

  test("a stop between tiles ends the work", async () => {
    const seen = { calls: 0, largest: 0 };
    const between = async () => {
      if (seen.calls === 3) throw new DOMException("stop", "AbortError");
    };
    const work = enlarge(repeating(seen), MANIFEST, picture, { tile: 8, between });
    await expect(work).rejects.toThrow("stop");
    expect(seen.calls).toBe(3);
  });

  test.each([
    [2, "at least 3 px"],
    [0, 'expected pixels, [height, width] or "auto"'],
    [/** @type {any} */ ([8]), "tile is [8]"],
  ])("a tile of %j is refused", (tile, message) => {
    expect(() => plan(MANIFEST, 20, 20, tile)).toThrow(message);
    expect(() => plan(MANIFEST, 20, 20, tile)).toThrow(UpscaleError);
  });
});
