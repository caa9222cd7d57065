// The page: it opens a model, takes a picture or a video, and shows it before and after.

import { UpscaleError, open } from "../srsdk/browser.js";
import { VideoUpscaler } from "../srsdk/video.js";
import {
  after,
  before,
  buttons,
  duration,
  element,
  file,
  fit,
  frame,
  kilobytes,
  models,
  progress,
  say,
  show,
  showError,
  showSize,
  split,
  stage,
  video,
} from "./view.js";

/** @typedef {import("../srsdk/browser.js").Upscaler} Upscaler */

const BACKENDS = { wasm: "WebAssembly", webgpu: "WebGPU" };

/** What the page shows; a later task ends an earlier one. */
const state = {
  /** @type {Upscaler | null} */ upscaler: null,
  /** @type {AbortController | null} */ work: null,
  /** @type {VideoUpscaler | null} */ player: null,
  /** @type {Blob | null} */ source: null,
  name: "picture",
};

/**
 * Open a model instead of the one that is open.
 * @param {string} model
 */
async function openModel(model) {
  endWork();
  state.upscaler?.close();
  state.upscaler = null;
  models.disabled = true;
  say("status", `Loading ${model}…`);
  progress.removeAttribute("value");
  try {
    const upscaler = await open({ model });
    state.upscaler = upscaler;
    const { precision, modelBytes, backend, threads, notes } = upscaler.info;
    const precisionName = precision === "int8" ? "INT8" : "float32";
    say("fact-model", `×${upscaler.info.scale}, ${precisionName}, ${kilobytes(modelBytes)}`);
    const several = threads === 1 ? "1 thread" : `${threads} threads`;
    say("fact-backend", backend === "wasm" ? `${BACKENDS.wasm}, ${several}` : BACKENDS[backend]);
    element("fact-backend", HTMLElement).title = notes.join("\n");
    say("status", "Ready");
    document.documentElement.dataset.ready = model;
  } finally {
    progress.value = 0;
    models.disabled = false;
  }
}

/** Stop what runs, and forget it. */
function endWork() {
  state.work?.abort();
  state.work = null;
  state.player?.stop();
  state.player = null;
  buttons.abort.disabled = true;
  buttons.save.disabled = true;
  buttons.play.hidden = true;
}

/** Show the source again, with the open model. */
async function run() {
  endWork();
  const { source } = state;
  if (!source || !state.upscaler) return;
  delete document.documentElement.dataset.done;
  if (source.type.startsWith("video/")) await playVideo(source);
  else await enlargePicture(source, state.upscaler);
}

/**
 * @param {Blob} source
 * @param {Upscaler} upscaler
 */
async function enlargePicture(source, upscaler) {
  clearVideo();
  const work = new AbortController();
  state.work = work;
  const shown = await showBefore(source);
  if (!shown || state.work !== work) return;
  showSize(before.width, before.height, upscaler.info.scale);
  buttons.abort.disabled = false;
  say("status", "Enlarging…");
  const began = performance.now();
  try {
    const result = await upscaler.upscale(source, {
      signal: work.signal,
      onProgress: ({ done, total }) => {
        progress.value = done / total;
        say("status", `Tile ${done} of ${total}`);
      },
    });
    after.width = result.width;
    after.height = result.height;
    after.getContext("2d")?.putImageData(result, 0, 0);
    frame.classList.remove("waiting");
    say("fact-time", duration(performance.now() - began));
    say("status", "Done");
    progress.value = 1;
    buttons.save.disabled = false;
    document.documentElement.dataset.done = upscaler.info.model;
  } catch (error) {
    progress.value = 0;
    if (!work.signal.aborted) throw error;
    if (state.work === work) say("status", "Aborted");
  } finally {
    if (state.work === work) buttons.abort.disabled = true;
  }
}

/**
 * Draw the source as the browser enlarges it.
 * @param {Blob} source
 * @returns {Promise<boolean>} false: the worker will say why it cannot be read
 */
