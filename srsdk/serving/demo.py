"""Local demo page of `srsdk demo`: drop a picture and compare before and after with a slider."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

import srsdk
from srsdk import models
from srsdk.budget import INTERRUPTIBLE, Budget
from srsdk.errors import BackendError, ModelError, OutputError, PictureError, SrsdkError
from srsdk.image import comparison
from srsdk.manifest import read_manifest
from srsdk.serving.answers import MAX_FRAMES, TIMEOUT_S
from srsdk.serving.bodies import MAX_BYTES
from srsdk.serving.guard import LOOPBACK, Guard, Rules
from srsdk.serving.uploads import Folder, Uploads

HOST = "127.0.0.1"
CACHE_S = 3600
"""How long uploaded pictures and results are kept, if there is room."""
CONCURRENT, MAX_QUEUED = 2, 16
"""Pictures in work at a time, so that a slow one does not stop the others, and pictures waiting."""
MAX_RESULT_PX = 160_000_000
"""Largest result: browsers and Pillow's own limit end soon after it."""
PREVIEW_PX = 16_000_000
"""Pixels of the pictures under the slider; the file to download is never reduced."""
PREVIEW_BYTES = 12
"""Memory per pixel of the result while its preview is made."""


@contextmanager
def serve(
    model: str | os.PathLike[str] = "gan_x4", *, port: int | None = None, **options: Any
) -> Iterator[str]:
    """Serve the page and yield its address; only this machine can reach it.

    Only requests that name this machine in `Host` are answered, and none from other web pages.

    Args:
        model: as for `Upscaler`; for a `vae` the page also shows the confidence.
        port: port of the page; None: the first free one from 7860.
        options: passed to `Upscaler`; `budget` replaces the limits on pictures.

    Raises:
        BackendError: gradio is not installed.
        OutputError: the port is taken.
        SrsdkError: as for `Upscaler`.
    """
    gradio = _gradio()
    # Windows keeps a file that a library still has open; the result is not affected
    kept = tempfile.TemporaryDirectory(prefix="srsdk-demo-", ignore_cleanup_errors=True)
    with _open(model, options) as up, kept as name, _gradio_folder(name):
        folder = Folder(Path(name))
        page = _page(gradio, up, folder)
        page.queue(max_size=MAX_QUEUED)
        try:
            _, address, _ = page.launch(
                server_name=HOST,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                enable_monitoring=False,
                show_error=True,
                max_file_size=MAX_BYTES,
                footer_links=[],
                theme=gradio.themes.Base(font=["system-ui"], font_mono=["monospace"]),
                app_kwargs={"middleware": _middleware(folder)},
            )
        except OSError as error:
            raise OutputError(f"the page cannot be opened: {error}") from error
        try:
            yield str(address)
        finally:
            page.close(verbose=False)


def _gradio() -> Any:
    if importlib.util.find_spec("gradio") is None:
        raise BackendError("the demo needs gradio: pip install 'srsdk[demo]'")
    # read when gradio and huggingface_hub are imported
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("gradio")


