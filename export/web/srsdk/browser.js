// The public interface in a browser. Pictures are computed in a worker.

import { UpscaleError } from "./errors.js";

export { UpscaleError } from "./errors.js";

/** @typedef {import("./opening.js").OpenOptions} OpenOptions */
/** @typedef {import("./opening.js").Info} Info */
/** @typedef {import("./enlarge.js").Tile} Tile */
/** @typedef {{ done: number, total: number }} Progress tiles that are computed, and all */

/**
 * What is enlarged. A Blob holds an encoded picture (PNG, JPEG, WebP, AVIF: what the browser reads).
 * @typedef {ImageData | ImageBitmap | Blob} Source
 */

/**
 * Options of one picture.
 * @typedef {object} PictureOptions
 * @property {(progress: Progress) => void} [onProgress] called after each tile
 * @property {AbortSignal} [signal] stops it: the promise is rejected with `signal.reason` at once,
 *   the worker stops after the tile that it computes
 * @property {Tile} [tile] side of a tile in input pixels, or [height, width]; default "auto": at most
 *   512 * 512 pixels. Smaller tiles need less memory and stop sooner
 */

/**
 * @typedef {object} Job
 * @property {(value: any) => void} resolve
 * @property {(error: unknown) => void} reject
 * @property {(progress: Progress) => void} [onProgress]
 */

/** An open model in a worker of its own; `open` makes it. */
export class Upscaler {
  /** @type {Map<number, Job>} */
  #jobs = new Map();
  #next = 0;
  /** @type {Worker} */
  #worker;
  /** @type {UpscaleError | null} */
  #closed = null;
  /** @type {Info} */
  // @ts-expect-error: set by `open` before anybody sees this object
  info;

  /**
   * @param {string} assets address of the exported folder
   * @private
   */
  constructor(assets) {
    this.#worker = new Worker(`${assets}srsdk/worker.js`, { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => this.#receive(data));
    this.#worker.addEventListener("error", (event) => {
      const why = event.message || `${assets}srsdk/worker.js cannot be loaded`;
      this.#end(new UpscaleError("backend", `the worker failed: ${why}`));
    });
  }

  /**
   * @param {OpenOptions} options see `open`
   * @returns {Promise<Upscaler>} the open model
   */
  static async open({ assets, ...options }) {
    const folder = folderOf(assets);
    const upscaler = new Upscaler(folder);
    try {
      upscaler.info = await upscaler.#post({ type: "open", assets: folder, options });
    } catch (error) {
      upscaler.close();
      throw error;
    }
    return upscaler;
  }

  /**
   * Enlarge a picture. Several calls run one after the other.
   * @param {Source} source not changed, so it can be used again
   * @param {PictureOptions} [options] progress, abort, tiles
   * @returns {Promise<ImageData>} RGBA, `info.scale` times the sides
   */
  async upscale(source, options = {}) {
    const { onProgress, signal, tile = "auto" } = options;
    checkSource(source);
    signal?.throwIfAborted();
    const sent = source instanceof ImageData ? plain(source) : source;
    const { data, width, height } = await this.#post({ type: "run", source: sent, tile, quiet: false }, {
      onProgress,
      signal,
    });
    return new ImageData(data, width, height);
  }

  /**
   * Enlarge a frame of a video: no progress, no abort, and the bitmap is given away.
   * @param {ImageBitmap} bitmap closed afterwards
   * @returns {Promise<ImageData>} RGBA
   */
  async upscaleFrame(bitmap) {
    const message = { type: "run", source: bitmap, tile: "auto", quiet: true };
    const { data, width, height } = await this.#post(message, {}, [bitmap]);
    return new ImageData(data, width, height);
  }

  /** Whether it can be used no more: it was closed, or its worker has failed. */
  get closed() {
    return this.#closed !== null;
  }

  /** Stop the worker and free its memory; running calls are rejected. */
  close() {
    this.#end(new UpscaleError("usage", "this upscaler is closed: open another one"));
  }

  /**
   * @param {UpscaleError} error
   */
  #end(error) {
    this.#closed ??= error;
    this.#worker.terminate();
    for (const job of this.#jobs.values()) job.reject(error);
    this.#jobs.clear();
  }

  /**
   * @param {object} message
   * @param {{ onProgress?: (progress: Progress) => void, signal?: AbortSignal }} [options]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  #post(message, { onProgress, signal } = {}, transfer = []) {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.#jobs.delete(id);
        this.#worker.postMessage({ id, type: "abort" });
        reject(signal?.reason);
      };
      const ended = () => signal?.removeEventListener("abort", stop);
      signal?.addEventListener("abort", stop);
      this.#jobs.set(id, {
        resolve: (value) => (ended(), resolve(value)),
        reject: (error) => (ended(), reject(error)),
        onProgress,
      });
      this.#worker.postMessage({ id, ...message }, transfer);
    });
  }

  /**
   * @param {any} message of the worker
   */
  #receive({ id, type, ...rest }) {
    const job = this.#jobs.get(id);
    if (!job) return; // aborted before
    if (type === "progress") {
      job.onProgress?.(rest);
      return;
    }
    this.#jobs.delete(id);
    if (type === "result") job.resolve(rest.value);
    else job.reject(new UpscaleError(rest.kind, rest.message));
  }
}

