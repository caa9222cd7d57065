"""The commands beside training: `evaluate`, `naturalness`, `pack` and `drawings`."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from training import crops, drawings, naturalness, packing, report, subject
from training.data import decode, find_pictures, refuse
from training.resize import Picture

log = logging.getLogger(__name__)


def evaluate(words: Sequence[str]) -> None:
    """Score a model on folders; write `report.md`, `report.json` and one sheet per folder.

    A folder stands for one set, for a model that repairs for one set of each kind of damage.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate", description=evaluate.__doc__
    )
    parser.add_argument("model", type=Path, help="weights or checkpoint of a run, or an .onnx file")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="ground truth; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder to write to")
    parser.add_argument("--pictures", type=int, default=4, help="rows of the sheet (default 4)")
    parser.add_argument("--crop", type=int, default=160, help="side of its crops, px (default 160)")
    parser.add_argument(
        "--crops", type=Path, help="crops to look at, such as training/crops.toml, as crops.png"
    )
    parser.add_argument(
        "--input",
        choices=get_args(subject.Input),
        help="how inputs are made: what the model was trained on (the default for weights), "
        "bicubic (for .onnx), realworld, or bicubic and JPEG of quality 40 or 75",
    )
    parser.add_argument("--before", type=Path, help="a model of x1 that sees the input first")
    parser.add_argument(
        "--naturalness", type=Path, default=naturalness.SHIPPED, help="another fit than ours"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    places = crops.read(arguments.crops, arguments.data) if arguments.crops else ()
    model = subject.load_model(arguments.model, arguments.device)
    if arguments.before is not None:
        model = subject.after(subject.load_model(arguments.before, arguments.device), model)
    if arguments.input is not None:
        model = subject.with_input(model, arguments.input)
    natural = naturalness.load(arguments.naturalness)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, sets = [], {}
    for folder in arguments.data:
        pairs = subject.load_set(folder, model)
        if any(place.set == folder.resolve().name for place in places):
            sets[folder.resolve().name] = pairs
        for name, damaged in subject.versions(folder.name, pairs, model).items():
            rows += report.measure(name, model, damaged, natural)
            shown = damaged[: max(1, arguments.pictures)]
            page = report.sheet(model, shown, crop_px=arguments.crop)
            page.save(arguments.out / f"{name.replace(' ', '_')}.png")
    if places:
        crops.sheet(model, places, sets).save(arguments.out / "crops.png")
    table = report.to_markdown(model, rows)
    (arguments.out / "report.md").write_text(table, encoding="utf-8")
    (arguments.out / "report.json").write_text(report.to_json(model, rows), encoding="utf-8")
    log.info("%s\nwrote %s", table, arguments.out)


def fit_naturalness(words: Sequence[str]) -> None:
    """Fit the statistics of natural pictures on a folder of high-resolution ones."""
    parser = argparse.ArgumentParser(
        prog="python -m training naturalness", description=fit_naturalness.__doc__
    )
    parser.add_argument("--data", type=Path, required=True, help="high-resolution pictures")
    parser.add_argument("--out", type=Path, default=Path("naturalness.npz"))
    arguments = parser.parse_args(words)
    paths = find_pictures(arguments.data)
    reasons: dict[Path, str] = {}
    fitted = naturalness.fit(_decoded(paths, reasons))
    refuse(arguments.data, reasons, len(paths))
    naturalness.save(arguments.out, fitted)
    log.info("%d patches; wrote %s", fitted.patches, arguments.out)


def _decoded(paths: Sequence[Path], reasons: dict[Path, str]) -> Iterator[Picture]:
    """Yield one picture at a time; note why others are skipped."""
    for path in paths:
        picture = decode(path, min_px=naturalness.PATCH_PX)
        if isinstance(picture, str):
            reasons[path] = picture
        else:
            yield picture


def pack(words: Sequence[str]) -> None:
    """Write a run's weights as float16, to be published."""
    parser = argparse.ArgumentParser(prog="python -m training pack", description=pack.__doc__)
    parser.add_argument("weights", type=Path, help="weights or checkpoint of a run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace it where it exists")
    arguments = parser.parse_args(words)
    packing.pack(arguments.weights, arguments.output, force=arguments.force)
    log.info("wrote %s, %d bytes", arguments.output, arguments.output.stat().st_size)


def draw(words: Sequence[str]) -> None:
    """Write generated drawings, of the kind that `data.pictures = "drawings"` trains on."""
    parser = argparse.ArgumentParser(prog="python -m training drawings", description=draw.__doc__)
    parser.add_argument("folder", type=Path, help="made if missing")
    parser.add_argument("--count", type=int, default=24, help="pictures (default 24)")
    parser.add_argument("--px", type=int, default=512, help="side, px (default 512)")
    parser.add_argument("--seed", type=int, default=1_000_000, help="no recipe trains on this one")
    arguments = parser.parse_args(words)
    for name, lowest in (("count", 1), ("px", subject.SMALLEST_PX), ("seed", 0)):
        if getattr(arguments, name) < lowest:
            raise ValueError(f"--{name} {getattr(arguments, name)}: expected {lowest} or more")
    if arguments.folder.exists() and not arguments.folder.is_dir():
        raise ValueError(f"{arguments.folder}: is a file, expected a folder")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    seeds = np.random.SeedSequence(arguments.seed).spawn(arguments.count)
    for number, seed in enumerate(tqdm(seeds, unit="drawing", disable=None)):
        picture = drawings.picture(arguments.px, np.random.default_rng(seed))
        _save(picture, arguments.folder / f"drawing_{number:03d}.png")
    log.info("wrote %d drawings to %s", arguments.count, arguments.folder)


def _save(picture: Picture, path: Path) -> None:
    """Write a PNG under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(picture).save(temporary, "PNG")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


COMMANDS = {
    "evaluate": evaluate,
    "naturalness": fit_naturalness,
    "pack": pack,
    "drawings": draw,
}
