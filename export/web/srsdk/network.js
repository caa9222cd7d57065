// One model in onnxruntime-web: a tile in, a tile out.

import { UpscaleError, messageOf } from "./errors.js";
import { agreement, probePicture } from "./probe.js";

/** @typedef {import("./manifest.js").Manifest} Manifest */
/** @typedef {typeof import("onnxruntime-web")} Ort */
/** @typedef {"wasm" | "webgpu"} Backend */

/** A network that maps (height, width, channels) levels to `scale` times the sides. */
export class Network {
  /**
   * @param {Ort} ort the library
   * @param {import("onnxruntime-web").InferenceSession} session the open model
   * @param {Manifest} manifest what the model says of itself
   */
  constructor(ort, session, manifest) {
    this.ort = ort;
    this.session = session;
    this.manifest = manifest;
  }

  /**
   * Open a model and run its self-test.
   * @param {Ort} ort the library, configured
   * @param {Uint8Array} bytes the model file
   * @param {Manifest} manifest what the model says of itself
   * @param {Backend} backend where it runs
   * @returns {Promise<Network>} the open network
   */
  static async open(ort, bytes, manifest, backend) {
    let session;
    try {
      session = await ort.InferenceSession.create(bytes, {
        executionProviders: [backend],
        graphOptimizationLevel: "all",
        // errors only: with WebGPU, shapes are computed on the processor by intent
        logSeverityLevel: 3,
      });
    } catch (error) {
      const where = backend === "wasm" ? "WebAssembly" : "WebGPU";
      throw new UpscaleError(
        "backend",
        `${manifest.name} cannot be opened with ${where}: ${messageOf(error)}`,
        error,
      );
    }
    const network = new Network(ort, session, manifest);
    await network.selfTest(backend);
    return network;
  }

  /**
   * Run one tile.
   * @param {Uint8Array} levels (height, width, channels), row by row
   * @param {number} height pixels
   * @param {number} width pixels
   * @returns {Promise<Uint8Array>} (height * scale, width * scale, channels)
   */
  async run(levels, height, width) {
    const { channels, scale } = this.manifest;
    const shape = [1, height, width, channels];
    const input = new this.ort.Tensor("uint8", levels, shape);
    let output;
    try {
      const results = await this.session.run({ [this.session.inputNames[0]]: input });
      output = results[this.session.outputNames[0]];
    } catch (error) {
      throw new UpscaleError(
        "backend",
        `a tile of ${height}x${width} failed: ${messageOf(error)}; try a smaller tile, such as ` +
          "{ tile: 256 }",
        error,
      );
    }
    const expected = [1, height * scale, width * scale, channels];
    if (String(output.dims) !== String(expected)) {
      throw new UpscaleError("model", `the model returned ${output.dims}, expected ${expected}`);
    }
    const data = /** @type {Uint8Array} */ (await output.getData());
    return data;
  }

  /** Free the memory of the model. */
  async close() {
    await this.session.release();
  }

  /**
   * Compare the result on the manifest's test picture with the float32 network's.
   * @param {Backend} backend for the message
   */
  async selfTest(backend) {
    const { probe, channels, name } = this.manifest;
    if (!probe) return;
    const [height, width] = probe.size_px;
    const output = await this.run(probePicture(height, width, channels), height, width);
    const { psnr_db, max_lsb } = agreement(output, probe);
    if (psnr_db >= probe.min_psnr_db && max_lsb <= probe.max_lsb) return;
    await this.close();
    throw new UpscaleError(
      "backend",
      `${name} gives wrong results with ${backend} on this machine: ${psnr_db.toFixed(1)} dB and ` +
        `${max_lsb} levels from the float32 network, expected ${probe.min_psnr_db} dB or more and ` +
        `${probe.max_lsb} levels or fewer`,
    );
  }
}
