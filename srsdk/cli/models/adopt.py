"""`srsdk adopt MODEL.onnx -o MINE.onnx`: write a file that says itself what it reads and writes."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from srsdk.adoption.adopt import adopt
from srsdk.adoption.file import Written, check_target, write
from srsdk.adoption.io import IO
from srsdk.cli.arguments import setting
from srsdk.cli.terminal import say
from srsdk.engines.backends import BACKENDS, installed
from srsdk.engines.select import open_engine
from srsdk.errors import BackendError, UsageError
from srsdk.manifest import read_manifest
from srsdk.models.terms import identifiers

EPILOG = """\
What is not said is found by the graph and by a run of it, and shown; say what was only assumed.
A file is written only if it gives what a direct run of the original gives, within one level.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk adopt`."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = EPILOG
    add = command.add_argument
    add("model", type=Path, metavar="MODEL.onnx", help="ONNX file of an image-to-image network")
    add("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    add(
        "--range",
        metavar="WHITE|BLACK,WHITE",
        help="values that it reads: 1, 255, or as --range=-1,1",
    )
    add("--output-range", metavar="WHITE|BLACK,WHITE", help="values that it writes, if others")
    add("--mean", metavar="M|M,M,M", help="subtracted after the range, for all or each channel")
    add("--std", metavar="S|S,S,S", help="divides after the mean")
    add("--order", choices=("rgb", "bgr"), help="order of the color channels")
    add("--output-order", choices=("rgb", "bgr"), help="order in the output, if another")
    add("--layout", choices=("NCHW", "NHWC"), help="order of the axes")
    add("--alpha", choices=("network", "apart"), help="alpha of networks with four channels")
    add("--multiple", type=int, metavar="PX", help="height and width are multiples of this")
    add("--input-name", metavar="NAME", help="input that takes the picture")
    add("--output-name", metavar="NAME", help="output that has the result")
    add(
        "--set",
        action="append",
        default=[],
        type=_divided,
        metavar="NAME=VALUE[/DIVISOR]",
        help="further input and its default, as noise=15/255",
    )
    add("--name", help="name of the model (default: that of the file)")
    add("--license", default="", metavar="TEXT", help="license of the weights, as CC-BY-4.0")
    add("--training-data", default="", metavar="TEXT", help="what it was trained on")
    add(
        "--training-license",
        action="append",
        default=[],
        metavar="SPDX",
        help="license of that data as an SPDX identifier, as CC0-1.0; may be repeated",
    )
    add("--force", action="store_true", help="replace the output")


def run(arguments: argparse.Namespace) -> int:
    """Adopt a file and show what was found."""
    source, target = arguments.model, arguments.output
    fields: dict[str, Any] = {
        "licence": arguments.license,
        "training_data": arguments.training_data,
        "training_licenses": _licenses(arguments.training_license),
    }
    if target.suffix != ".onnx":
        raise UsageError(f"{target}: expected a name that ends in .onnx")
    check_target(target, overwrite=arguments.force)
    if read_manifest(source) is not None:
        raise UsageError(f"{source} has a manifest: it says itself what it reads and writes")
    backend = next((name for name in reversed(BACKENDS) if installed(name)), None)
    if backend is None:
        raise BackendError("no engine is installed: pip install 'srsdk[cpu]'")
    opened = partial(_opened, source, backend)
    adopted = adopt(source, io_of(arguments), opened, backend)
    if adopted is None:
        raise UsageError(f"{source} is a sampling network of srsdk, whose boundary is its own")
    for text in adopted.assumed:
        say(f"assumed: {text}")
    if arguments.name is not None:
        fields["name"] = arguments.name
    written = write(adopted, target, opened, overwrite=arguments.force, **fields)
    sys.stdout.write("".join(f"{line}\n" for line in _lines(written, adopted.told)))
    return 0


def io_of(arguments: argparse.Namespace) -> IO:
    """Return what the options say of the network.

    Raises:
        UsageError: an option has another form.
    """
    return IO(
        range=_numbers("--range", arguments.range),
        output_range=_numbers("--output-range", arguments.output_range),
        mean=_numbers("--mean", arguments.mean),
        std=_numbers("--std", arguments.std),
        order=arguments.order,
        output_order=arguments.output_order,
        layout=arguments.layout,
        alpha=arguments.alpha,
        multiple=arguments.multiple,
        input=arguments.input_name,
        output=arguments.output_name,
        inputs=dict(arguments.set),
    )


def _opened(source: Path, backend: str, graph: bytes) -> Any:
    return open_engine(source, backend, graph=graph, cache=False)


def _numbers(option: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} is {text!r}, expected numbers such as 255 or -1,1") from None
    return values[0] if len(values) == 1 else values


def _licenses(texts: list[str]) -> tuple[str, ...]:
    try:
        return identifiers(texts)
    except ValueError as error:
        raise UsageError(f"--training-license {error}") from error


def _divided(text: str) -> tuple[str, tuple[float, float]]:
    """Parse `NAME=VALUE` or `NAME=VALUE/DIVISOR`."""
    number, _, divisor = text.partition("/")
    name, value = setting(number)
    return name, (value, setting(f"divisor={divisor or 1}")[1])


def _lines(written: Written, told: tuple[str, ...]) -> list[str]:
    m = written.manifest
    lines = [f"{written.path}: {m.name} x{m.scale}, {m.channels} channels"]
    lines += [f"found: {text}" for text in told]
    lines.append(f"tiling: {m.tiling}, overlap {m.radius_px} px, multiples of {m.multiple_px} px")
    lines.append(f"checked: at most {written.max_lsb} level(s) off a direct run of the original")
    if not m.licence:
        lines.append("no license stated: --license writes it into the file")
    return lines
