"""Export a network to ONNX files and TensorRT engines.

Example: python -m export weights.safetensors -o models/ --precision fp32,fp16
         python -m export gan_x2 --target web -o site/

The graph of every file is compared with the float32 network before it is written.

Exit codes:
  0    all files are written or up to date
  1    a source, folder or library is unusable
  2    usage error
  3    a quality gate failed (parity, INT8 loss, lint)
  130  stopped by Ctrl-C
No model file is written unless all of them pass.
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

# set before torch is loaded: spinning threads waste most of a shared machine's time
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import srsdk
from export.errors import ExportError, GateError, UsageError
from export.evaluation.speed import SpeedComparison, compare_speed, worth
from export.options import PRECISIONS, TARGETS, Options, parse_profiles
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
from training.usage import Parser, show_usage_error

WEB = "web"
"""The target that copies finished models instead of making files; see `export.targets.web.site`."""
WEB_REFUSES = (
    *("precision", "tile", "batch", "profiles", "data", "test", "triton", "weights", "texture"),
    *("parent", "arg", "scale", "channels", "multiple", "result"),
)
EXIT_FAILED, EXIT_USAGE, EXIT_GATE, EXIT_INTERRUPTED = 1, 2, 3, 130
PROGRAM = "python -m export"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the export and return the exit code; print one sentence on stderr if it fails."""
    parser = _parser()
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


def _tile(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected 256 or 256x384 (height first)")
    return (int(sides[0]), int(sides[-1]))


def _failed(error: object, code: int) -> int:
    # keep the message on one line, whatever a library put into it
    sys.stderr.write(f"export: {' '.join(str(error).split())}\n")
    return code


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} SOURCE -o FOLDER [--precision P,...] [--target T,...] [option ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="checkpoint of `python -m training`, third-party .pth or .safetensors, .onnx file, "
        "TorchScript, .pt2 of torch.export, or a network of your own: my_nets.py:MyNet (the file "
        "is run); for --target web one or more names of models, or .onnx files",
    )
    _add_own(parser.add_argument_group("network of your own"))
    _add_files(parser.add_argument_group("files"))
    _add_weights(parser.add_argument_group("weights and manifest"))
    _add_forms(parser.add_argument_group("precisions and targets"))
    _add_data(parser.add_argument_group("pictures and INT8"))
    _add_reports(parser.add_argument_group("reports"))
    return parser


def _add_own(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--weights", type=Path, metavar="FILE", help="its state dict, .pth or .safetensors")
    add(
        "--arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of its class or factory, such as width=64; may be repeated",
    )
    add("--name", default="", help="name of the model (default: that of the class)")
    add("--scale", type=int, help="output size over input size (default: found by a run)")
    add("--channels", type=int, help="1, 3 or 4 (default: those of the first convolution)")
    add("--multiple", type=int, help="input sizes are multiples of this (default: probed)")
    add(
        "--result",
        metavar="NAME",
        help="name or position of the picture, if the network returns several results",
    )


def _add_files(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "-o",
        "--output",
        metavar="FOLDER",
        required=True,
        help="output folder, created if missing: models/ or models; or a file name, such as "
        "x.onnx, from which the others are named",
    )
    add("--force", action="store_true", help="replace existing files")
    add("--triton", type=Path, metavar="REPO", help="also write a Triton model repository")
    add(
        "--onnxruntime-web",
        type=Path,
        metavar="FOLDER",
        help="installed onnxruntime-web for --target web (default: that of export/web)",
    )


def _add_weights(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--license",
        dest="licence",
        metavar="TEXT",
        default="",
        help="license of the weights, for the manifest",
    )
    add(
        "--training-data",
        metavar="TEXT",
        default="",
        help="what the weights were trained on, for the manifest",
    )
    add(
        "--training-license",
        action="append",
        default=[],
        metavar="SPDX",
        help="license of the training data as an SPDX identifier, such as CC0-1.0, for the "
        "manifest; may be repeated",
    )
    add(
        "--texture",
        type=float,
        metavar="0..1",
        help="blend the weights: 0 is --parent, 1 is the source",
    )
    add(
        "--parent",
        type=Path,
        metavar="WEIGHTS",
        help="weights that the source's GAN training started from; goes with --texture",
    )


def _add_forms(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--precision",
        action="append",
        metavar="P",
        help=f"one or more of {', '.join(PRECISIONS)}; comma-separated (default: fp32)",
    )
    add(
        "--target",
        action="append",
        metavar="T",
        help=f"one or more of {', '.join(TARGETS)}; comma-separated (default: onnx); or web: a "
        "folder for browsers",
    )
    add(
        "--boundary",
        default="uint8",
        help="type of input and output: uint8 (default), or float32 for 16-bit pictures",
    )
    add(
        "--tile",
        type=_tile,
        action="append",
        default=[],
        help="input size of engines, 256 (default) or 256x384 (HEIGHTxWIDTH); may be repeated",
    )
    add(
        "--batch",
        type=int,
        action="append",
        default=[],
        help="batch size of engines (default: 1); may be repeated",
    )
    add(
        "--profiles",
        help="input shapes of engines, BATCHxHEIGHTxWIDTH, comma-separated; "
        "replaces --tile and --batch",
    )
    add(
        "--sm",
        default="86,89,120",
        help="GPU architectures of rtx engines, as SM numbers (default: 86,89,120)",
    )
    add(
        "--version-compatible",
        action="store_true",
        help="build tensorrt engines that later versions and the lean runtime (srsdk[lean]) open, "
        "too; they may be slower",
    )


def _add_data(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of pictures for INT8 calibration, --qat and the --triton warm-up",
    )
    add(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of ground truth to report PSNR on and to limit the INT8 loss on; "
        "may be repeated",
    )
    add("--seed", type=int, default=0, help="seed of the calibration crops and --qat (default: 0)")
    add(
        "--qat",
        type=int,
        default=0,
        metavar="STEPS",
        help="steps of quantization-aware training on --data before INT8; used only if the result "
        "is better (default: 0, off)",
    )


def _add_reports(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--json", action="store_true", help="print the report as JSON")
    add(
        "--no-comparison",
        dest="comparison",
        action="store_false",
        help="skip the speed comparison on this CPU",
    )
    add("-v", "--verbose", action="store_true", help="log each step, as on a terminal")