async function showBefore(source) {
  frame.classList.add("waiting");
  progress.value = 0;
  let bitmap;
  try {
    bitmap = await createImageBitmap(source);
  } catch (error) {
    const kind = source.type || "of unknown type";
    throw new UpscaleError(
      "picture",
      `${state.name} (${kind}) is not a picture that this browser can read; save it as PNG, JPEG or WebP`,
      error,
    );
  }
  before.width = bitmap.width;
  before.height = bitmap.height;
  before.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  show("picture");
  return true;
}

/**
 * @param {Blob} source
 */
async function playVideo(source) {
  clearVideo();
  frame.classList.add("waiting");
  progress.value = 0;
  video.src = URL.createObjectURL(source);
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () =>
      reject(new UpscaleError("picture", `${state.name} is not a video that this browser plays`));
  });
  const { upscaler } = state;
  if (!upscaler) return;
  show("video");
  showSize(video.videoWidth, video.videoHeight, upscaler.info.scale);
  state.player = new VideoUpscaler(video, after, upscaler, { onFrame: showFrame, onError: showError });
  state.player.start();
  buttons.play.hidden = false;
  buttons.play.textContent = "Pause";
  await video.play();
}

/**
 * @param {import("../srsdk/video.js").Counts} counts
 */
function showFrame({ shown, dropped, ms }) {
  frame.classList.remove("waiting");
  say("fact-time", `${duration(ms)} a frame`);
  say("status", `${shown} frames enlarged, ${dropped} dropped`);
  document.documentElement.dataset.done = "video";
}

function clearVideo() {
  if (!video.src) return;
  video.onerror = null;
  video.pause();
  URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

/**
 * @param {Blob} source
 * @param {string} name
 */
function take(source, name) {
  state.source = source;
  state.name = name;
  run().catch(showError);
}

async function saveResult() {
  const blob = await new Promise((resolve) => after.toBlob(resolve, "image/png"));
  if (!blob) throw new UpscaleError("picture", "this browser cannot encode a picture of this size as PNG");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${state.name.replace(/\.[^.]*$/, "")}_x${state.upscaler?.info.scale ?? ""}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function takeExample() {
  const answer = await fetch(new URL("example.png", import.meta.url));
  if (!answer.ok) throw new UpscaleError("picture", `example.png: the server answered ${answer.status}`);
  take(await answer.blob(), "example.png");
}

/**
 * @param {string} model
 */
function change(model) {
  openModel(model).then(run).catch(showError);
}

/**
 * @param {DataTransfer | null} data
 */
function takeFrom(data) {
  const dropped = data?.files[0];
  if (dropped) take(dropped, dropped.name);
}

split.addEventListener("input", () => frame.style.setProperty("--split", `${split.value}%`));
file.addEventListener("change", () => {
  if (file.files?.[0]) take(file.files[0], file.files[0].name);
  file.value = "";
});
models.addEventListener("change", () => change(models.value));
buttons.example.addEventListener("click", () => takeExample().catch(showError));
buttons.save.addEventListener("click", () => saveResult().catch(showError));
buttons.abort.addEventListener("click", () => state.work?.abort());
buttons.retry.addEventListener("click", () => {
  show("empty");
  if (state.upscaler) say("status", "Ready");
  else change(models.value);
});
buttons.play.addEventListener("click", () => {
  const paused = video.paused;
  buttons.play.textContent = paused ? "Pause" : "Play";
  if (paused) video.play().catch(showError);
  else video.pause();
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, () => stage.classList.remove("over"));
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  takeFrom(event.dataTransfer);
});
document.addEventListener("paste", (event) => takeFrom(event.clipboardData));
new ResizeObserver(fit).observe(stage);

async function begin() {
  const answer = await fetch(new URL("../models/index.json", import.meta.url));
  if (!answer.ok) throw new UpscaleError("model", `models/index.json: the server answered ${answer.status}`);
  /** @type {import("../srsdk/manifest.js").Index} */
  const index = await answer.json();
  models.replaceChildren(...index.models.map(({ name, scale }) => new Option(`${name} (×${scale})`, name)));
  models.value = index.realtime;
  await openModel(index.realtime);
  await run();
}

begin().catch(showError);
