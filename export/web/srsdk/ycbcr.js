// RGB and YCbCr (ITU-R BT.601, full range, as in JPEG), level for level as Pillow converts them:
// each product is a table of integers in 1/64, the sum is shifted down.

const BITS = 6;

/**
 * Tabulate `factor * (i - zero)` in 1/64, cast as C casts `x + 0.5`: towards zero.
 * @param {number} factor
 * @param {number} zero
 */
function table(factor, zero) {
  return Int16Array.from({ length: 256 }, (_, i) =>
    Math.trunc(factor * (1 << BITS) * (i - zero) + 0.5),
  );
}

const [Y_R, Y_G, Y_B] = [0.299, 0.587, 0.114].map((k) => table(k, 0));
const [CB_R, CB_G, CB_B] = [-0.16874, -0.33126, 0.5].map((k) => table(k, 0));
const [CR_R, CR_G, CR_B] = [0.5, -0.41869, -0.08131].map((k) => table(k, 0));
const [R_CR, G_CB, G_CR, B_CB] = [1.402, -0.34414, -0.71414, 1.772].map((k) => table(k, 128));

/**
 * @param {number} r 0..255
 * @param {number} g 0..255
 * @param {number} b 0..255
 * @returns {number} luma, 0..255
 */
export function luma(r, g, b) {
  return (Y_R[r] + Y_G[g] + Y_B[b]) >> BITS;
}

/**
 * Return the two chroma planes of a picture.
 * @param {Uint8ClampedArray} rgba pixels
 * @returns {{ cb: Uint8Array, cr: Uint8Array }} one level for each pixel
 */
export function chroma(rgba) {
  const count = rgba.length / 4;
  const cb = new Uint8Array(count);
  const cr = new Uint8Array(count);
  for (let i = 0, at = 0; i < count; i++, at += 4) {
    const r = rgba[at];
    const g = rgba[at + 1];
    const b = rgba[at + 2];
    cb[i] = ((CB_R[r] + CB_G[g] + CB_B[b]) >> BITS) + 128;
    cr[i] = ((CR_R[r] + CR_G[g] + CR_B[b]) >> BITS) + 128;
  }
  return { cb, cr };
}

/**
 * Convert one row to RGB in place. Its red channel holds luma before.
 * @param {Uint8ClampedArray} rgba the row's pixels; clamps what is assigned
 * @param {Uint8Array} cb chroma of the row
 * @param {Uint8Array} cr chroma of the row
 */
export function rowToRgb(rgba, cb, cr) {
  for (let x = 0, at = 0; x < cb.length; x++, at += 4) {
    const y = rgba[at];
    rgba[at] = y + (R_CR[cr[x]] >> BITS);
    rgba[at + 1] = y + ((G_CB[cb[x]] + G_CR[cr[x]]) >> BITS);
    rgba[at + 2] = y + (B_CB[cb[x]] >> BITS);
    rgba[at + 3] = 255;
  }
}
