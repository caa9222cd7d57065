// The one error class of this package; the message says the fact, what was expected and the fix.

/**
 * What went wrong: `usage` (wrong options), `picture` (cannot be read or is of an unsupported kind),
 * `model` (missing, damaged or wrong results), `backend` (no WebAssembly or WebGPU, out of memory).
 * @typedef {"usage" | "picture" | "model" | "backend"} Kind
 */

/** Raised by every function of this package, except for aborts (`signal.reason`). */
export class UpscaleError extends Error {
  /**
   * @param {Kind} kind what went wrong
   * @param {string} message one sentence
   * @param {unknown} [cause] the error of the library below
   */
  constructor(kind, message, cause) {
    super(message, { cause });
    this.name = "UpscaleError";
    /** @type {Kind} */
    this.kind = kind;
  }
}

/**
 * Return the text of whatever was thrown.
 * @param {unknown} error anything
 * @returns {string} its message
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
