"""The command line: `srsdk upscale`, `srsdk info`, `srsdk tune`, `srsdk doctor`."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

import srsdk
from srsdk import compare, doctor, jobs, models, pictures, tune_cli
from srsdk._plan import PLAN_SUFFIX, read_plan_header
from srsdk.engines import BACKENDS, DEVICES
from srsdk.errors import ModelError, SrsdkError, UsageError
from srsdk.manifest import Manifest, read_manifest

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 after a failure, 2 after a wrong call, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="srsdk: %(message)s", level=logging.WARNING)
    # Pillow warns at half of the size at which it refuses; the refusal is what counts
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if arguments.verbose:
        logging.getLogger("srsdk").setLevel(logging.INFO)
    try:
        code: int = arguments.run(arguments)
    except UsageError as error:
        _say(str(error))
        return EXIT_USAGE
    except SrsdkError as error:
        _say(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        _say("stopped")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has left: nothing more to say, not even when Python flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code


def upscale(arguments: argparse.Namespace) -> int:
    """Upscale files and folders; a bad file costs one line, the others are still done."""
    model = _model_name(arguments.model, arguments.scale)
    plan = jobs.plan(arguments.sources, arguments.output)
    failed = len(plan.problems)
    for problem in plan.problems:
        _say(problem)
    with srsdk.Upscaler(
        model,
        device=arguments.device,
        backend=arguments.backend,
        tile=arguments.tile,
        threads=arguments.threads,
        tune=arguments.tune,
    ) as up:
        logging.getLogger("srsdk").info("%r", up)
        for job in plan.jobs:
            try:
                _upscale_one(up, job, arguments)
            except SrsdkError as error:
                _say(str(error))
                failed += 1
    total = len(plan.jobs) + len(plan.problems)
    if total > 1:
        _say(f"{total - failed} done, {failed} failed")
    return EXIT_FAILED if failed else 0


def _upscale_one(up: srsdk.Upscaler, job: jobs.Job, arguments: argparse.Namespace) -> None:
    beside = job.target.with_name(f"{job.target.stem}_compare.png")
    if arguments.compare:
        pictures.check_target(beside, overwrite=arguments.force)
    with _progress_bar(job.source.name) as progress:
        up.upscale_file(job.source, job.target, overwrite=arguments.force, progress=progress)
    _say(f"wrote {job.target}")
    if arguments.compare:
        compare.write(job.source, job.target, beside)
        _say(f"wrote {beside} (bicubic left, {up.manifest.name} right)")


def info(arguments: argparse.Namespace) -> int:
    """Show what a model file says of itself."""
    path = models.find(arguments.model)
    manifest = read_manifest(path)
    if manifest is None:
        if path.suffix == PLAN_SUFFIX:
            raise ModelError(f"{path} carries no manifest; engines of `python -m export` do")
        with srsdk.Upscaler(path) as up:
            manifest = up.manifest
    values = {"file": str(path), "bytes": path.stat().st_size, **manifest.to_dict()}
    header = read_plan_header(path) if path.suffix == PLAN_SUFFIX else None
    if header is not None:
        values["plan"] = asdict(header)
    if arguments.json:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(_table(_flat(values, manifest)))
    return 0


def show_doctor(arguments: argparse.Namespace) -> int:
    """Show versions and devices, what works, and the command that mends what does not."""
    checks = doctor.examine()
    if arguments.json:
        sys.stdout.write(json.dumps([check.to_dict() for check in checks], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(str(check) for check in checks) + "\n")
    return 0 if doctor.can_upscale(checks) else EXIT_FAILED


@contextlib.contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar over the tiles of one picture, on a terminal where tqdm is installed."""
    if not sys.stderr.isatty() or importlib.util.find_spec("tqdm") is None:
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit="tile", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _model_name(model: str | None, scale: int | None) -> str:
    if model is not None and scale is not None:
        raise UsageError("--model and --scale exclude each other: a model has one scale")
    return model or f"gan_x{scale or 4}"


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows)


def _flat(values: dict[str, Any], manifest: Manifest) -> list[tuple[str, str]]:
    rows = [(name, str(value)) for name, value in values.items() if not isinstance(value, dict)]
    for name, score in manifest.scores.items():
        rows.append((name, ", ".join(f"{key} {value:g}" for key, value in score.items())))
    for name, value in values.get("plan", {}).items():
        rows.append((f"plan header: {name}", str(value)))
    rows += [(f"built with {name}", version) for name, version in manifest.built_with.items()]
    return rows


def _say(text: str) -> None:
    # one sentence is one line, whatever a library put into its message
    sys.stderr.write(f"srsdk: {' '.join(text.split())}\n")


def _tile(text: str) -> int | tuple[int, int] | str:
    if text == "auto":
        return text
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected auto, 256 or 256x384 (height first)")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srsdk", description="Image super-resolution.")
    parser.add_argument("--version", action="version", version=f"srsdk {srsdk.__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is chosen and why")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_upscale(commands.add_parser("upscale", help="upscale pictures and folders of pictures"))
    command = commands.add_parser("info", help="show what a model file says of itself")
    command.add_argument("model", help="a shipped model's name or the path of a file")
    command.add_argument("--json", action="store_true", help="machine-readable")
    command.set_defaults(run=info)
    tune_cli.add_arguments(commands.add_parser("tune", help="find what is fastest on this machine"))
    command = commands.add_parser("doctor", help="show what works here, and what mends the rest")
    command.add_argument("--json", action="store_true", help="machine-readable")
    command.set_defaults(run=show_doctor)
    return parser


def _add_upscale(command: argparse.ArgumentParser) -> None:
    command.add_argument("sources", nargs="+", type=Path, metavar="IN", help="files or folders")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a picture file (for one IN file) or a folder, made if missing",
    )
    command.add_argument("--model", help=f"one of {', '.join(models.shipped())}, or a file's path")
    command.add_argument("--scale", type=int, choices=(2, 4), help="picks gan_x2 or gan_x4 (4)")
    command.add_argument("--tile", type=_tile, default="auto", help="pixels, HEIGHTxWIDTH or auto")
    command.add_argument("--device", choices=DEVICES, default="auto")
    command.add_argument("--backend", choices=("auto", *BACKENDS), default="auto")
    command.add_argument("--threads", type=int, help="CPU threads of the backend")
    command.add_argument("--tune", action="store_true", help="run what `srsdk tune` found fastest")
    command.add_argument("--force", action="store_true", help="replace files that exist")
    command.add_argument(
        "--compare", action="store_true", help="also write bicubic and result side by side"
    )
    command.set_defaults(run=upscale)
