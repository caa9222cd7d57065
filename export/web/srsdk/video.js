// Play a video enlarged on a canvas. A frame that comes while another one is computed is dropped, so
// that the canvas never falls behind the sound.

/** @typedef {import("./browser.js").Upscaler} Upscaler */

/** Frames in a row that a video may announce without showing them. */
const MOST_UNREADY = 60;

/**
 * What has happened since the start.
 * @typedef {object} Counts
 * @property {number} shown frames that were enlarged
 * @property {number} dropped frames that the video showed meanwhile
 * @property {number} ms time of the last frame, from the video to the canvas, in milliseconds
 */

/**
 * @typedef {object} VideoOptions
 * @property {(counts: Counts) => void} [onFrame] called after each enlarged frame
 * @property {(error: unknown) => void} [onError] called when a frame fails; the enlarging stops
 */

/** Enlarges what a video element plays, until `stop`. */
export class VideoUpscaler {
  /** @type {HTMLVideoElement} */
  #video;
  /** @type {HTMLCanvasElement} */
  #canvas;
  /** @type {Upscaler} */
  #upscaler;
  /** @type {VideoOptions} */
  #options;
  #running = false;
  #busy = false;
  #missed = false;
  #presented = 0;
  #lastTime = -1;
  #unready = 0;
  /** @type {Counts} */
  counts = { shown: 0, dropped: 0, ms: 0 };

  /**
   * @param {HTMLVideoElement} video of the page's origin, or served with CORS
   * @param {HTMLCanvasElement} canvas gets the size of the enlarged frames
   * @param {Upscaler} upscaler an open model; the caller closes it
   * @param {VideoOptions} [options] what is reported
   */
  constructor(video, canvas, upscaler, options = {}) {
    this.#video = video;
    this.#canvas = canvas;
    this.#upscaler = upscaler;
    this.#options = options;
  }

  /** Begin, with the frame that the video shows now if it has one. */
  start() {
    if (this.#running) return;
    this.#running = true;
    if (this.#video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) void this.#enlarge();
    this.#wait();
  }

  /** Stop after the frame that is computed. */
  stop() {
    this.#running = false;
  }

  #wait() {
    if (!this.#running) return;
    if ("requestVideoFrameCallback" in this.#video) {
      this.#video.requestVideoFrameCallback((_, { presentedFrames }) => {
        this.#arrived(this.#presented ? presentedFrames - this.#presented : 1);
        this.#presented = presentedFrames;
      });
      return;
    }
    requestAnimationFrame(() => {
      const isNew = this.#video.currentTime !== this.#lastTime;
      this.#lastTime = this.#video.currentTime;
      this.#arrived(isNew ? 1 : 0);
    });
  }

  /**
   * @param {number} frames that the video has shown since the last call
   */
  #arrived(frames) {
    if (!this.#running) return;
    if (frames > 0) {
      this.counts.dropped += frames - 1;
      if (this.#busy) {
        this.counts.dropped++;
        this.#missed = true;
      } else void this.#enlarge();
    }
    this.#wait();
  }

  async #enlarge() {
    this.#busy = true;
    this.#missed = false;
    const began = performance.now();
    try {
      const bitmap = await this.#grab();
      if (!bitmap) return;
      const result = await this.#upscaler.upscaleFrame(bitmap);
      if (!this.#running) return;
      this.#draw(result);
      this.counts.shown++;
      this.counts.ms = performance.now() - began;
      this.#options.onFrame?.(this.counts);
    } catch (error) {
      if (!this.#running) return;
      this.stop();
      this.#options.onError?.(error);
    } finally {
      this.#busy = false;
    }
    // a paused video shows no further frame that would replace the one that was dropped
    if (this.#missed && this.#video.paused && this.#running) void this.#enlarge();
  }

  /**
   * Return the frame that the video shows; null: none is ready yet, the next one comes.
   * @returns {Promise<ImageBitmap | null>}
   */
  async #grab() {
    try {
      const bitmap = await createImageBitmap(this.#video);
      this.#unready = 0;
      return bitmap;
    } catch (error) {
      const isEarly = error instanceof DOMException && error.name === "InvalidStateError";
      // before the first frame is on the screen, or while it seeks; not for seconds
      if (!isEarly || ++this.#unready > MOST_UNREADY) throw error;
      this.counts.dropped++;
      return null;
    }
  }

  /**
   * @param {ImageData} image
   */
  #draw(image) {
    const canvas = this.#canvas;
    if (canvas.width !== image.width) canvas.width = image.width;
    if (canvas.height !== image.height) canvas.height = image.height;
    canvas.getContext("2d")?.putImageData(image, 0, 0);
  }
}
