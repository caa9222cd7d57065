"""`python -m benchmarks restoration`: compare `ae` with non-local means and BM3D."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from benchmarks import machine, records
from benchmarks.measure import worker
from benchmarks.peers import denoisers
from benchmarks.peers.denoisers import METHODS, Picture
from benchmarks.records import Record
from srsdk import Restorer, SrsdkError
from srsdk.models import find, shipped

EXIT_MISSING = 1
CROP_PX = 192
"""Side of the central crops of training pictures used to choose NLM's strength."""


class RestorationError(Exception):
    """A model, folder or damage level that cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `restoration`."""
    parser.add_argument(
        "model", type=Path, help="a shipped restorer, an .onnx file, or weights of `ae` at x1"
    )
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        required=True,
        help="folder of clean pictures; repeatable",
    )
    parser.add_argument(
        "--sigma",
        type=float,
        nargs="*",
        default=[15, 25, 50],
        help="noise levels (default: 15 25 50)",
    )
    parser.add_argument(
        "--quality",
        type=int,
        nargs="*",
        default=[10, 20, 40],
        help="JPEG qualities (default: 10 20 40)",
    )
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), help="default: all but srsdk-told"
    )
    parser.add_argument(
        "--pictures", type=int, default=0, help="pictures per folder, evenly spread (0: all)"
    )
    parser.add_argument("--train", type=Path, help="folder of pictures to choose NLM's strength on")
    parser.add_argument(
        "--train-pictures",
        type=int,
        default=16,
        help="number of pictures from --train (default: 16)",
    )
    parser.add_argument(
        "--threads", type=int, default=machine.usable_cores(), help="threads (default: all cores)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore the same damaged pictures with every method, each in its own process.

    A method that cannot run here becomes a row with the reason; the exit code is 1 if the call
    names that method or if it is srsdk.

    Raises:
        RestorationError: the model, a folder or a level cannot be used.
    """
    named = {"srsdk", *(arguments.methods or [])}
    arguments.methods = arguments.methods or [name for name in METHODS if name != "srsdk-told"]
    arguments.model = _model(arguments.model)
    _check(arguments)
    facts, made = machine.describe(), list[Record]()
    configs = list(_configs(arguments))
    for config in tqdm(configs, unit="measurement", disable=not sys.stderr.isatty()):
        before = machine.moment()
        result = _measured(config)
        after, command = machine.moment(), machine.command_line()
        record = records.make("restoration", _stored(config), result, facts, before, after, command)
        sys.stdout.write(line(record) + "\n")
        sys.stdout.flush()
        made.append(record)
        if arguments.out:
            records.append(arguments.out, record)
    sys.stdout.write("\n" + table(made))
    lacks = {r["config"]["method"] for r in made if records.missing(r) is not None}
    return EXIT_MISSING if named & lacks else 0


def _measured(config: dict[str, Any]) -> dict[str, Any]:
    """Return the results of one method, or why it has none."""
    lack = denoisers.missing(config["method"])
    if lack is None:
        try:
            return _result(worker.call("restoration", config))
        except worker.WorkerError as error:
            lack = str(error)
    return {"missing": lack, "pictures": _count(config)}


def _count(config: dict[str, Any]) -> int:
    from training.data.pictures import find_pictures

    return len(denoisers.chosen(len(find_pictures(Path(config["test"]))), config["pictures"]))


def _model(named: Path) -> Path:
    """Return the file of a shipped model or path after checking that it keeps the size."""
    if named.suffix and not named.is_file() and str(named) not in shipped():
        raise RestorationError(f"{named}: no such file")
    if named.is_file() and named.suffix != ".onnx":
        return named  # weights: the worker opens them
    try:
        path = find(str(named))
        Restorer(path).close()
    except SrsdkError as error:
        raise RestorationError(str(error)) from error
    return path


def _check(arguments: argparse.Namespace) -> None:
    from training.data.pictures import DataError, load_pairs
    from training.evaluation.metrics import SSIM_WINDOW_PX

    for flag, levels, most in (
        ("sigma", arguments.sigma, 255),
        ("quality", arguments.quality, 100),
    ):
        for level in levels:
            if not 1 <= level <= most:
                raise RestorationError(f"--{flag} {level:g}, expected 1 to {most}")
    for folder in (*arguments.test, *filter(None, [arguments.train])):
        try:
            load_pairs(folder, 1, min_px=SSIM_WINDOW_PX)
        except DataError as error:
            raise RestorationError(str(error)) from error


def _configs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield all measurements, including those that cannot run here."""
    names = arguments.methods
    has_nlm = "nlm" in names and denoisers.missing("nlm") is None
    strength = _strengths(arguments) if has_nlm else {}
    damages = [("noise", level) for level in arguments.sigma]
    damages += [("jpeg", level) for level in arguments.quality]
    model = {"model": str(arguments.model.resolve())}
    for folder in arguments.test:
        for damage, level in damages:
            for name in names:
                if damage in METHODS[name].damages:
                    yield {
                        "method": name,
                        **(model if name in denoisers.OURS else {}),
                        **({"strength": strength[level]} if name == "nlm" and has_nlm else {}),
                        "test": str(folder.resolve()),
                        "damage": damage,
                        "level": level,
                        "pictures": arguments.pictures,
                        "threads": arguments.threads,
                    }


def _strengths(arguments: argparse.Namespace) -> dict[float, tuple[float, float]]:
    if arguments.train is None:
        return {sigma: denoisers.nlm_strength(sigma) for sigma in arguments.sigma}
    truths = _squares(arguments.train, arguments.train_pictures)
    found = {}
    for sigma in arguments.sigma:
        luma, color = found[sigma] = denoisers.choose_strength(truths, sigma)
        sys.stdout.write(
            f"NLM's strength for sigma {sigma:g} on {len(truths)} pictures of "
            f"{arguments.train.name}: luma {luma:g}, color {color:g}\n"
        )
    return found


def _squares(folder: Path, count: int) -> list[Picture]:
    """Return the central crops of `count` pictures, spread over the folder."""
    from training.data.pictures import find_pictures, read_rgb

    try:
        paths = find_pictures(folder)
    except ValueError as error:
        raise RestorationError(str(error)) from error
    squares = []
    for index in denoisers.chosen(len(paths), count):
        picture = read_rgb(paths[index])
        top, left = (max(0, side - CROP_PX) // 2 for side in picture.shape[:2])
        squares.append(picture[top : top + CROP_PX, left : left + CROP_PX])
    return squares


def _stored(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config for the record, with names instead of local paths, and hashes."""
    stored = {**config, "test": Path(config["test"]).name, "title": METHODS[config["method"]].title}
    if "model" in config:
        path = Path(config["model"])
        # every training run uses these file names
        told = ", told the level" if config["method"] == "srsdk-told" else ""
        name = path.parent.name if path.stem in ("weights", "last") else path.stem
        stored |= {
            "model": name,
            "model_sha256": machine.file_sha256(path),
            "title": f"srsdk, {name}{told}",
        }
    return stored


def _result(raw: dict[str, Any]) -> dict[str, Any]:
    """Return means over pictures, and the values of each picture."""
    lists = {key: value for key, value in raw.items() if isinstance(value, list)}
    return {
        **{key: fmean(values) for key, values in lists.items()},
        "pictures": len(lists["psnr_db"]),
        "peak_bytes": raw["peak_bytes"],
        "each": lists,
    }


def line(record: Record) -> str:
    """Format a record as one readable line."""
    c, result, lack = record["config"], record["result"], records.missing(record)
    if lack is not None:
        return f"{c['test']}, {_damage(c)}, {c['title']}: {records.not_here(lack)}"
    return (
        f"{c['test']}, {_damage(c)}, {c['title']}: {result['psnr_before_db']:.2f} -> "
        f"{result['psnr_db']:.2f} dB, SSIM {result['ssim_before']:.4f} -> {result['ssim']:.4f}, "
        f"{result['seconds']:.3g} s a picture, {result['cpu_seconds']:.3g} s of CPU time"
    )


def _damage(config: dict[str, Any]) -> str:
    if config["damage"] == "noise":
        return f"noise, sigma {config['level']:g} (RGB)"
    return f"JPEG, quality {config['level']:g} (Y)"


def table(found: Sequence[Record]) -> str:
    """Return a table of PSNR, SSIM and seconds per picture; one column per method.

    Each kind of processor has its own rows; of repeated measurements, the last one counts.
    """
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for record in found:
        if record["kind"] == "restoration":
            c, pictures = record["config"], record["result"]["pictures"]
            key = (records.kind_of(record), f"{c['test']}, {pictures}", _damage(c))
            rows.setdefault(key, {})[c["title"]] = _cell(record)
    titles = list(dict.fromkeys(title for row in rows.values() for title in row))
    lines = [
        f"| processor | set, pictures | damage | {' | '.join(titles)} |",
        "|---|---|---|" + "---|" * len(titles),
    ]
    for key, row in rows.items():
        cells = (*key, *(row.get(title, "") for title in titles))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if rows else ""


def _cell(record: Record) -> str:
    result, lack = record["result"], records.missing(record)
    if lack is not None:
        return records.not_here(lack)
    seconds = f" / {result['seconds']:.3g} s" if record["config"]["method"] != "none" else ""
    return f"{result['psnr_db']:.2f} dB / {result['ssim']:.4f}{seconds}"
