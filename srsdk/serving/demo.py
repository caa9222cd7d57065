"""Local demo page of `srsdk demo`: drop a picture and compare before and after with a slider."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from srsdk.errors import BackendError, OutputError
from srsdk.serving.bodies import MAX_BYTES
from srsdk.serving.guard import LOOPBACK, Guard, Rules
from srsdk.serving.offers import Offers
from srsdk.serving.page import CSS, Page
from srsdk.serving.uploads import Folder, Uploads

HOST = "127.0.0.1"
MAX_QUEUED = 16
"""Pictures that wait."""


@contextmanager
def serve(
    model: str | os.PathLike[str] | None = None, *, port: int | None = None, **options: Any
) -> Iterator[str]:
    """Serve the page and yield its address; only this machine can reach it.

    Only requests that name this machine in `Host` are answered, and none from other web pages.

    Args:
        model: the only one that the page offers, as for `Upscaler`; for a `vae` the page also shows
            the confidence. None: the shipped ones, by kind of picture and scale.
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
    with closing(Offers(model, options)) as offers, kept as name, _gradio_folder(name):
        folder = Folder(Path(name))
        page = Page(gradio, offers, folder).build()
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
                css=CSS,
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
