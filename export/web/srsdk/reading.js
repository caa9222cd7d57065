// Fetch a file of the exported folder.

import { UpscaleError, messageOf } from "./errors.js";

/**
 * @param {string} address of the file
 * @returns {Promise<ArrayBuffer>} its bytes
 */
export async function readAsset(address) {
  let answer;
  try {
    answer = await fetch(address);
  } catch (error) {
    throw new UpscaleError(
      "model",
      `${address} cannot be loaded: ${messageOf(error)}; check the connection and load the page again`,
      error,
    );
  }
  if (!answer.ok) {
    throw new UpscaleError(
      "model",
      `${address} cannot be loaded: the server answered ${answer.status}; copy the whole folder that ` +
        "`python -m export ... --target web` wrote",
    );
  }
  return answer.arrayBuffer();
}
