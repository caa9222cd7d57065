"""The demo page: what stands where, and what happens when a picture or a choice comes."""

from __future__ import annotations

import base64
import html
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

import srsdk
from srsdk.budget import Budget
from srsdk.errors import PictureError, SrsdkError
from srsdk.image import comparison
from srsdk.serving.offers import Offers
from srsdk.serving.uploads import Folder

CACHE_S = 3600
"""How long uploaded pictures and results are kept, if there is room."""
CONCURRENT = 2
"""Pictures in work at a time, so that a slow one does not stop the others."""
PREVIEW_PX = 16_000_000
"""Pixels of the pictures under the slider; the file to download is never reduced."""
PREVIEW_BYTES = 12
"""Memory per pixel of the result while its preview is made."""
EXAMPLE = Path(__file__).with_name("astronaut.png")
"""NASA's portrait of Eileen Collins, reduced and cropped: public domain."""
WELCOME = "Drop a picture, or click the example."
CSS = """
.gradio-container .main.app { padding: 8px 12px !important; }
.gradio-container .column { gap: 8px; }
#title h1 { font-size: 1.05rem; margin: 0; }
#choices .form { display: flex; flex-wrap: nowrap; }
#kind { flex: 1 1 0 !important; min-width: 0 !important; }
#scale { flex: 0 0 auto !important; min-width: 0 !important; width: auto !important; }
#scale .wrap { flex-wrap: nowrap; gap: 4px; }
#scale input { position: absolute; opacity: 0; }
#scale label { padding: 7px 11px; }
#scale label.selected { background: var(--color-accent); color: white; }
#scale label:focus-within { outline: 2px solid; outline-offset: 1px; }
#sources { flex-wrap: nowrap; align-items: center; gap: 12px; }
#picture { flex: 1 1 0 !important; min-width: 0 !important; }
#example { flex: 0 0 auto !important; min-width: 0 !important; width: auto !important; }
#example .html-container, #title .html-container, #message .html-container { padding: 0; }
#example button { all: unset; cursor: pointer; text-align: center; font-size: .85rem; }
#example button:focus-visible { outline: 2px solid; outline-offset: 2px; }
#example img { height: 108px; width: 108px; max-width: none; border-radius: 6px; display: block; }
#message p { margin: 0; min-height: 1.4em; overflow-wrap: anywhere; }
#message .error { color: #b00020; font-weight: 600; }
.dark #message .error { color: #ff8a80; }
"""
"""Keeps all of it on the screen of a phone: 390 by 844 pixels."""


