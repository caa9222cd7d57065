"""The gallery: pictures that may be published, what the models make of them, and the page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import main
from benchmarks.publish import tables
from benchmarks.publish.site import cases, gallery
from benchmarks.publish.site.cases import Case
from training.evaluation.metrics import psnr_y

CASES = cases.read()
OWN = [case for case in CASES if case.license == "Apache-2.0" or case.file.startswith("samples/")]
"""Cases that need no data."""


def published(case: Case) -> dict[str, float]:
    """Return the PSNR-Y that the page gives for each method of a case, dB."""
    text = gallery.PAGE.read_text(encoding="utf-8")
    found = {}
    for method in case.methods:
        name = f"{case.name}-{method.replace('+', '-')}.webp"
        (caption,) = re.findall(rf"{name}\" alt=.*<figcaption>(.*)</figcaption>", text)
        if method != "truth":
            found[method] = float(re.findall(r"([\d.]+) dB", caption)[0])
    return found


def check(case: Case, data: Path) -> None:
    """Compute a case again; compare its pictures and scores with the published ones."""
    shown = gallery.panels(case, gallery.original(case, data))
    for method, picture in shown.items():
        with Image.open(gallery.IMAGES / f"{case.name}-{method.replace('+', '-')}.webp") as kept:
            # WebP of quality 90 loses some; another picture would be below 25 dB
            assert psnr_y(np.asarray(kept), picture, border_px=0) > 29, f"{case.name} {method}"
    for method, db in published(case).items():
        # 0.1: ONNX Runtime and float32 kernels of other processors
        assert psnr_y(shown[method], shown["truth"], border_px=4) == pytest.approx(db, abs=0.1)


@pytest.mark.parametrize("case", OWN, ids=lambda case: case.name)
def test_pictures_of_our_own(case: Case, tmp_path: Path) -> None:
    """The published pictures and scores are those of today's models."""
    check(case, tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("case", [c for c in CASES if c not in OWN], ids=lambda case: case.name)
def test_pictures_of_others(case: Case) -> None:
    """The same, where the pictures are at hand."""
    data = Path(os.environ.get("SRSDK_DATA", ""))
    if not (data / case.file).is_file():
        pytest.skip("needs the gallery's pictures: set SRSDK_DATA to the folder with train/Gb82")
    check(case, data)


def test_enough_is_shown() -> None:
    """At least eight successes beside bicubic, and the limits that users meet."""
    assert sum(not case.fails for case in CASES) >= 8
    assert {"text", "face", "moire", "weave", "jpeg"} <= {case.name for case in CASES if case.fails}
    for case in CASES:
        assert case.methods[0] == "bicubic"
        assert case.methods[-1] == "truth"


def test_the_files_are_those_of_the_page() -> None:
    """Nothing is missing, nothing is left over, and the repository stays small."""
    text = gallery.PAGE.read_text(encoding="utf-8")
    files = {path.name for path in gallery.IMAGES.iterdir()}
    assert set(re.findall(r"images/gallery/([\w.-]+)", text)) == files
    assert sum(path.stat().st_size for path in gallery.IMAGES.iterdir()) < 3_000_000
    assert gallery.FRONT.stat().st_size < 400_000


def test_each_picture_has_its_terms() -> None:
    """Source, author and terms stand below each row, and in the table of docs/licenses.md."""
    text = gallery.PAGE.read_text(encoding="utf-8")
    terms = (gallery.PAGE.parent / "licenses.md").read_text(encoding="utf-8")
    for case in CASES:
        part = text.partition(f"### {case.title}\n")[2].partition("###")[0]
        assert cases.LICENSES[case.license] in part
        assert case.author in part
        assert case.author in terms


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the crops, the page's part between its markers, and the README's picture."""
    monkeypatch.setattr(cases, "read", lambda: OWN[:1])
    page = tmp_path / "page.md"
    page.write_text(f"above\n{gallery.BEGIN}\nold\n{tables.END}\nbelow\n", encoding="utf-8")
    call = ["--out", str(tmp_path / "crops"), "--page", str(page)]
    call += ["--front", str(tmp_path / "front.jpg"), "--data", str(tmp_path)]
    assert main(["gallery", *call]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("above\n")
    assert f"### {OWN[0].title}\n" in text
    assert len(list((tmp_path / "crops").iterdir())) == len(OWN[0].methods)
    with Image.open(tmp_path / "front.jpg") as front, Image.open(gallery.FRONT) as kept:
        assert psnr_y(np.asarray(front), np.asarray(kept), border_px=0) > 35


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('license = "CC-BY-NC-4.0"', "license 'CC-BY-NC-4.0', expected one of CC0-1.0"),
        ("x = 2", "must be multiples of 4"),
        ("zoom = 2", "unknown zoom"),
        ("x = 4000", "is outside of"),
        ('file = "nothing.png"\nlicense = "CC0-1.0"', "no file"),
    ],
)
def test_errors(
    change: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each is one sentence, before anything is written."""
    lines = {
        "name": '"a"',
        "title": '"A"',
        "remark": '"R."',
        "file": '"weave"',
        "source": '"S"',
        "license": '"Apache-2.0"',
        "methods": '["bicubic", "truth"]',
        **dict(line.split(" = ") for line in change.split("\n")),
    }
    _write(tmp_path / "cases.toml", [f"{key} = {value}" for key, value in lines.items()])
    monkeypatch.setattr(cases.read, "__defaults__", (tmp_path / "cases.toml",))
    out = tmp_path / "crops"
    assert main(["gallery", "--data", str(tmp_path), "--out", str(out)]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(["[[case]]", *lines]), encoding="utf-8")
