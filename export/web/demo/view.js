// What the page consists of, and how it says things.

import { UpscaleError } from "../srsdk/browser.js";

const TITLES = {
  usage: "This does not fit together",
  picture: "The picture cannot be read",
  model: "The model does not load",
  backend: "The model does not run in this browser",
};

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

export const stage = element("stage", HTMLElement);
export const viewer = element("viewer", HTMLElement);
export const frame = element("frame", HTMLElement);
export const before = element("before", HTMLCanvasElement);
export const after = element("after", HTMLCanvasElement);
export const video = element("video", HTMLVideoElement);
export const split = element("split", HTMLInputElement);
export const file = element("file", HTMLInputElement);
export const models = element("model", HTMLSelectElement);
export const progress = element("progress", HTMLProgressElement);
export const buttons = {
  abort: element("abort", HTMLButtonElement),
  example: element("example", HTMLButtonElement),
  play: element("play", HTMLButtonElement),
  retry: element("retry", HTMLButtonElement),
  save: element("save", HTMLButtonElement),
};

/**
 * @param {string} id
 * @param {string} text
 */
export function say(id, text) {
  element(id, HTMLElement).textContent = text;
}

/**
 * @param {string} name
 */
export function show(name) {
  stage.dataset.state = name;
  fit();
}

/**
 * @param {unknown} error
 */
export function showError(error) {
  const kind = error instanceof UpscaleError ? error.kind : "backend";
  say("error-title", TITLES[kind]);
  say("error-text", error instanceof Error ? error.message : String(error));
  say("status", "Stopped");
  show("error");
}

/**
 * Make the frame as large as fits into the stage.
 */
export function fit() {
  const canvas = video.videoWidth && stage.dataset.state === "video" ? null : before;
  const width = canvas ? canvas.width : video.videoWidth;
  const height = canvas ? canvas.height : video.videoHeight;
  const factor = Math.min(viewer.clientWidth / width, viewer.clientHeight / height);
  if (!Number.isFinite(factor) || factor <= 0) return;
  frame.style.width = `${Math.floor(width * factor)}px`;
  frame.style.height = `${Math.floor(height * factor)}px`;
}

/**
 * @param {number} bytes
 */
export function kilobytes(bytes) {
  return `${Math.round(bytes / 1000).toLocaleString("en")} kB`;
}

/**
 * @param {number} ms
 */
export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/**
 * @param {number} width
 * @param {number} height
 * @param {number} scale
 */
export function showSize(width, height, scale) {
  say("fact-size", `${width} × ${height} → ${width * scale} × ${height * scale} px`);
}
