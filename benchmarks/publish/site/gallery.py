"""`python -m benchmarks gallery`: crops beside bicubic and the truth, for the site's gallery."""

from __future__ import annotations

import argparse
import html
import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

import srsdk
from benchmarks.machine import ROOT
from benchmarks.publish import tables
from benchmarks.publish.site import cases, drawings, front, sheets
from benchmarks.publish.site.cases import LICENSES, METHODS, Case
from benchmarks.publish.site.drawings import Picture
from benchmarks.records import RecordError

PAGE = ROOT / "docs" / "gallery.md"
IMAGES = ROOT / "docs" / "images" / "gallery"
FRONT = IMAGES.with_name("before-after.jpg")
BEGIN = "<!-- python -m benchmarks gallery: begin -->"
SCALE = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gallery`."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DATA",
        help="folder of the pictures that gallery.toml names, such as train/Gb82",
    )
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the crops")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write them into")
    parser.add_argument("--front", type=Path, default=FRONT, help="picture of the README")
    parser.add_argument(
        "--sheets",
        type=Path,
        metavar="DIR",
        help="write sheets of all models instead: x1.png, x2.png and x4.png in this folder",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the crops and the page's part that shows them; or sheets of all models.

    Raises:
        RecordError: a picture is missing, a region outside of its picture, or a page without
            markers.
    """
    found = cases.read()
    originals = {case.name: original(case, arguments.data) for case in found}
    if arguments.sheets:
        shown = [case for case in found if case.sheet]
        regions = {case.name: (case.x, case.y, case.side) for case in shown}
        sheets.write(
            {case.title: (originals[case.name], regions[case.name]) for case in shown},
            arguments.sheets,
        )
        return 0
    page = arguments.page.read_text(encoding="utf-8")
    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = {True: "", False: ""}
    for case in found:
        parts[case.fails] += _written(case, originals[case.name], arguments.out)
    text = f"## Where it works\n\n{parts[False]}## Where it fails\n\n{parts[True]}"
    after = tables.replaced(page, text, str(arguments.page), begin=BEGIN)
    arguments.page.write_text(after, encoding="utf-8")
    front.write(arguments.front)
    return 0


def original(case: Case, data: Path) -> Picture:
    """Return the ground truth of a case, (H, W, 3) uint8, cut to a multiple of the scale.

    Raises:
        RecordError: the picture is missing, or the region outside of it.
    """
    if case.license == "Apache-2.0":
        picture: Picture = getattr(drawings, case.file)()
    else:
        path = (ROOT if case.file.startswith("samples/") else data) / case.file
        if not path.is_file():
            raise RecordError(f"gallery.toml: case {case.name!r}: no file {path}")
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB").reduce(case.shrink))
    height, width = (length // SCALE * SCALE for length in picture.shape[:2])
    if case.y + case.side > height or case.x + case.side > width:
        raise RecordError(f"gallery.toml: case {case.name!r} is outside of {width}x{height}")
    return picture[:height, :width]


def panels(case: Case, truth: Picture) -> dict[str, Picture]:
    """Return the region as each method gives it, (side, side, 3) uint8.

    The whole picture is reduced and enlarged, so that the region has its surroundings.
    """
    from training.data.resize import imresize

    small = imresize(truth, 1 / SCALE)
    if case.jpeg:
        small = _compressed(small, case.jpeg)
    where = np.s_[case.y : case.y + case.side, case.x : case.x + case.side]
    whole = {"truth": truth, "bicubic": imresize(small, SCALE)}
    for method in case.methods:
        if method not in METHODS:
            whole[method] = _upscaler(method)(small)
    return {method: whole[method][where] for method in case.methods}


def _compressed(picture: Picture, quality: int) -> Picture:
    body = io.BytesIO()
    Image.fromarray(picture).save(body, "JPEG", quality=quality)
    with Image.open(body) as image:
        return np.asarray(image.convert("RGB"))


@cache
def _upscaler(method: str) -> srsdk.Upscaler | srsdk.Chain:
    *before, last = method.split("+")
    up = srsdk.Upscaler(last)
    return srsdk.Chain(*(srsdk.Restorer(name) for name in before), up) if before else up


def _written(case: Case, truth: Picture, folder: Path) -> str:
    """Write the panels of a case as WebP; return its part of the page."""
    from training.evaluation.metrics import psnr_y

    shown = panels(case, truth)
    exact = truth[case.y : case.y + case.side, case.x : case.x + case.side]
    figures = []
    for method, picture in shown.items():
        name = f"{case.name}-{method.replace('+', '-')}.webp"
        Image.fromarray(picture).save(folder / name, quality=90, method=6)
        same = method == "truth"
        db = "" if same else f", {psnr_y(picture, exact, border_px=SCALE):.2f} dB"
        figures.append(_figure(case, method, f"images/gallery/{name}", db))
    return (
        f"### {case.title}\n\n{case.remark}\n\n"
        f'<div class="crops">\n{"".join(figures)}</div>\n\n{_origin(case)}\n\n'
    )


def _figure(case: Case, method: str, address: str, db: str) -> str:
    label = "ground truth" if method == "truth" else method.replace("+", ", then ")
    alt = html.escape(f"{case.title}: {label}", quote=True)
    return (
        f'<figure><a href="{address}"><img src="{address}" alt="{alt}" width="{case.side}" '
        f'height="{case.side}" loading="lazy"></a><figcaption>{label}{db}</figcaption></figure>\n'
    )


def _origin(case: Case) -> str:
    by = f"{case.author}, " if case.author else ""
    small = f"{case.side // SCALE}x{case.side // SCALE} px"
    damage = f", JPEG of quality {case.jpeg}" if case.jpeg else ""
    what = "" if case.license == "Apache-2.0" else f"`{Path(case.file).name}`, "
    return f"*Input: {small}{damage}. Picture: {what}{by}{case.source}, {LICENSES[case.license]}.*"
