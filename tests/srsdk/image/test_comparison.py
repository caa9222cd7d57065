"""Comparison pages, checked as text and used in a real Chromium."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from srsdk.cli.main import main

RED, BLUE = (200, 30, 20), (20, 40, 210)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A small red picture, with a name that HTML must escape, and a blue one of twice its size."""
    Image.new("RGB", (150, 100), RED).save(tmp_path / "small <&>.png")
    Image.new("RGB", (300, 200), BLUE).save(tmp_path / "large.png")
    return str(tmp_path / "small <&>.png"), str(tmp_path / "large.png")


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A Chromium browser; skips if there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs playwright: pip install playwright")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_the_page_needs_nothing_else(pair: tuple[str, str], tmp_path: Path) -> None:
    """The page contains only data URLs, and a policy that forbids others."""
    page = tmp_path / "page.html"
    assert main(["compare", *pair, "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "{{" not in text
    assert "default-src 'none'" in text
    addresses = re.findall(r"(?:src|href)=\"([^\"]{0,30})", text)
    assert len(addresses) == 2
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "small &lt;&amp;&gt;.png (bicubic)" in text
    assert "<&>" not in text


def test_side_by_side(pair: tuple[str, str], tmp_path: Path) -> None:
    """A picture suffix gives a side-by-side picture; the smaller picture is enlarged."""
    assert main(["compare", *pair, "-o", str(tmp_path / "both.png")]) == 0
    with Image.open(tmp_path / "both.png") as image:
        assert image.size == (300 + 8 + 300, 200)
        assert image.getpixel((10, 10)) == RED
        assert image.getpixel((400, 10)) == BLUE


def test_what_is_there_is_kept(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing target needs `--force`; a bad picture gives one error line."""
    page = tmp_path / "page.html"
    page.write_text("precious")
    assert main(["compare", *pair, "-o", str(page)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["compare", *pair, "-o", str(page), "--force"]) == 0
    assert main(["compare", pair[0], str(page), "-o", str(tmp_path / "b.html")]) == 1
    assert "not a picture" in capsys.readouterr().err


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", ["both.png", "page.html"])
def test_a_picture_is_not_its_own_comparison(
    pair: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    which: int,
    name: str,
) -> None:
    """A target that is one of the two, by any path, is refused; `--force` does not help."""
    before = Path(pair[which]).read_bytes()
    targets, folder = [pair[which]], tmp_path / "by another path"
    if os.name == "posix":
        folder.symlink_to(tmp_path)
        targets.append(str(folder / Path(pair[which]).name))
    call = ["compare", *pair, "--force", "-o"]
    for target in targets:
        assert main([*call, target]) == 2
        assert "would be replaced by the comparison" in capsys.readouterr().err
        assert Path(pair[which]).read_bytes() == before
    assert main([*call, str(tmp_path / name)]) == 0


@pytest.mark.parametrize(("name", "need"), [("both.png", 1_200_000), ("page.html", 2_880_000)])
def test_memory_is_limited(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, need: int
) -> None:
    """What both pictures and their comparison take together is checked before they are decoded."""
    call = ["compare", *pair, "-o", str(tmp_path / name), "--max-memory"]
    assert main([*call, str(need - 1)]) == 1
    assert f"needs {need:,} bytes of memory" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert main([*call, str(need)]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's highest memory")
@pytest.mark.parametrize(("name", "per_pixel"), [("o.png", "SHEET"), ("o.html", "PAGE")])
def test_no_more_memory_than_was_checked(tmp_path: Path, name: str, per_pixel: str) -> None:
    """The constants that the check uses are not below what a comparison takes."""
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", compress_level=1)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from srsdk.image import comparison\n"
        "a, target = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "comparison.compare(a, a, target)\n"  # loads what is loaded late
        "comparison.compare(a, a, target, overwrite=True)\n"
        "print(used(), comparison.SHEET_BYTES, comparison.PAGE_BYTES)\n"
    )
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    peak = {}
    for picture in (small, tmp_path / "a.png"):
        call = [sys.executable, "-c", code, str(picture), str(tmp_path / f"{picture.stem}.{name}")]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        peak[picture.stem], sheet, page = map(int, done.stdout.split())
    allowed = {"SHEET": sheet, "PAGE": page}[per_pixel]
    assert (peak["a"] - peak["small"]) / (1000 * 1500) < allowed


def shot(page: Any) -> npt.NDArray[Any]:
    """Return a screenshot of the two pictures, (H, W, 3)."""
    import io

    data = page.locator("#stage").screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def share_of_red(page: Any) -> float:
    """Return the fraction of the middle row that shows the left picture."""
    row = shot(page)[shot(page).shape[0] // 2]
    return float(np.mean(np.abs(row - RED).max(axis=1) < 40))


def test_the_slider_in_a_browser(pair: tuple[str, str], tmp_path: Path, chromium: Any) -> None:
    """The slider moves by keys and mouse; zoom is pixel-exact; no requests, no errors."""
    target = tmp_path / "page.html"
    assert main(["compare", *pair, "-o", str(target)]) == 0
    page = chromium.new_page(viewport={"width": 800, "height": 600})
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(target.as_uri())
    assert page.title() == "small <&>.png (bicubic) | large.png"
    assert shot(page).shape[:2] == (200, 300)
    assert share_of_red(page) == pytest.approx(0.5, abs=0.03)
    page.locator("#slider").focus()
    page.keyboard.press("End")
    assert share_of_red(page) > 0.97
    page.keyboard.press("Home")
    assert share_of_red(page) < 0.03
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 225, box["y"] + 100)
    assert share_of_red(page) == pytest.approx(0.75, abs=0.03)
    page.get_by_text("2:1").click()
    assert shot(page).shape[:2] == (400, 600)
    page.get_by_text("Fit").click()
    page.set_viewport_size({"width": 200, "height": 600})
    assert shot(page).shape[1] == pytest.approx(200, abs=1)
    assert errors == []
    assert [address for address in requests if not address.startswith("data:")] == [target.as_uri()]
