"""`python -m export SOURCE -o gan_x4.onnx`.

Exit codes: 0 all files are there, 1 a source, a folder or a library is unusable, 2 a wrong call,
3 a gate does not hold (parity, INT8, lint), 130 stopped by Ctrl-C. Unless it is 0, nothing was
written.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# threads that spin while they wait cost a shared machine most of its time; before torch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import srsdk
from export.lint import LintError
from export.onnx_file import ExportError
from export.options import PRECISIONS, TARGETS, Options, UsageError, parse_profiles
from export.parity import GateError
from export.pipeline import export
from export.record import Report
from export.report import table
from export.triton import write_repository
from export.verdict import Verdict, verdict
from training.checkpoint import CheckpointError
from training.data import DataError
from training.recipe import RecipeError

EXIT_FAILED, EXIT_USAGE, EXIT_GATE, EXIT_INTERRUPTED = 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Export; return the exit code, after one sentence on stderr where it is not 0."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="export: %(message)s", level=logging.WARNING)
    if argv is None:
        # what stops a container or a service leaves as much behind as Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if arguments.verbose:
        logging.getLogger("export").setLevel(logging.INFO)
    try:
        options = _options(arguments)
        if arguments.triton is not None and options.data is None:
            raise UsageError("--triton warms servers up on real tiles: name a folder with --data")
        report = export(arguments.source, arguments.output, options, force=arguments.force)
        if arguments.triton is not None:
            write_repository(report.made, arguments.triton, options, force=arguments.force)
    except UsageError as error:
        return _failed(error, EXIT_USAGE)
    except (GateError, LintError) as error:
        return _failed(error, EXIT_GATE)
    except (ExportError, DataError, RecipeError, CheckpointError, srsdk.SrsdkError) as error:
        return _failed(error, EXIT_FAILED)
    except OSError as error:
        # a full disk says only what, and not where
        where = "" if error.filename else f"{arguments.output} cannot be written: "
        return _failed(f"{where}{error}", EXIT_FAILED)
    except ValueError as error:
        return _failed(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return _failed("stopped; nothing was written", EXIT_INTERRUPTED)
    try:
        lines = _verdict(report, show=arguments.verdict)
    except KeyboardInterrupt:
        return _failed("stopped while the files were timed; they are written", EXIT_INTERRUPTED)
    if arguments.json:
        values = {**report.to_dict(), "verdict": [line.to_dict() for line in lines]}
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        sys.stdout.write(table(report) + "".join(f"{line}\n" for line in lines))
    return 0


def _verdict(report: Report, *, show: bool) -> list[Verdict]:
    """Time the files that run here, where any of them is new."""
    files = {
        made.artefact.precision: made.artefact.path
        for made in report.made
        if made.artefact.flavour in ("portable", "cpu")
    }
    is_new = any(made.parity for made in report.made)
    return verdict(files) if show and is_new and files else []


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        precisions=_listed(arguments.precision, "fp32"),
        targets=_listed(arguments.target, "onnx"),
        boundary=arguments.boundary,
        profiles=parse_profiles(arguments.profiles, arguments.tile, arguments.batch),
        sms=_numbers(arguments.sm),
        data=arguments.data,
        tests=tuple(arguments.test),
        seed=arguments.seed,
        texture=arguments.texture,
        parent=arguments.parent,
        qat=arguments.qat,
        licence=arguments.licence,
        training_data=arguments.training_data,
    )


def _listed(values: list[str], default: str) -> tuple[str, ...]:
    """Split at commas; the same again counts once."""
    parts = [part.strip() for value in values or [default] for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip().lower().removeprefix("sm") for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--sm {text!r}: expected numbers such as 86,89,120")
    return tuple(dict.fromkeys(map(int, parts)))


def _tile(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected 256 or 256x384 (height first)")
    return (int(sides[0]), int(sides[-1]))


def _failed(error: object, code: int) -> int:
    # one sentence is one line, whatever a library put into its message
    sys.stderr.write(f"export: {' '.join(str(error).split())}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, help="a checkpoint of ours, .pth/.safetensors of others, or .onnx")
    add("-o", "--output", type=Path, required=True, help="a folder, a base name, or the only file")
    add("--precision", action="append", metavar="P", help=f"{', '.join(PRECISIONS)}; several")
    add("--target", action="append", metavar="T", help=f"{', '.join(TARGETS)}; several")
    add("--boundary", default="uint8", help="uint8 (default) or float32, for 16-bit pictures")
    add(
        "--tile",
        type=_tile,
        action="append",
        default=[],
        help="engines: input size, 256 or 256x384",
    )
    add("--batch", type=int, action="append", default=[], help="engines: pictures at once (1)")
    add("--profiles", help="engines: BATCHxHEIGHTxWIDTH, several by commas; instead of both")
    add("--sm", default="86,89,120", help="rtx engines: GPU generations (86,89,120)")
    add("--data", type=Path, metavar="DIR", help="pictures for INT8 calibration and --qat")
    add(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="score on this folder of ground truth, and gate INT8 by it; may be repeated",
    )
    add("--texture", type=float, metavar="0..1", help="0: the weights of --parent, 1: the source's")
    add("--parent", type=Path, metavar="WEIGHTS", help="what the source's GAN training began with")
    add("--seed", type=int, default=0, help="of the calibration crops and of --qat")
    add(
        "--qat",
        type=int,
        default=0,
        metavar="STEPS",
        help="tune the weights for INT8 on --data, kept where --test shows a gain (0: off)",
    )
    add("--triton", type=Path, metavar="REPO", help="also write a model repository for Triton")
    add("--force", action="store_true", help="replace existing files")
    add("--json", action="store_true", help="a machine-readable report on stdout")
    add(
        "--no-verdict",
        dest="verdict",
        action="store_false",
        help="do not time the files on this CPU",
    )
    add("-v", "--verbose", action="store_true", help="say what is being done")
    add("--licence", default="", help="terms of the weights, for the manifest")
    add("--training-data", default="", help="what they were learned from")
    return parser
