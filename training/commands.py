"""The commands beside training: `evaluate`, `naturalness` and `pack`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from training import crops, naturalness, packing, report
from training.data import decode, find_pictures, refuse
from training.resize import Picture

log = logging.getLogger(__name__)


def evaluate(words: Sequence[str]) -> None:
    """Score a model on folders; write `report.md`, `report.json` and one sheet per folder."""
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
        "--naturalness", type=Path, default=naturalness.SHIPPED, help="another fit than ours"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    places = crops.read(arguments.crops, arguments.data) if arguments.crops else ()
    model = report.load_model(arguments.model, arguments.device)
    natural = naturalness.load(arguments.naturalness)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, sets = [], {}
    for folder in arguments.data:
        pairs = report.load_set(folder, model)
        if any(place.set == folder.resolve().name for place in places):
            sets[folder.resolve().name] = pairs
        rows += report.measure(folder.name, model, pairs, natural)
        page = report.sheet(model, pairs[: max(1, arguments.pictures)], crop_px=arguments.crop)
        page.save(arguments.out / f"{folder.name}.png")
    if places:
        crops.sheet(model, places, sets).save(arguments.out / "crops.png")
    table = report.to_markdown(rows)
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


COMMANDS = {"evaluate": evaluate, "naturalness": fit_naturalness, "pack": pack}
