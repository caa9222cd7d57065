"""The exported folder in a real Chromium: pictures, the page, its errors, a video, its requests."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_picture
from tests.export.web.fixtures import Case, Levels
from tests.export.web.fixtures import expected as expected
from tests.export.web.fixtures import library as library
from tests.export.web.fixtures import package as package
from tests.export.web.fixtures import site as site
from tests.export.web.serving import served
from tests.srsdk.serving import browser

UPSCALE = """
async ({ levels, png, width, height, options }) => {
    const { open } = await import("./srsdk/browser.js");
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const source = png ? new Blob([bytes(png)], { type: "image/png" })
        : new ImageData(new Uint8ClampedArray(bytes(levels)), width, height);
    const upscaler = await open(options);
    const result = await upscaler.upscale(source);
    const tiled = await upscaler.upscale(source, { tile: [41, 60] });
    upscaler.close();
    let text = "";
    for (const level of result.data) text += String.fromCharCode(level);
    return {
        info: upscaler.info, size: [result.height, result.width], data: btoa(text),
        equal: tiled.data.every((level, i) => level === result.data[i]),
    };
}
"""
ABORT = """
async () => {
    const { open, upscale, UpscaleError } = await import("./srsdk/browser.js");
    const picture = new ImageData(160, 120);
    const upscaler = await open({ model: "realtime_x2" });
    const seen = [];
    const stop = new AbortController();
    const onProgress = (progress) => { seen.push(progress); stop.abort(); };
    const work = upscaler.upscale(picture, { tile: 40, onProgress, signal: stop.signal });
    const error = await work.catch((reason) => reason);
    const after = await upscaler.upscale(picture);
    upscaler.close();
    const closed = await upscaler.upscale(picture).catch((reason) => reason);
    const wrong = await upscale(document.body).catch((reason) => reason);
    const scale = await upscale(picture, { scale: 9 }).catch((reason) => reason);
    return {
        seen: seen.length, total: seen[0].total, name: error.name, width: after.width,
        closed: closed.message, wrong: wrong.message, scale: scale.message,
        ours: [closed, wrong, scale].every((each) => each instanceof UpscaleError),
    };
}
"""
FAILED_WORKER = """
async () => {
    const workers = [];
    const Before = Worker;
    window.Worker = class extends Before {
        constructor(...words) { super(...words); workers.push(this); }
    };
    const { upscale } = await import("./srsdk/browser.js");
    const picture = new ImageData(16, 12);
    const options = { model: "realtime_x2" };
    await upscale(picture, options);
    workers[0].dispatchEvent(new ErrorEvent("error", { message: "gone" }));
    const after = await upscale(picture, options);
    return { width: after.width, workers: workers.length };
}
"""


@pytest.fixture(params=[True], ids=["isolated"])
def address(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The folder's address; the page is cross-origin isolated."""
    with served(site, isolated=request.param) as found:
        yield found


def upscaled(page: Any, picture: bytes | Levels, **options: str) -> dict[str, Any]:
    """Run `UPSCALE` with an encoded picture, or with RGBA levels."""
    request: dict[str, Any] = {"options": options}
    if isinstance(picture, bytes):
        request["png"] = base64.b64encode(picture).decode()
    else:
        height, width, _ = picture.shape
        text = base64.b64encode(picture.tobytes()).decode()
        request |= {"levels": text, "height": height, "width": width}
    found: dict[str, Any] = page.evaluate(UPSCALE, request)
    found["levels"] = np.frombuffer(base64.b64decode(found.pop("data")), np.uint8)
    return found