class Page:
    """One page for all visitors.

    Args:
        gradio: the library.
        offers: the models.
        folder: where uploads and results are kept.
    """

    def __init__(self, gradio: Any, offers: Offers, folder: Folder) -> None:
        self._gradio, self._offers, self._folder = gradio, offers, folder

    def build(self) -> Any:
        """Return the page, which `launch` serves."""
        gradio = self._gradio
        with gradio.Blocks(
            title="srsdk",
            analytics_enabled=False,
            delete_cache=(CACHE_S, CACHE_S),
            fill_width=True,
        ) as page:
            gradio.HTML(f"<h1>srsdk {srsdk.__version__}</h1>", elem_id="title")
            source = gradio.State(None)
            with gradio.Row():
                with gradio.Column(scale=3, min_width=320):
                    kind, scale = self._choices()
                    picture, example = self._sources()
                    message = gradio.HTML(
                        _said("Drop a picture, or click the example."), elem_id="message"
                    )
                with gradio.Column(scale=5, min_width=320):
                    shown = self._results()
            outputs = [*shown, message, source]
            events: list[tuple[Any, Any, list[Any], list[Any]]] = [
                (picture.upload, self._uploaded, [kind, scale, picture], outputs),
                (example.click, self._example, [kind, scale], [*outputs, picture]),
                (kind.input, self._again, [kind, scale, source], outputs),
                (scale.input, self._again, [kind, scale, source], outputs),
            ]
            for event, work, inputs, results in events:
                event(
                    work,
                    inputs,
                    results,
                    # gradio would open the file before we do, whatever its format
                    preprocess=False,
                    api_visibility="private",
                    show_progress_on=shown[0],
                    concurrency_limit=CONCURRENT,
                    concurrency_id="pictures",
                )
        return page

    def _choices(self) -> tuple[Any, Any]:
        gradio, offers = self._gradio, self._offers
        first = offers.first
        with gradio.Row(elem_id="choices"):
            kinds = [(text, name) for name, text in offers.kinds.items()]
            kind = gradio.Dropdown(
                kinds, value=first[0], label="model for", filterable=False, elem_id="kind",
                scale=3, interactive=len(kinds) > 1,
            )  # fmt: skip
            scales = [(f"×{scale}", scale) for scale in offers.scales]
            scale = gradio.Radio(scales, value=first[1], label="scale", elem_id="scale", scale=2)
        return kind, scale

    def _sources(self) -> tuple[Any, Any]:
        gradio = self._gradio
        with gradio.Row(elem_id="sources"):
            picture = gradio.Image(
                type="filepath",
                image_mode=None,  # pass the file unchanged: alpha, bit depth, profile
                sources=["upload"],
                label="your picture",
                height=132,
                scale=3,
                elem_id="picture",
            )
            data = base64.b64encode(EXAMPLE.read_bytes()).decode()
            image = f'<img src="data:image/png;base64,{data}" alt="portrait of an astronaut">'
            example = gradio.HTML(f"<button>{image}example</button>", scale=2, elem_id="example")
        return picture, example

    def _results(self) -> list[Any]:
        gradio = self._gradio
        # lossless: the default would add WebP artifacts
        slider = gradio.ImageSlider(
            format="png", label="bicubic | srsdk", interactive=False, max_height=720,
            elem_id="slider",
        )  # fmt: skip
        file = gradio.DownloadButton("download", interactive=False, size="sm", elem_id="result")
        if not self._offers.is_vae:
            return [slider, file]
        # the default third button would upload the picture to a service
        buttons = ["download", "fullscreen"]
        label = "confidence (white: certain)"
        sure = gradio.Image(format="png", label=label, buttons=buttons, elem_id="confidence")
        return [slider, file, sure]

    def _uploaded(self, kind: str, scale: int, value: Any) -> tuple[Any, ...]:
        name = value.get("path") if isinstance(value, dict) else None
        return self._again(kind, scale, name)

    def _example(self, kind: str, scale: int) -> tuple[Any, ...]:
        return *self._again(kind, scale, str(EXAMPLE)), None

    def _again(self, kind: str, scale: int, name: Any) -> tuple[Any, ...]:
        """Return what the components show: the result, or one sentence and nothing else."""
        if name is None:
            return *self._nothing(), _said(WELCOME), None
        if name != str(EXAMPLE) and not (isinstance(name, str) and self._folder.holds(name)):
            text = "the picture is no longer here; drop it again"
            return *self._nothing(), _said(text, is_error=True), None
        try:
            return *self._result(kind, scale, Path(name)), name
        except SrsdkError as error:
            # the visitor knows the name of the file, not the path of its copy
            text = str(error).replace(name, Path(name).name)
            return *self._nothing(), _said(text, is_error=True), name

    def _nothing(self) -> list[Any]:
        button = self._gradio.DownloadButton("download", value=None, interactive=False)
        return [None, button, *([None] if self._offers.is_vae else [])]

    def _result(self, kind: str, scale: int, source: Path) -> list[Any]:
        self._folder.make_room()
        # a folder for each: other visitors' pictures may have the same name
        results = Path(tempfile.mkdtemp(prefix="result-", dir=self._folder.path))
        target = results / f"{source.stem}_x{scale}{source.suffix}"
        began_s = time.perf_counter()
        try:
            self._offers.upscale(kind, scale, source, target)
        finally:
            if not target.exists():
                results.rmdir()
        ms = (time.perf_counter() - began_s) * 1000
        before, after, sizes = previews(self._offers.budget, source, target)
        button = self._gradio.DownloadButton("download", value=str(target), interactive=True)
        found = [(before, after), button]
        if self._offers.is_vae:
            found.append(_confidence(self._offers.up(kind, scale), source))
        return [*found, _said(f"{sizes} in {ms:.0f} ms")]


def _said(text: str, *, is_error: bool = False) -> str:
    kind = 'role="alert" class="error"' if is_error else 'role="status"'
    return f"<p {kind}>{html.escape(text)}</p>"


def previews(budget: Budget, source: Path, target: Path) -> tuple[Image.Image, Image.Image, str]:
    """Return both pictures at the size of the result, or smaller, and their sizes as text.

    Raises:
        PictureError: not enough memory, or one of them cannot be shown.
    """
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
