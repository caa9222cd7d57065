// The interface in Node, with real models. SRSDK_WEB_SITE names a folder that `python -m export
// ... --target web` wrote, SRSDK_WEB_PICTURES one with pictures and Python's results.

import { existsSync, readFileSync, readdirSync } from "node:fs";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { UpscaleError, open, upscale } from "../srsdk/node.js";

const assets = process.env.SRSDK_WEB_SITE ?? "";
const pictures = process.env.SRSDK_WEB_PICTURES ?? "";

/** @typedef {{ name: string, model: string, precision: "fp32" | "int8", height: number, width: number }} Case */

/** @type {Case[]} */
const cases = existsSync(pictures)
  ? readdirSync(pictures)
      .filter((name) => name.endsWith(".json"))
      .map((name) => JSON.parse(readFileSync(`${pictures}/${name}`, "utf8")))
  : [];

/**
 * @param {Case} of
 * @param {string} kind
 */
function levels({ name }, kind) {
  return new Uint8ClampedArray(readFileSync(`${pictures}/${name}.${kind}`));
}

/**
 * @param {Uint8ClampedArray} a
 * @param {Uint8ClampedArray} b
 */
function largestDifference(a, b) {
  return a.reduce((most, level, i) => Math.max(most, Math.abs(level - b[i])), 0);
}

test("the folder is asked for", async () => {
  const picture = { data: new Uint8ClampedArray(4), width: 1, height: 1 };
  await expect(upscale(picture)).rejects.toThrow("assets is missing");
  await expect(upscale(picture, { assets: "nowhere" })).rejects.toThrow("nowhere/models/index.json");
  await expect(upscale(/** @type {any} */ (null), { assets })).rejects.toThrow("Uint8ClampedArray of RGBA");
});

describe.skipIf(!cases.length)("models", () => {
  test.each(cases)("$model of $name is within 1 level of Python", { timeout: 120_000 }, async (one) => {
    const { model, precision, height, width } = one;
    const expected = levels(one, "python");
    const picture = { data: levels(one, "rgba"), width, height };
    const upscaler = await open({ assets, model, precision });
    const result = await upscaler.upscale(picture);
    expect(result.data.length).toBe(expected.length);
    expect(largestDifference(result.data, expected)).toBeLessThanOrEqual(1);
    const tiled = await upscaler.upscale(picture, { tile: 48 });
    expect(largestDifference(tiled.data, result.data)).toBe(0);
    await upscaler.close();
  });

  /** @type {import("../srsdk/node.js").Upscaler} */
  let upscaler;
  const picture = {
    data: Uint8ClampedArray.from({ length: 4 * 90 * 120 }, (_, i) => (i * 31) & 255 | (i % 4 === 3 ? 255 : 0)),
    width: 120,
    height: 90,
  };
  beforeAll(async () => {
    upscaler = await open({ assets, model: "realtime_x2", threads: 1 });
  });
  afterAll(() => upscaler.close());

  test("what was opened is said", () => {
    expect(upscaler.info).toMatchObject({ backend: "wasm", threads: 1, precision: "int8", scale: 2 });
    expect(upscaler.info.notes).toEqual(["WebGPU is not used: Node has none"]);
  });

  test("progress counts the tiles", async () => {
    /** @type {import("../srsdk/browser.js").Progress[]} */
    const seen = [];
    await upscaler.upscale(picture, { tile: 48, onProgress: (progress) => seen.push(progress) });
    expect(seen.map(({ done }) => done)).toEqual(seen.map((_, i) => i + 1));
    expect(seen.at(-1)).toEqual({ done: seen.length, total: seen.length });
  });

  test("a signal stops it, and the next picture is computed", async () => {
    const stop = new AbortController();
    const onProgress = () => stop.abort();
    const work = upscaler.upscale(picture, { tile: 48, onProgress, signal: stop.signal });
    await expect(work).rejects.toMatchObject({ name: "AbortError" });
    await expect(upscaler.upscale(picture)).resolves.toMatchObject({ width: 240, height: 180 });
  });

  test("wrong options are errors of the kind usage", async () => {
    for (const options of [{ scale: 7 }, { backend: "cuda" }, { threads: 0 }, { precision: "fp16" }]) {
      const error = await open({ assets, ...(/** @type {any} */ (options)) }).catch((e) => e);
      expect(error).toBeInstanceOf(UpscaleError);
      expect(error.kind).toBe("usage");
    }
    await expect(open({ assets, backend: "webgpu" })).rejects.toThrow("no WebGPU: Node has none");
  });
});