/**
 * Open a model; its file, onnxruntime-web and the worker come from the exported folder alone.
 * @param {OpenOptions} [options] which model, and where it runs
 * @returns {Promise<Upscaler>} `close()` frees it
 */
export function open(options = {}) {
  return Upscaler.open(options);
}

/** Models that `upscale` has opened, by their options. @type {Map<string, Promise<Upscaler>>} */
const opened = new Map();

/**
 * Enlarge a picture; the model is opened at the first call and kept.
 * @param {Source} source ImageData, ImageBitmap or Blob
 * @param {OpenOptions & PictureOptions} [options] `scale` or `model` choose the model
 * @returns {Promise<ImageData>} the enlarged picture
 */
export async function upscale(source, options = {}) {
  const { onProgress, signal, tile, ...rest } = options;
  checkSource(source);
  signal?.throwIfAborted();
  const key = JSON.stringify({ ...rest, assets: folderOf(rest.assets) });
  const found = opened.get(key) ?? open(rest);
  opened.set(key, found);
  const forget = () => opened.get(key) === found && opened.delete(key);
  found.catch(forget);
  const upscaler = await found;
  if (upscaler.closed) {
    // its worker has failed since
    forget();
    return upscale(source, options);
  }
  return upscaler.upscale(source, { onProgress, signal, tile });
}

/**
 * @param {string | URL | undefined} assets
 * @returns {string} its absolute address, with a slash at its end
 */
function folderOf(assets) {
  // not `new URL("..", import.meta.url)`, which bundlers take for a file
  const here = import.meta.url;
  const { href } = assets === undefined ? new URL("..", here) : new URL(assets, document.baseURI);
  return href.endsWith("/") ? href : `${href}/`;
}

/**
 * @param {unknown} source
 */
function checkSource(source) {
  if ([ImageData, ImageBitmap, Blob].some((kind) => source instanceof kind)) return;
  const name = /** @type {any} */ (source)?.constructor?.name ?? String(source);
  throw new UpscaleError(
    "usage",
    `got ${name}, expected ImageData, ImageBitmap or Blob: pass await createImageBitmap(element) for ` +
      "an image, a canvas or a video",
  );
}

/**
 * Return an ImageData's pixels as a plain object; messages copy it.
 * @param {ImageData} image
 */
function plain(image) {
  const data = /** @type {unknown} */ (image.data);
  if (!(data instanceof Uint8ClampedArray)) {
    throw new UpscaleError("picture", "got ImageData of floats, expected 8 bits per channel");
  }
  return { data, width: image.width, height: image.height };
}
