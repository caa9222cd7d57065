// Open a model of an exported folder: the same steps in a worker and in Node.

import { UpscaleError, messageOf } from "./errors.js";
import { checkBytes, checkManifest, chooseForm, chooseModel } from "./manifest.js";
import { Network } from "./network.js";

/** @typedef {import("./manifest.js").Index} Index */
/** @typedef {import("./network.js").Backend} Backend */
/** @typedef {import("./network.js").Ort} Ort */

/**
 * Which model is opened, and where it runs.
 * @typedef {object} OpenOptions
 * @property {string} [model] name of a model of the folder; default: see `scale`
 * @property {number} [scale] the first model of this scale is opened; default: the folder's default
 * @property {import("./manifest.js").Precision | "auto"} [precision] `auto`: as in Python on a
 *   processor, INT8 with WebAssembly where there is such a file; float32 with WebGPU
 * @property {Backend | "auto"} [backend] `auto`: WebGPU where the browser has it, else WebAssembly
 * @property {number} [threads] of WebAssembly; default: all processors, at most 8; 1 where the page
 *   is not cross-origin isolated
 * @property {string | URL} [assets] the folder that `python -m export --target web` wrote: an address
 *   in the browser, a path in Node; default: the folder above this module
 */

/**
 * What was opened.
 * @typedef {object} Info
 * @property {string} model name
 * @property {number} scale output size over input size
 * @property {string} precision `fp32` or `int8`
 * @property {number} modelBytes size of the model file
 * @property {Backend} backend where it runs
 * @property {number} threads of WebAssembly; 1 with WebGPU
 * @property {string[]} notes why `auto` chose what it chose
 * @property {string[]} models names of all models of the folder
 */

/**
 * What differs between a worker and Node.
 * @typedef {object} Platform
 * @property {(path: string) => Promise<ArrayBuffer>} read a file of the folder
 * @property {(path: string) => string} describe its address, for messages
 * @property {(backend: Backend, threads: number) => Promise<Ort>} library load and configure it
 * @property {(byName: boolean) => Promise<string>} whyNoWebgpu the reason, or "" if there is WebGPU
 * @property {() => string} whyNoThreads the reason, or "" if there are several threads
 * @property {number} processors their number
 */

const MOST_THREADS = 8;

/**
 * Open a model.
 * @param {Platform} platform where this runs
 * @param {OpenOptions} options the model
 * @returns {Promise<{ network: Network, info: Info }>} the open network
 */
export async function openNetwork(platform, options) {
  const { backend = "auto", precision = "auto" } = options;
  if (!["auto", "wasm", "webgpu"].includes(backend)) {
    throw new UpscaleError("usage", `backend is "${backend}", expected "auto", "wasm" or "webgpu"`);
  }
  const index = /** @type {Index} */ (await readJson(platform, "models/index.json"));
  const entry = chooseModel(index, options);
  /** @type {string[]} */
  const notes = [];
  const common = { model: entry.name, scale: entry.scale, models: index.models.map((m) => m.name), notes };
  if (backend !== "wasm") {
    const why = (await platform.whyNoWebgpu(backend === "webgpu")) || whyNotFloat(entry, precision);
    if (why && backend === "webgpu") throw new UpscaleError("backend", `no WebGPU: ${why}`);
    if (why) notes.push(`WebGPU is not used: ${why}`);
    else {
      try {
        const opened = await openOn(platform, entry, precision, "webgpu", 1);
        return { network: opened.network, info: { ...common, ...opened.where } };
      } catch (error) {
        if (backend === "webgpu") throw error;
        notes.push(`WebGPU is not used: ${messageOf(error)}`);
      }
    }
  }
  const threads = threadsFor(platform, options.threads, notes);
  const opened = await openOn(platform, entry, precision, "wasm", threads);
  return { network: opened.network, info: { ...common, ...opened.where } };
}

/**
 * Return why a model cannot run with WebGPU, or "".
 * @param {import("./manifest.js").Entry} entry
 * @param {string} precision
 */
function whyNotFloat(entry, precision) {
  if (precision === "int8") return "INT8 files are for processors";
  return entry.forms.fp32 ? "" : `${entry.name} is there as INT8 only`;
}

/**
 * Read a JSON file of the folder.
 * @param {Platform} platform where this runs
 * @param {string} path in the folder
 * @returns {Promise<any>} its value
 */
async function readJson(platform, path) {
  const bytes = await platform.read(path);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new UpscaleError(
      "model",
      `${platform.describe(path)} is not JSON: ${messageOf(error)}; expected a folder that ` +
        "`python -m export ... --target web` wrote",
      error,
    );
  }
}

/**
 * Read the file for a backend and open it.
 * @param {Platform} platform
 * @param {import("./manifest.js").Entry} entry
 * @param {import("./manifest.js").Precision | "auto"} precision
 * @param {Backend} backend
 * @param {number} threads
 */
async function openOn(platform, entry, precision, backend, threads) {
  const path = `models/${chooseForm(entry, precision, backend)}.json`;
  const manifest = checkManifest(await readJson(platform, path), platform.describe(path));
  const file = `models/${manifest.file}`;
  const bytes = await platform.read(file);
  await checkBytes(bytes, manifest, platform.describe(file));
  const ort = await platform.library(backend, threads);
  const network = await Network.open(ort, new Uint8Array(bytes), manifest, backend);
  const { precision: used, bytes: modelBytes } = manifest;
  return { network, where: { backend, threads, precision: used, modelBytes } };
}

/**
 * Return the number of threads; note why it is 1.
 * @param {Platform} platform
 * @param {number | undefined} asked
 * @param {string[]} notes
 */
function threadsFor(platform, asked, notes) {
  if (asked !== undefined && (!Number.isInteger(asked) || asked < 1)) {
    throw new UpscaleError("usage", `threads is ${asked}, expected a whole number above 0`);
  }
  const why = platform.whyNoThreads();
  if (why && asked !== undefined && asked > 1) {
    throw new UpscaleError("backend", `threads is ${asked}, but ${why}`);
  }
  if (why) notes.push(`one thread: ${why}`);
  return why ? 1 : (asked ?? Math.max(1, Math.min(platform.processors, MOST_THREADS)));
}
