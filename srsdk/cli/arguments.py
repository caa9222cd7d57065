"""Command-line arguments shared by several commands, and their parsers."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Literal

import srsdk
from srsdk import models
from srsdk.autotune.settings import PRECISIONS
from srsdk.cli.parser import nearest
from srsdk.engines.accelerators.spelling import PROVIDERS
from srsdk.engines.backends import ALL_BACKENDS
from srsdk.errors import UsageError

log = logging.getLogger("srsdk")

MODEL_HELP = "name of a model (see `srsdk models`) or path to a model file"
EXIT_FAILED = 1
"""Exit code after a reported failure."""


STREAM = "-"
"""Standard input or output, where a path is expected; a file of this name is `./-`."""

Container = argparse.ArgumentParser | argparse._ArgumentGroup


def add_model_arguments(command: Container, scale: str = "4") -> None:
    """Add the options that select one model and how to run it; `scale`: the default, for help."""
    command.add_argument("--model", type=known_model, help=MODEL_HELP)
    command.add_argument(
        "--scale",
        type=int,
        choices=(2, 4),
        help=f"upscaling factor; selects the shipped model (default: {scale})",
    )
    command.add_argument(
        "--kind",
        choices=models.single(),
        help="kind of image; selects the shipped model (default: photo)",
    )
    add_running_arguments(command)


def add_running_arguments(command: Container) -> None:
    """Add the options for device, backend, precision, tile size and threads."""
    command.add_argument(
        "--tile",
        type=tile,
        default="auto",
        help="tile size in pixels: N, HEIGHTxWIDTH or auto (default: auto)",
    )
    command.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N; of OpenVINO gpu, gpu:N, npu, auto:gpu,cpu, hetero:gpu,cpu "
        "(default: auto)",
    )
    command.add_argument(
        "--backend",
        choices=("auto", *ALL_BACKENDS),
        default="auto",
        help="inference library (default: auto)",
    )
    command.add_argument(
        "--provider", choices=PROVIDERS, help="execution provider of the backend onnxruntime"
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto: on a CPU, the faster INT8 file of a shipped model; fp32: the float32 file; "
        "bf16: float32 file computed in bfloat16; int8: INT8 file or an error (default: auto)",
    )
    command.add_argument("--threads", type=int, help="CPU threads (default: chosen by the backend)")
    command.add_argument(
        "--tune",
        action="store_true",
        help="use the fastest CPU configuration, as found by `srsdk tune`",
    )


def model_name(arguments: argparse.Namespace) -> str:
    """Return the model named by --model or selected by --kind and --scale."""
    if arguments.model is None:
        return models.default(arguments.kind or "photo", int(arguments.scale or 4))
    for name in ("scale", "kind"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--model cannot be combined with --{name}: each selects a model")
    return str(arguments.model)


def open_model(
    arguments: argparse.Namespace, model: str, optimize: Literal["latency", "throughput"]
) -> srsdk.Upscaler:
    """Open a model with the arguments from `add_running_arguments`."""
    up = srsdk.Upscaler(
        model,
        device=arguments.device,
        backend=arguments.backend,
        provider=arguments.provider,
        tile=arguments.tile,
        threads=arguments.threads,
        optimize=optimize,
        precision=arguments.precision,
        tune=arguments.tune,
    )
    log.info("%r", up)
    return up


def path_or_url(text: str) -> Path | str:
    """Parse a path, `-` or a storage URL; a `Path` would collapse the slashes of a URL."""
    return text if "://" in text or text == STREAM else Path(text)


def known_model(text: str) -> str:
    """Parse the name of a shipped, fetched or installed model, or a path."""
    if not models.is_name(text) or text in models.shipped():
        return text
    # where packages keep their names is read only for other names
    if text not in (known := models.names()):
        hint = nearest(text, known) or ";"
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a shipped model{hint} `srsdk models` lists them; for a file, give "
            "its path, such as ./my_model.onnx"
        )
    return text


def tile(text: str) -> int | tuple[int, int] | str:
    """Parse `auto`, `256` or `256x384` (height first)."""
    if text == "auto":
        return text
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected auto, 256 or 256x384 (height first)")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive whole number")
    return int(text)


def setting(text: str) -> tuple[str, float]:
    """Parse `NAME=VALUE`, as in `--set noise=15`."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NAME=VALUE, such as noise=15"
        ) from None
