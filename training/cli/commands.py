"""Subcommands other than training: `evaluate`, `naturalness`, `pack`, `drawings`, `kernel`."""

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

from training import packing
from training.data import kernel_estimation, kernels
from training.data.pictures import decode, find_pictures, refuse
from training.data.resize import Picture
from training.data.synthetic import collages
from training.data.synthetic.drawings import picture as drawn
from training.evaluation import crops, niqe, report, subject
from training.usage import Parser

log = logging.getLogger(__name__)


def evaluate(words: Sequence[str]) -> None:
    """Score a model on folders of pictures; write `report.md`, `report.json` and picture sheets.

    Each folder is one test set. A restoration model is scored on it once per kind of damage.
    """
    arguments = _evaluate_parser().parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    chosen = crops.read(arguments.crops, arguments.data) if arguments.crops else ()
    model = subject.load_model(arguments.model, arguments.device)
    if arguments.before is not None:
        model = subject.after(subject.load_model(arguments.before, arguments.device), model)
    if arguments.input is not None:
        model = subject.with_input(model, arguments.input)
    natural = niqe.load(arguments.naturalness)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, sets = [], {}
    for folder in arguments.data:
        pairs = subject.load_set(folder, model)
        log.info("scoring %d pictures of %s", len(pairs), folder)
        if any(crop.set == folder.resolve().name for crop in chosen):
            sets[folder.resolve().name] = pairs
        for name, damaged in subject.versions(folder.name, pairs, model).items():
            rows += report.measure(name, model, damaged, natural)
            shown = damaged[: max(1, arguments.pictures)]
            page = report.sheet(model, shown, crop_px=arguments.crop)
            page.save(arguments.out / f"{name.replace(' ', '_')}.png")
    if chosen:
        crops.sheet(model, chosen, sets).save(arguments.out / "crops.png")
    table = report.to_markdown(model, rows)
    (arguments.out / "report.md").write_text(table, encoding="utf-8")
    (arguments.out / "report.json").write_text(report.to_json(model, rows), encoding="utf-8")
    log.info("%s\nwrote %s", table, arguments.out)


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training evaluate", description=evaluate.__doc__)
    parser.add_argument("model", type=Path, help="weights or checkpoint of a run, or an .onnx file")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="folder of ground truth; may be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("evaluation"),
        metavar="DIR",
        help="output folder (default evaluation)",
    )
    parser.add_argument(
        "--pictures", type=int, default=4, metavar="N", help="rows per sheet (default 4)"
    )
    parser.add_argument(
        "--crop",
        type=int,
        default=160,
        metavar="PX",
        help="side of a sheet's crops in px (default 160)",
    )
    parser.add_argument(
        "--crops",
        type=Path,
        metavar="TOML",
        help="TOML file of crops to show, such as training/crops.toml",
    )
    parser.add_argument(
        "--input",
        choices=get_args(subject.Input),
        help="how inputs are made: bicubic (default for .onnx), realworld, or bicubic and then "
        "JPEG of quality 40 or 75; weights default to the degradation that they were trained on",
    )
    parser.add_argument(
        "--before", type=Path, metavar="MODEL", help="x1 model to run on the inputs first"
    )
    parser.add_argument(
        "--naturalness",
        type=Path,
        default=niqe.SHIPPED,
        metavar="NPZ",
        help="NIQE statistics (default: the shipped ones)",
    )
    parser.add_argument(
        "--device", type=torch.device, default=torch.device("cpu"), help="cpu (default), cuda, ..."
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
    return parser


def naturalness(words: Sequence[str]) -> None:
    """Fit the NIQE statistics of natural pictures on a folder of high-resolution pictures."""
    parser = Parser(prog="python -m training naturalness", description=naturalness.__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of high-resolution pictures",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("naturalness.npz"),
        metavar="NPZ",
        help="file to write (default naturalness.npz)",
    )
    arguments = parser.parse_args(words)
    paths = find_pictures(arguments.data)
    reasons: dict[Path, str] = {}
    fitted = niqe.fit(_decoded(paths, reasons))
    refuse(arguments.data, reasons, len(paths))
    niqe.save(arguments.out, fitted)
    log.info("%d patches; wrote %s", fitted.patches, arguments.out)


def _decoded(paths: Sequence[Path], reasons: dict[Path, str]) -> Iterator[Picture]:
    """Yield one decoded picture at a time; record in `reasons` why others are skipped."""
    for path in paths:
        picture = decode(path, min_px=niqe.PATCH_PX)
        if isinstance(picture, str):
            reasons[path] = picture
        else:
            yield picture


def pack(words: Sequence[str]) -> None:
    """Convert a run's averaged weights to float16 for publishing."""
    parser = Parser(prog="python -m training pack", description=pack.__doc__)
    parser.add_argument("weights", type=Path, help="weights or checkpoint of a run")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="file to write"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    arguments = parser.parse_args(words)
    packing.pack(arguments.weights, arguments.output, force=arguments.force)
    log.info("wrote %s, %d bytes", arguments.output, arguments.output.stat().st_size)


def drawings(words: Sequence[str]) -> None:
    """Write generated drawings like those that `data.pictures = "drawings"` trains on.

    With `--cutouts`, pages of the drawings in a folder are written instead.
    """
    parser = Parser(prog="python -m training drawings", description=drawings.__doc__)
    parser.add_argument("folder", type=Path, help="output folder, created if missing")
    parser.add_argument(
        "--cutouts",
        type=Path,
        metavar="DIR",
        help="drawings with transparency, such as clip art, to be laid over one another",
    )
    parser.add_argument(
        "--count", type=int, default=24, metavar="N", help="number of drawings (default 24)"
    )
    parser.add_argument("--px", type=int, default=512, help="side in px (default 512)")
    parser.add_argument(
        "--seed",
        type=int,
        default=1_000_000,
        help="random seed (default 1000000, which no recipe trains on)",
    )
    arguments = parser.parse_args(words)
    for name, lowest in (("count", 1), ("px", subject.SMALLEST_PX), ("seed", 0)):
        if getattr(arguments, name) < lowest:
            raise ValueError(f"--{name} {getattr(arguments, name)}: expected {lowest} or more")
    if arguments.folder.exists() and not arguments.folder.is_dir():
        raise ValueError(f"{arguments.folder}: is a file, expected a folder")
    cutouts = collages.find_cutouts(arguments.cutouts) if arguments.cutouts else []
    arguments.folder.mkdir(parents=True, exist_ok=True)
    seeds = np.random.SeedSequence(arguments.seed).spawn(arguments.count)
    for number, seed in enumerate(tqdm(seeds, unit="drawing", disable=None)):
        random = np.random.default_rng(seed)
        picture = (
            collages.collage(arguments.px, cutouts, random)
            if cutouts
            else drawn(arguments.px, random)
        )
        _save(picture, arguments.folder / f"drawing_{number:03d}.png")
    log.info("wrote %d drawings to %s", arguments.count, arguments.folder)


def kernel(words: Sequence[str]) -> None:
    """Estimate the blur kernel of low-resolution pictures, as recipes with `estimated` do."""
    parser = Parser(prog="python -m training kernel", description=kernel.__doc__)
    parser.add_argument("folder", type=Path, help="low-resolution pictures of one camera or source")
    parser.add_argument(
        "--scale", type=int, choices=(2, 3, 4), default=4, help="upscaling factor (default 4)"
    )
    parser.add_argument("--picture", type=Path, metavar="PNG", help="write a picture of the kernel")
    arguments = parser.parse_args(words)
    found = kernel_estimation.of_folder(arguments.folder, arguments.scale)
    log.info("%s (pixels of the x%d result)", found, arguments.scale)
    if arguments.picture is not None:
        _save(kernels.picture_of(found.kernel, arguments.scale), arguments.picture)
        log.info("wrote %s", arguments.picture)


def _save(picture: Picture, path: Path) -> None:
    """Write a PNG to a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(picture).save(temporary, "PNG")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