def encoded(levels: Levels) -> bytes:
    """Return a PNG."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()


def test_pictures_are_within_one_level_of_python(
    address: str, expected: tuple[Path, list[Case]]
) -> None:
    """Three pictures, two models in both precisions, with threads; tiled equals untiled."""
    folder, cases = expected
    with browser.window() as page:
        page.goto(address)
        for case in cases:
            levels = np.fromfile(folder / f"{case.name}.rgba", np.uint8)
            source = levels.reshape(case.height, case.width, 4)
            picture = encoded(source[..., :3]) if case.name.startswith("photo") else source
            found = upscaled(page, picture, model=case.model, precision=case.precision)
            wanted = np.fromfile(folder / f"{case.name}.python", np.uint8)
            assert found["size"] == [case.height * 2, case.width * 2]
            assert np.abs(found["levels"].astype(np.int16) - wanted).max() <= 1, case.name
            assert found["equal"], case.name
            assert found["info"]["backend"] == "wasm"
            assert found["info"]["precision"] == case.precision


def test_a_page_that_is_not_isolated_has_one_thread(site: Path) -> None:
    """It says so, names the headers, and computes the same."""
    picture = np.dstack([make_picture(30, 40), np.full((30, 40), 255, np.uint8)])
    results = []
    for isolated in (False, True):
        with served(site, isolated=isolated) as address, browser.window() as page:
            page.goto(address)
            results.append(upscaled(page, picture, model="realtime_x2"))
    notes = " ".join(results[0]["info"]["notes"])
    assert results[0]["info"]["threads"] == 1
    assert "Cross-Origin-Opener-Policy: same-origin" in notes
    np.testing.assert_array_equal(results[0]["levels"], results[1]["levels"])


def test_progress_abort_and_errors(address: str) -> None:
    """An abort rejects at once, and the model can be used again; errors are of our class."""
    with browser.window() as page:
        page.goto(address)
        found = page.evaluate(ABORT)
    assert found["seen"] == 1
    assert found["total"] > 4
    assert found["name"] == "AbortError"
    assert found["width"] == 320
    assert "is closed: open another one" in found["closed"]
    assert "got HTMLBodyElement, expected ImageData, ImageBitmap or Blob" in found["wrong"]
    assert "scale is 9, but there are these models: gan_x2 (x2), realtime_x2 (x2)" in found["scale"]
    assert found["ours"]


def test_a_worker_that_fails_is_replaced(address: str) -> None:
    """`upscale` keeps a model open, but not one whose worker has ended."""
    with browser.window() as page:
        page.goto(address)
        assert page.evaluate(FAILED_WORKER) == {"width": 32, "workers": 2}


def test_the_page_enlarges_the_example(address: str) -> None:
    """With the realtime model, without a request elsewhere or an error; it fits on a phone."""
    asked: list[str] = []
    errors: list[str] = []
    with browser.window() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("response", lambda got: errors.append(got.url) if got.status >= 400 else None)
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("html[data-ready=realtime_x2]")
        page.click("#example")
        page.wait_for_selector("html[data-done=realtime_x2]")
        assert "256 × 256 → 512 × 512 px" in page.inner_text("#facts")
        assert "WebAssembly" in page.inner_text("#fact-backend")
        page.select_option("#model", "gan_x2")
        page.wait_for_selector("html[data-done=gan_x2]")
        with page.expect_download() as download:
            page.click("#save")
        assert download.value.suggested_filename == "example_x2.png"
        with Image.open(download.value.path()) as saved:
            assert saved.size == (512, 512)
        for width, height in ((1280, 800), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            sizes = page.evaluate("[document.body.scrollWidth, document.body.scrollHeight]")
            assert sizes == [width, height]
            box = page.locator("#frame").bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    assert [url for url in asked if not url.startswith((address, "blob:"))] == []
    assert errors == []


@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_model_that_does_not_load_is_said(address: str, site: Path, damage: str) -> None:
    """The page shows what was expected, instead of an empty stage."""
    data = (site / "models" / "realtime_x2.int8.onnx").read_bytes()
    bodies = {"missing": b"", "cut": data[:1000], "changed": data[:-1] + b"?"}
    messages = {
        "missing": "the server answered 404; copy the whole folder",
        "cut": f"got 1000 bytes, expected {len(data)}",
        "changed": "its SHA-256 is",
    }
    status = 404 if damage == "missing" else 200
    with browser.window() as page:
        page.route("**/*.onnx", lambda route: route.fulfill(status=status, body=bodies[damage]))
        page.goto(address)
        page.wait_for_selector("[data-state=error]")
        assert "The model does not load" in page.inner_text("#error")
        assert messages[damage] in page.inner_text("#error")
        assert page.inner_text("#status") == "Stopped"


def test_a_file_that_is_no_picture_is_said(address: str) -> None:
    """And the page goes on with the next one."""
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": encoded(make_picture(20, 30))}
    with browser.window() as page:
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.set_input_files("#file", text)
        page.wait_for_selector("[data-state=error]")
        assert "notes.txt (text/plain) is not a picture" in page.inner_text("#error")
        page.set_input_files("#file", picture)
        page.wait_for_selector("html[data-done]")
        assert "30 × 20 → 60 × 40 px" in page.inner_text("#facts")


def film(path: Path) -> bytes:
    """Return a WebM file of two seconds, 25 frames a second, whose frames become brighter."""
    av = pytest.importorskip("av", reason="pip install 'srsdk[video]'")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        for index in range(50):
            pixels = make_picture(72, 128) // 2 + index
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def test_a_video_plays_enlarged(address: str, tmp_path: Path) -> None:
    """Frames appear on the canvas in twice the size; what comes meanwhile is dropped."""
    data = film(tmp_path / "film.webm")
    with browser.window() as page:
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.set_input_files(
            "#file", {"name": "film.webm", "mimeType": "video/webm", "buffer": data}
        )
        page.wait_for_selector("html[data-done=video]")
        assert "128 × 72 → 256 × 144 px" in page.inner_text("#facts")
        page.wait_for_timeout(3000)
        page.click("#play")
        page.wait_for_timeout(1500)
        found = re.fullmatch(
            r"(\d+) frames enlarged, (\d+) dropped", page.inner_text("#status").strip()
        )
        assert found is not None
        assert int(found[1]) >= 3
        sizes = page.evaluate("(c => [c.width, c.height])(document.getElementById('after'))")
        assert sizes == [256, 144]
        # paused: the canvas shows the frame that the video shows
        differences = page.evaluate(SAME_FRAME)
    assert max(differences) < 12


SAME_FRAME = """
() => {
    const mean = (source) => {
        const canvas = new OffscreenCanvas(128, 72);
        const context = canvas.getContext("2d");
        context.drawImage(source, 0, 0, 128, 72);
        const { data } = context.getImageData(0, 0, 128, 72);
        return [0, 1, 2].map((c) => {
            let sum = 0;
            for (let at = c; at < data.length; at += 4) sum += data[at];
            return sum / (128 * 72);
        });
    };
    const [video, after] = ["video", "after"].map((id) => mean(document.getElementById(id)));
    return video.map((level, c) => Math.abs(level - after[c]));
}
"""
