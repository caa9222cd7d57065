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
from srsdk.errors import BackendError, ModelError, OutputError, SrsdkError
from srsdk.image import comparison
from srsdk.manifest import read_manifest

HOST = "127.0.0.1"
CACHE_S = 3600
"""How long gradio keeps uploaded pictures and results."""


@contextmanager
def serve(
    model: str | os.PathLike[str] = "gan_x4", *, port: int | None = None, **options: Any
) -> Iterator[str]:
    """Serve the page and yield its address; only this machine can reach it.

    Args:
        model: as for `Upscaler`; for a `vae` the page also shows the confidence.
        port: port of the page; None: the first free one from 7860.
        options: passed to `Upscaler`.

    Raises:
        BackendError: gradio is not installed.
        OutputError: the port is taken.
        SrsdkError: as for `Upscaler`.
    """
    gradio = _gradio()
    # Windows keeps a file that a library still has open; the result is not affected
    kept = tempfile.TemporaryDirectory(prefix="srsdk-demo-", ignore_cleanup_errors=True)
    with _open(model, options) as up, kept as folder:
        page = _page(gradio, up, Path(folder))
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
                footer_links=[],
                theme=gradio.themes.Base(font=["system-ui"], font_mono=["monospace"]),
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


def _open(model: str | os.PathLike[str], options: dict[str, Any]) -> Any:
    """Open an Upscaler, or a Sampler for a `vae` file."""
    path = models.find(model)
    manifest = read_manifest(path)
    if manifest is None or manifest.family != "vae":
        return srsdk.Upscaler(model, **options)
    if importlib.util.find_spec("srsdk.sampler") is None:
        raise ModelError(f"{path} is a vae, which this version of srsdk cannot run")
    return importlib.import_module("srsdk.sampler").Sampler(model, **options)


def _page(gradio: Any, up: Any, folder: Path) -> Any:
    is_vae = up.manifest.family == "vae"

    def upscale(name: str | None) -> tuple[Any, ...]:
        if name is None:
            return None, "", None, *([None] if is_vae else [])
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
        picture.change(upscale, picture, outputs, api_visibility="private")
    return page


def _upscale(up: Any, source: Path, folder: Path) -> tuple[Image.Image, Image.Image, str, Path]:
    target = folder / f"{source.stem}_x{up.scale}{source.suffix}"
    began_s = time.perf_counter()
    up.upscale_file(source, target, overwrite=True)
    ms = (time.perf_counter() - began_s) * 1000
    with Image.open(source) as image:
        small = ImageOps.exif_transpose(image).convert("RGB")
    with Image.open(target) as image:
        large = image.convert("RGB")
    text = f"{ms:.0f} ms with decoding and encoding: {_size(small)} to {_size(large)}"
    return comparison.enlarged(small, large.size), large, text, target


def _confidence(up: Any, source: Path) -> npt.NDArray[np.uint8]:
    confidence = up.sample(source, 0, confidence=True).confidence
    levels: npt.NDArray[np.uint8] = np.round(confidence * 255).astype(np.uint8)
    return levels


def _size(image: Image.Image) -> str:
    return f"{image.width}×{image.height}"
