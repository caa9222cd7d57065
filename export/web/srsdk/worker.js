// The worker: it holds the model, decodes pictures and computes, so that the page stays responsive.
/// <reference lib="webworker" />

import { enlarge } from "./enlarge.js";
import { UpscaleError, messageOf } from "./errors.js";
import { openNetwork } from "./opening.js";
import { readAsset } from "./reading.js";

/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./alpha.js").Picture} Picture */

/**
 * A picture as a page sends it. A `Picture`'s buffer comes as a copy or is given away.
 * @typedef {Picture | ImageBitmap | Blob} Source
 */

/** @type {Network | null} */
let network = null;
/** Jobs that the page does not want any more. */
const aborted = new Set();
/** One job after the other, in the order of the messages. */
let last = Promise.resolve();
/** @type {OffscreenCanvas | null} */
let canvas = null;

const post = /** @type {(message: unknown, transfer?: Transferable[]) => void} */ (self.postMessage.bind(self));

self.addEventListener("message", ({ data: message }) => {
  if (message.type === "abort") {
    aborted.add(message.id);
    return;
  }
  const job = message.type === "open" ? open : run;
  last = last.then(() => job(message).catch((error) => fail(message.id, error)));
});

/**
 * @param {number} id
 * @param {unknown} error
 */
function fail(id, error) {
  const kind = error instanceof UpscaleError ? error.kind : "backend";
  post({ id, type: "error", kind, message: messageOf(error) });
}

/**
 * @param {{ id: number, assets: string, options: import("./opening.js").OpenOptions }} message
 */
async function open({ id, assets, options }) {
  const opened = await openNetwork(platform(assets), options);
  network = opened.network;
  post({ id, type: "result", value: opened.info });
}

/**
 * @param {{ id: number, source: Source, tile: import("./enlarge.js").Tile, quiet: boolean }} message
 */
async function run({ id, source, tile, quiet }) {
  if (aborted.delete(id)) return;
  if (!network) throw new UpscaleError("usage", "no model is open");
  const { manifest } = network;
  const picture = await decoded(source);
  const levels = network.run.bind(network);
  const result = await enlarge(levels, manifest, picture, {
    tile,
    onProgress: quiet ? undefined : (done, total) => post({ id, type: "progress", done, total }),
    between: quiet ? undefined : () => stopIfAborted(id),
  }).catch((error) => {
    if (error !== STOPPED) throw error;
  });
  if (aborted.delete(id) || !result) return;
  post({ id, type: "result", value: result }, [/** @type {ArrayBuffer} */ (result.data.buffer)]);
}

const STOPPED = new Error("stopped");

/**
 * Let messages arrive, then stop if the page has aborted the job.
 * @param {number} id
 */
async function stopIfAborted(id) {
  await new Promise((resolve) => setTimeout(resolve));
  if (aborted.has(id)) throw STOPPED;
}

/**
 * Return a source's pixels.
 * @param {Source} source
 * @returns {Promise<Picture>}
 */
async function decoded(source) {
  if (source instanceof Blob) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(source, { premultiplyAlpha: "none" });
    } catch (error) {
      throw new UpscaleError(
        "picture",
        `this file is not a picture that this browser can read (${source.type || "unknown type"}, ` +
          `${source.size} bytes); save it as PNG, JPEG or WebP`,
        error,
      );
    }
    return pixels(bitmap);
  }
  return source instanceof ImageBitmap ? pixels(source) : source;
}

/**
 * Read a bitmap through a canvas, and close it.
 * @param {ImageBitmap} bitmap
 * @returns {Picture}
 */
function pixels(bitmap) {
  const { width, height } = bitmap;
  try {
    if (canvas?.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("no 2D canvas");
    context.clearRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return { data: context.getImageData(0, 0, width, height).data, width, height };
  } catch (error) {
    throw new UpscaleError(
      "picture",
      `this browser cannot draw a picture of ${width}x${height} px: ${messageOf(error)}`,
      error,
    );
  } finally {
    bitmap.close();
  }
}

/**
 * @param {string} assets address of the exported folder, with a slash at its end
 * @returns {import("./opening.js").Platform}
 */
function platform(assets) {
  return {
    read: (path) => readAsset(assets + path),
    describe: (path) => assets + path,
    processors: navigator.hardwareConcurrency ?? 1,
    whyNoThreads: () =>
      self.crossOriginIsolated
        ? ""
        : "the page is not cross-origin isolated: its server does not send the headers " +
          "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
    whyNoWebgpu,
    library: async (backend, threads) => {
      const ort = await loadLibrary(`${assets}ort/ort.${backend}.min.mjs`);
      ort.env.logLevel = "error";
      ort.env.wasm.wasmPaths = `${assets}ort/`;
      ort.env.wasm.numThreads = threads;
      return ort;
    },
  };
}

/**
 * @param {string} address
 * @returns {Promise<import("./network.js").Ort>}
 */
async function loadLibrary(address) {
  try {
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ address);
  } catch (error) {
    throw new UpscaleError("backend", `${address} cannot be loaded: ${messageOf(error)}`, error);
  }
}

/**
 * Return why there is no WebGPU, or "". An emulation, slower than WebAssembly, is taken by name only.
 * @param {boolean} byName whether the caller asked for WebGPU
 * @returns {Promise<string>}
 */
async function whyNoWebgpu(byName) {
  const gpu = /** @type {any} */ (navigator).gpu;
  if (!gpu) return "this browser has none, or the page is served without TLS";
  const adapter = await gpu.requestAdapter();
  if (!adapter) return "there is no suitable GPU";
  const info = adapter.info ?? adapter;
  return info.isFallbackAdapter && !byName ? "the only adapter is a software emulation" : "";
}
