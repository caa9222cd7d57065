// What a model file says of itself: the JSON that the export wrote beside the file.

import { UpscaleError } from "./errors.js";

/**
 * Expected output on a small test picture; see `srsdk/formats/probe.py`.
 * @typedef {{ size_px: [number, number], samples: string, min_psnr_db: number, max_lsb: number }} Probe
 */

/**
 * One model. Sizes are (height, width) in input pixels.
 * @typedef {object} Manifest
 * @property {string} name name of the file without `.onnx`, such as `gan_x2`
 * @property {string} file file name
 * @property {number} bytes size of the file
 * @property {string} sha256 hash of the file, hexadecimal
 * @property {number} scale output size over input size
 * @property {1 | 3} channels 3: RGB; 1: luma, color is then enlarged bicubically
 * @property {"uint8"} dtype type of input and output, 0..255
 * @property {"NHWC"} layout layout of input and output
 * @property {number} radius_px receptive-field radius: the overlap of tiles
 * @property {number} multiple_px sides of the input are multiples of this
 * @property {[number, number] | null} size_px the only input size; null: any
 * @property {string} precision `fp32` or `int8`
 * @property {Probe | null} probe for the self-test
 * @property {string} licence license of the weights
 */

/** @typedef {"fp32" | "int8"} Precision */

/**
 * A model of a folder: the names of its files by precision.
 * @typedef {{ name: string, scale: number, forms: { fp32?: string, int8?: string } }} Entry
 */

/**
 * The models of a folder, which one is opened if none is named, and which one is for videos.
 * @typedef {{ default: string, realtime: string, models: Entry[] }} Index
 */

const POSITIVE = ["scale", "channels", "multiple_px", "bytes"];

/**
 * Check what was read as a manifest.
 * @param {any} value parsed JSON
 * @param {string} source its address, for the message
 * @returns {Manifest} the same
 */
export function checkManifest(value, source) {
  const wrong = (/** @type {string} */ field, /** @type {string} */ expected) => {
    throw new UpscaleError(
      "model",
      `${source}: ${field} is ${JSON.stringify(value?.[field])}, expected ${expected}; ` +
        "write the folder again with `python -m export ... --target web`",
    );
  };
  for (const field of POSITIVE) {
    if (!Number.isInteger(value?.[field]) || value[field] < 1) wrong(field, "a number above 0");
  }
  if (!Number.isInteger(value.radius_px) || value.radius_px < 0) wrong("radius_px", "0 or more");
  if (value.channels !== 1 && value.channels !== 3) wrong("channels", "1 or 3");
  if (value.dtype !== "uint8") wrong("dtype", "uint8");
  if (value.layout !== "NHWC") wrong("layout", "NHWC");
  if (value.scale > 16) wrong("scale", "at most 16");
  return value;
}

/**
 * Choose the model for what a caller asked for.
 * @param {Index} index the models there are
 * @param {{ model?: string, scale?: number }} asked name or scale, or both, or neither
 * @returns {Entry} one of the index
 */
export function chooseModel(index, { model, scale }) {
  const named = model === undefined ? index.models : index.models.filter((m) => m.name === model);
  const known = index.models.map((m) => `${m.name} (x${m.scale})`).join(", ");
  if (!named.length) {
    throw new UpscaleError("usage", `model is ${JSON.stringify(model)}, expected one of ${known}`);
  }
  const fitting = scale === undefined ? named : named.filter((m) => m.scale === scale);
  if (!fitting.length) {
    throw new UpscaleError("usage", `scale is ${scale}, but there are these models: ${known}`);
  }
  return fitting.find((m) => m.name === index.default) ?? fitting[0];
}

/**
 * Choose the file of a model. WebAssembly computes INT8 faster, WebGPU takes float32 only.
 * @param {Entry} entry the model
 * @param {Precision | "auto"} precision what the caller asked for
 * @param {"wasm" | "webgpu"} backend where it will run
 * @returns {string} the file's name without `.onnx`
 */
export function chooseForm({ name, forms }, precision, backend) {
  if (!["auto", "fp32", "int8"].includes(precision)) {
    throw new UpscaleError("usage", `precision is "${precision}", expected "auto", "fp32" or "int8"`);
  }
  if (precision !== "auto" && !forms[precision]) {
    throw new UpscaleError(
      "usage",
      `precision is "${precision}", but ${name} is there as ${Object.keys(forms).join(" and ")} only`,
    );
  }
  const chosen = precision === "auto" && backend === "webgpu" ? "fp32" : precision;
  const file = chosen === "auto" ? (forms.int8 ?? forms.fp32) : forms[chosen];
  if (!file) throw new UpscaleError("usage", `${name} has no ${chosen} file, which WebGPU needs`);
  return file;
}

/**
 * Check a model file's bytes against its manifest.
 * @param {ArrayBuffer} bytes the file
 * @param {Manifest} manifest what is expected
 * @param {string} source its address, for the message
 */
export async function checkBytes(bytes, manifest, source) {
  const damaged = (/** @type {string} */ what) =>
    new UpscaleError(
      "model",
      `${source} is not the file of its manifest: ${what}; load the page again, or copy the folder ` +
        "to the server again",
    );
  if (bytes.byteLength !== manifest.bytes) {
    throw damaged(`got ${bytes.byteLength} bytes, expected ${manifest.bytes}`);
  }
  // missing on pages without TLS, except for localhost
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== manifest.sha256) throw damaged(`its SHA-256 is ${hex}, expected ${manifest.sha256}`);
}
