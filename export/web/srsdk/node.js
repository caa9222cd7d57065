// The same interface in Node, on onnxruntime-web's WebAssembly: the arithmetic of the browser, one
// dependency, and no native binary that an install script downloads. It computes in this thread.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

import * as ort from "onnxruntime-web";

import { enlarge } from "./enlarge.js";
import { UpscaleError, messageOf } from "./errors.js";
import { openNetwork } from "./opening.js";

export { UpscaleError } from "./errors.js";

/** @typedef {import("./opening.js").OpenOptions} OpenOptions */
/** @typedef {import("./opening.js").Info} Info */
/** @typedef {import("./alpha.js").Picture} Picture */
/** @typedef {import("./browser.js").PictureOptions} PictureOptions */

/** An open model; `open` makes it. */
export class Upscaler {
  /** @type {import("./network.js").Network} */
  #network;
  /** One picture after the other. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {import("./network.js").Network} network
   * @param {Info} info
   * @private
   */
  constructor(network, info) {
    this.#network = network;
    this.info = info;
  }

  /**
   * @param {OpenOptions} options see `open`
   * @returns {Promise<Upscaler>} the open model
   */
  static async open(options) {
    const { network, info } = await openNetwork(platform(options.assets), options);
    return new Upscaler(network, info);
  }

  /**
   * Enlarge a picture. Several calls run one after the other.
   * @param {Picture} source what ImageData holds: RGBA, not premultiplied; not changed
   * @param {PictureOptions} [options] progress, abort, tiles
   * @returns {Promise<Picture>} RGBA, `info.scale` times the sides
   */
  upscale(source, options = {}) {
    const run = () => this.#run(source, options);
    const result = this.#last.then(run, run);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Free the model's memory. */
  async close() {
    await this.#network.close();
  }

  /**
   * @param {Picture} source
   * @param {PictureOptions} options
   */
  async #run(source, { onProgress, signal, tile = "auto" }) {
    checkSource(source);
    signal?.throwIfAborted();
    const network = this.#network;
    return enlarge(network.run.bind(network), network.manifest, source, {
      tile,
      onProgress: (done, total) => onProgress?.({ done, total }),
      between: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        signal?.throwIfAborted();
      },
    });
  }
}

/**
 * Open a model of an exported folder.
 * @param {OpenOptions} [options] which model; `assets` is the folder's path
 * @returns {Promise<Upscaler>} `close()` frees it
 */
export function open(options = {}) {
  return Upscaler.open(options);
}

/** Models that `upscale` has opened, by their options. @type {Map<string, Promise<Upscaler>>} */
const opened = new Map();

/**
 * Enlarge a picture; the model is opened at the first call and kept.
 * @param {Picture} source what ImageData holds
 * @param {OpenOptions & PictureOptions} [options] `scale` or `model` choose the model
 * @returns {Promise<Picture>} the enlarged picture
 */
export async function upscale(source, options = {}) {
  const { onProgress, signal, tile, ...rest } = options;
  checkSource(source);
  signal?.throwIfAborted();
  const key = JSON.stringify(rest);
  const found = opened.get(key) ?? open(rest);
  opened.set(key, found);
  found.catch(() => opened.delete(key));
  return (await found).upscale(source, { onProgress, signal, tile });
}

/**
 * @param {string | URL | undefined} assets
 * @returns {import("./opening.js").Platform}
 */
function platform(assets) {
  if (assets === undefined) {
    throw new UpscaleError(
      "usage",
      "assets is missing: pass { assets: FOLDER }, the folder that " +
        "`python -m export realtime_x2 --target web -o FOLDER` writes",
    );
  }
  const isUrl = assets instanceof URL || assets.startsWith("file:");
  const folder = isUrl ? fileURLToPath(assets) : assets;
  const path = (/** @type {string} */ name) => `${folder.replace(/[\\/]$/, "")}/${name}`;
  return {
    describe: path,
    read: async (name) => {
      try {
        return Uint8Array.from(await readFile(path(name))).buffer;
      } catch (error) {
        throw new UpscaleError(
          "model",
          `${path(name)} cannot be read: ${messageOf(error)}; expected the folder that ` +
            "`python -m export ... --target web` wrote",
          error,
        );
      }
    },
    processors: availableParallelism(),
    whyNoThreads: () => "",
    whyNoWebgpu: async () => "Node has none",
    library: async (_, threads) => {
      ort.env.logLevel = "error";
      ort.env.wasm.numThreads = threads;
      return ort;
    },
  };
}

/**
 * @param {unknown} source
 */
function checkSource(source) {
  const { data, width, height } = /** @type {Picture} */ (source ?? {});
  if (data instanceof Uint8ClampedArray && data.length === 4 * width * height && data.length) return;
  throw new UpscaleError(
    "usage",
    "got no pixels, expected { data, width, height } with a Uint8ClampedArray of RGBA: Node decodes no " +
      "files, so decode them with a library such as sharp or pngjs",
  );
}
