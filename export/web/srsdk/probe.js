// The test picture of a model file, computed with integers: see `srsdk/formats/probe.py`.

const GOLDEN = 2654435769;
const SAMPLES = 512;
const EQUAL_DB = 99;

/**
 * Hash an integer by mixing its bits (Marsaglia 2003, "Xorshift RNGs").
 * @param {number} value 0 to 2**32 - 1
 */
function hashed(value) {
  let mixed = (Math.imul(value, GOLDEN) + 1) >>> 0;
  for (const [left, right] of [[13, 17], [5, 9]]) {
    mixed = (mixed ^ (mixed << left)) >>> 0;
    mixed = (mixed ^ (mixed >>> right)) >>> 0;
  }
  return mixed >>> 8;
}

/**
 * Return the picture: a third each of noise, hard edges and a ramp.
 * @param {number} height pixels
 * @param {number} width pixels
 * @param {number} channels 1 or 3
 * @returns {Uint8Array} (height, width, channels)
 */
export function probePicture(height, width, channels) {
  const levels = new Uint8Array(height * width * channels);
  let at = 0;
  for (let y = 0; y < height; y++) {
    const part = Math.floor((y * 3) / height);
    for (let x = 0; x < width; x++) {
      const ramp = Math.floor((x * 255) / Math.max(1, width - 1));
      for (let c = 0; c < channels; c++) {
        if (part === 0) levels[at++] = hashed(x + y * width + c * height * width) & 255;
        else if (part === 2) levels[at++] = (ramp + c * 64) & 255;
        else levels[at++] = (hashed(Math.floor(x / 3) + Math.floor(y / 3) * 8191 + c) % 2) * 255;
      }
    }
  }
  return levels;
}

/**
 * Compare an output with the samples of the float32 network's.
 * @param {Uint8Array} output all levels
 * @param {import("./manifest.js").Probe} probe the samples, base64
 * @returns {{ psnr_db: number, max_lsb: number }} the difference
 */
export function agreement(output, probe) {
  const wanted = Uint8Array.from(atob(probe.samples), (c) => c.charCodeAt(0));
  const count = Math.min(SAMPLES, output.length, wanted.length);
  let squares = 0;
  let max_lsb = 0;
  for (let i = 0; i < count; i++) {
    // exact: 512 * 2**32 is far below 2**53
    const difference = Math.abs(output[(i * GOLDEN) % output.length] - wanted[i]);
    squares += difference ** 2;
    max_lsb = Math.max(max_lsb, difference);
  }
  const psnr_db = squares ? 10 * Math.log10((255 ** 2 * count) / squares) : EQUAL_DB;
  return { psnr_db, max_lsb };
}