@contextmanager
def _gradio_folder(name: str) -> Iterator[None]:
    """Let gradio keep its files in a folder of ours, not in one of all its applications."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def _middleware(folder: Folder) -> list[Any]:
    """Return what stands before gradio, the first one first."""
    middleware = importlib.import_module("starlette.middleware").Middleware
    rules = Rules(hosts=LOOPBACK, same_port=True)
    return [middleware(Guard, rules=rules), middleware(Uploads, folder=folder)]


def _open(model: str | os.PathLike[str], options: dict[str, Any]) -> Any:
    """Open an Upscaler, or a Sampler for a `vae` file."""
    path = models.find(model)
    manifest = read_manifest(path)
    pixels = MAX_RESULT_PX // (manifest.scale if manifest else 4) ** 2
    budget = Budget(pixels=pixels, seconds=TIMEOUT_S, pages=MAX_FRAMES, formats=INTERRUPTIBLE)
    options = {"budget": budget, **options}
    if manifest is None or manifest.family != "vae":
        return srsdk.Upscaler(model, **options)
    if importlib.util.find_spec("srsdk.sampler") is None:
        raise ModelError(f"{path} is a vae, which this version of srsdk cannot run")
    return importlib.import_module("srsdk.sampler").Sampler(model, **options)


def _page(gradio: Any, up: Any, folder: Folder) -> Any:
    is_vae = up.manifest.family == "vae"

    def upscale(value: Any) -> tuple[Any, ...]:
        if value is None:
            return None, "", None, *([None] if is_vae else [])
        name = value.get("path") if isinstance(value, dict) else None
        if not isinstance(name, str) or not folder.holds(name):
            text = "the picture is no longer here; drop it again"
            raise gradio.Error(text, print_exception=False)
        try:
            before, after, text, target = _upscale(up, Path(name), folder)
            sure = [_confidence(up, Path(name))] if is_vae else []
        except SrsdkError as error:
            # the visitor knows the name of the file, not the path of its copy
            text = str(error).replace(name, Path(name).name)
            raise gradio.Error(text, print_exception=False) from error
        return (before, after), text, str(target), *sure

    title = f"srsdk {srsdk.__version__}: {up.manifest.name}"
    with gradio.Blocks(
        title=title, analytics_enabled=False, delete_cache=(CACHE_S, CACHE_S)
    ) as page:
        gradio.Markdown(f"## {title} ×{up.scale}, {up.backend} on {up.device}")
        with gradio.Row():
            with gradio.Column(scale=1):
                picture = gradio.Image(
                    type="filepath",
                    image_mode=None,  # pass the file unchanged: alpha, bit depth, profile
                    sources=["upload"],
                    label="drop a picture",
                    elem_id="picture",
                )
                text = gradio.Textbox(label="time", interactive=False, elem_id="time")
                file = gradio.File(label="result", interactive=False, elem_id="result")
            with gradio.Column(scale=3):
                # lossless: the default would add WebP artifacts
                slider = gradio.ImageSlider(
                    format="png",
                    label="bicubic | " + up.manifest.name,
                    interactive=False,
                    max_height=720,
                    elem_id="slider",
                )
                outputs = [slider, text, file]
                if is_vae:
                    label = "confidence (white: certain)"
                    # the default third button would upload the picture to a service
                    buttons = ["download", "fullscreen"]
                    sure = gradio.Image(
                        format="png", label=label, buttons=buttons, elem_id="confidence"
                    )
                    outputs.append(sure)
        picture.change(
            upscale,
            picture,
            outputs,
            # gradio would open the file before we do, whatever its format
            preprocess=False,
            api_visibility="private",
            concurrency_limit=CONCURRENT,
        )
    return page


def _upscale(up: Any, source: Path, folder: Folder) -> tuple[Image.Image, Image.Image, str, Path]:
    folder.make_room()
    # a folder for each: other visitors' pictures may have the same name
    results = Path(tempfile.mkdtemp(prefix="result-", dir=folder.path))
    target = results / f"{source.stem}_x{up.scale}{source.suffix}"
    began_s = time.perf_counter()
    try:
        up.upscale_file(source, target)
    finally:
        if not target.exists():
            results.rmdir()
    ms = (time.perf_counter() - began_s) * 1000
    before, after, sizes = _previews(up.budget, source, target)
    return before, after, f"{ms:.0f} ms with decoding and encoding: {sizes}", target


def _previews(budget: Budget, source: Path, target: Path) -> tuple[Image.Image, Image.Image, str]:
    """Return both pictures at the size of the result, or smaller, and their sizes as text."""
    try:
        with Image.open(target) as image, budget.reserve(_pixels(image.size) * PREVIEW_BYTES):
            large = image.convert("RGB")
            sizes = _text(large.size)
            factor = (PREVIEW_PX / _pixels(large.size)) ** 0.5
            if factor < 1:
                width, height = (max(1, int(side * factor)) for side in large.size)
                large = large.resize((width, height), reducing_gap=2.0)
            with Image.open(source) as image:
                small = ImageOps.exif_transpose(image).convert("RGB")
            return comparison.enlarged(small, large.size), large, f"{_text(small.size)} to {sizes}"
    # Pillow raises all of these, and its own, which derive from them
    except (OSError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise PictureError(f"{source}: the result cannot be shown: {error}") from error


def _pixels(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _confidence(up: Any, source: Path) -> npt.NDArray[np.uint8]:
    confidence = up.sample(source, 0, confidence=True).confidence
    levels: npt.NDArray[np.uint8] = np.round(confidence * 255).astype(np.uint8)
    return levels


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
