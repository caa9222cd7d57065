"""Command line of the export: run it, print the report, return the exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence

# set before torch is loaded: spinning threads waste most of a shared machine's time
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import srsdk
from export.arguments import PROGRAM, make_parser
from export.errors import ExportError, GateError, UsageError
from export.evaluation.speed import SpeedComparison, compare_speed, worth
from export.options import Options, parse_profiles
from export.pipeline import export
from export.record import Report
from export.report import table
from export.sources.select import Own
from export.sources.user_file import parse_arguments
from export.sources.user_module import Form
from export.targets.atomic_output import Staging
from export.targets.lint import LintError
from export.targets.triton import write_repository
from export.targets.web.site import write_site
from training.checkpoint import CheckpointError
from training.data.pictures import DataError
from training.recipe.schema import RecipeError
from training.usage import show_usage_error

WEB = "web"
"""The target that copies finished models instead of making files; see `export.targets.web.site`."""
WEB_REFUSES = (
    *("precision", "tile", "batch", "profiles", "data", "test", "triton", "weights", "texture"),
    *("parent", "arg", "scale", "channels", "multiple", "result"),
)
EXIT_FAILED, EXIT_USAGE, EXIT_GATE, EXIT_INTERRUPTED = 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the export and return the exit code; print one sentence on stderr if it fails."""
    parser = make_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    arguments = parser.parse_args(argv)
    if WEB not in _listed(arguments.target, "onnx"):
        if len(arguments.source) > 1:
            parser.error(f"unexpected argument {str(arguments.source[1])!r}")
        arguments.source = arguments.source[0]
    logging.basicConfig(format="export: %(message)s", level=logging.WARNING)
    if argv is None:
        # SIGTERM, which stops containers and services, cleans up as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    # minutes pass between two steps
    if arguments.verbose or sys.stderr.isatty():
        logging.getLogger("export").setLevel(logging.INFO)
    staging = Staging()
    try:
        if isinstance(arguments.source, list):
            return _web(arguments, staging)
        options = _options(arguments)
        if arguments.onnxruntime_web is not None:
            raise UsageError("--onnxruntime-web is for --target web only")
        if arguments.triton is not None and options.data is None:
            raise UsageError(
                "--triton needs real tiles for the server's warm-up: name a folder with --data"
            )
        force = arguments.force
        report = export(
            arguments.source,
            arguments.output,
            options,
            own=_own(arguments),
            force=force,
            staging=staging,
        )
        if arguments.triton is not None:
            staging.published = True  # by an earlier run, if all files were up to date
            write_repository(report.made, arguments.triton, options, force=force)
    except UsageError as error:
        show_usage_error(PROGRAM, str(error))
        return EXIT_USAGE
    except (GateError, LintError) as error:
        return _failed(error, EXIT_GATE)
    except (ExportError, DataError, RecipeError, CheckpointError, srsdk.SrsdkError) as error:
        return _failed(error, EXIT_FAILED)
    except OSError as error:
        # the error of a full disk names no path
        where = "" if error.filename else f"{arguments.output} cannot be written: "
        return _failed(f"{where}{error}", EXIT_FAILED)
    except ValueError as error:
        return _failed(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return _failed(_stopped(arguments, staging), EXIT_INTERRUPTED)
    try:
        lines = _comparison(report, show=arguments.comparison)
    except KeyboardInterrupt:
        return _failed("stopped while the files were timed; they are written", EXIT_INTERRUPTED)
    if arguments.json:
        values = {**report.to_dict(), "comparison": [line.to_dict() for line in lines]}
        values["int8_worth"] = worth(lines, _cost(report))
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    else:
        said = [str(line) for line in lines]
        said += filter(None, [worth(lines, _cost(report))])
        sys.stdout.write(table(report) + "".join(f"{line}\n" for line in said))
    return 0


def _web(arguments: argparse.Namespace, staging: Staging) -> int:
    """Write a folder for browsers; options of other targets are refused."""
    given = {name for name in WEB_REFUSES if getattr(arguments, name) not in (None, [])}
    if _listed(arguments.target, "onnx") != (WEB,):
        raise UsageError("--target web copies finished models; run the other targets before it")
    if given:
        option = f"--{min(given).replace('_', '-')}"
        raise UsageError(
            f"{option} is not for --target web, which takes finished models: name the file in the "
            "form that you want, such as gan_x2.int8"
        )
    site = write_site(
        [str(source) for source in arguments.source],
        arguments.output,
        onnxruntime_web=arguments.onnxruntime_web,
        force=arguments.force,
        staging=staging,
    )
    as_json = json.dumps(site.to_dict(), indent=2)
    sys.stdout.write(f"{as_json if arguments.json else site}\n")
    return 0


def _stopped(arguments: argparse.Namespace, staging: Staging) -> str:
    """Return what an interrupt left."""
    if not staging.published:
        return "stopped; nothing was written"
    if arguments.triton is None:
        return "stopped; the files are written"
    return (
        f"stopped; the files are written, but {arguments.triton} is not complete; run the command "
        "again to complete it"
    )


def _comparison(report: Report, *, show: bool) -> list[SpeedComparison]:
    """Time the files that run on this machine, if any of them is new."""
    files = {
        made.artifact.precision: made.artifact.path
        for made in report.made
        if made.artifact.flavour in ("portable", "cpu")
    }
    is_new = any(made.parity for made in report.made)
    return compare_speed(files) if show and is_new and files else []


def _cost(report: Report) -> str:
    """Return what INT8 loses on CPUs: on the worst test set, or in parity if there is none."""
    quantized = report.quantized.get("cpu")
    if quantized is None:
        return ""
    if quantized.losses_db:
        return f"{max(0.0, *quantized.losses_db.values()):.3f} dB"
    psnr_db = quantized.parity.psnr_db
    return "no loss" if psnr_db is None else f"{psnr_db:.1f} dB of agreement with float32"


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        precisions=_listed(arguments.precision, "fp32"),
        targets=_listed(arguments.target, "onnx"),
        boundary=arguments.boundary,
        profiles=parse_profiles(arguments.profiles, arguments.tile, arguments.batch),
        sms=_numbers(arguments.sm),
        version_compatible=arguments.version_compatible,
        data=arguments.data,
        tests=tuple(arguments.test),
        seed=arguments.seed,
        texture=arguments.texture,
        parent=arguments.parent,
        qat=arguments.qat,
        licence=arguments.licence,
        training_data=arguments.training_data,
        training_licenses=tuple(arguments.training_license),
    )


def _own(arguments: argparse.Namespace) -> Own:
    result = arguments.result
    return Own(
        form=Form(
            name=arguments.name,
            scale=arguments.scale,
            channels=arguments.channels,
            multiple_px=arguments.multiple,
            output=int(result) if result is not None and result.isdecimal() else result,
        ),
        weights=arguments.weights,
        arguments=parse_arguments(arguments.arg),
    )


def _listed(values: list[str], default: str) -> tuple[str, ...]:
    """Split at commas and drop duplicates."""
    parts = [part.strip() for value in values or [default] for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip().lower().removeprefix("sm") for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--sm {text!r}: expected numbers such as 86,89,120")
    return tuple(dict.fromkeys(map(int, parts)))


def _failed(error: object, code: int) -> int:
    # keep the message on one line, whatever a library put into it
    sys.stderr.write(f"export: {' '.join(str(error).split())}\n")
    return code
