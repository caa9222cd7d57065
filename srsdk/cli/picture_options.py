"""Options of `srsdk upscale` for models, output size, alpha, encoding and limits."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import Any, Literal, get_args

from PIL import Image

from srsdk.chain import Chain, Restorer
from srsdk.cli.arguments import MODEL_HELP
from srsdk.errors import UsageError
from srsdk.inference.planner import parse_bytes
from srsdk.models import DEFAULTS, single
from srsdk.options import AlphaBy, Fit, PictureOptions, Subsampling
from srsdk.upscaler import Upscaler

RESTORER = "ae_x1"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    _add_models(command)
    _add_size(command)
    _add_encoding(command)


def _add_models(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", help=MODEL_HELP)
    add(
        "--kind",
        choices=tuple(DEFAULTS),
        help="kind of image, selects the models; compressed: JPEG or noisy (default: photo)",
    )
    add(
        "--texture",
        type=float,
        metavar="0..1",
        help="0: highest fidelity, 1: most texture; needs MODEL_texture.onnx next to the model",
    )
    add(
        "--denoise",
        nargs="?",
        const=RESTORER,
        metavar="MODEL",
        help=f"remove noise and JPEG artifacts first, with MODEL (default: {RESTORER})",
    )


def _add_size(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--scale",
        type=float,
        help="upscaling factor, up to 16, such as 2.5 (default: 4, or that of --model)",
    )
    add("--width", type=int, metavar="PX", help="output width; the height follows if omitted")
    add("--height", type=int, metavar="PX", help="output height; the width follows if omitted")
    add(
        "--fit",
        choices=get_args(Fit),
        default="contain",
        help="with --width and --height: fit inside the box, cover and crop, or stretch "
        "(default: contain)",
    )
    add("--max-pixels", type=int, metavar="N", help="largest input image to accept, in pixels")
    add(
        "--max-memory",
        type=parse_bytes,
        metavar="BYTES",
        help="memory limit per image, such as 1.5GB (default: 4/5 of the available memory)",
    )


def _add_encoding(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--alpha",
        choices=get_args(AlphaBy),
        default="model",
        help="how to upscale transparency (default: model)",
    )
    add(
        "--quality",
        type=_quality,
        help="1 to 100, keep (as in a source JPEG) or lossless (WebP); default: 95, AVIF 90",
    )
    add(
        "--subsampling",
        choices=get_args(Subsampling),
        help="chroma subsampling of JPEG and AVIF (default: 4:4:4)",
    )


def options(arguments: argparse.Namespace) -> PictureOptions:
    """Return the options for each picture, and apply --max-pixels to Pillow's limit.

    Raises:
        UsageError: values out of range, or options that cannot be combined.
    """
    if arguments.max_pixels is not None:
        if arguments.max_pixels < 1:
            raise UsageError(f"--max-pixels {arguments.max_pixels}: expected a number above 0")
        # Pillow refuses at twice its limit
        Image.MAX_IMAGE_PIXELS = -(-arguments.max_pixels // 2)
    return PictureOptions(
        scale=arguments.scale,
        width=arguments.width,
        height=arguments.height,
        fit=arguments.fit,
        alpha=arguments.alpha,
        quality=arguments.quality,
        subsampling=arguments.subsampling,
        max_memory_bytes=arguments.max_memory,
    )


def check_supported_by_ray(arguments: argparse.Namespace, options: PictureOptions) -> None:
    """Refuse options that workers of a cluster do not support.

    Raises:
        UsageError: anything except a model, or a scale of 2 or 4.
    """
    more = replace(options, scale=None) != PictureOptions()
    kind = arguments.kind or "photo"
    models = arguments.denoise is not None or arguments.texture is not None
    if more or models or kind not in single() or arguments.scale not in (None, 2, 4):
        raise UsageError(
            "--ray takes a --model or a --scale of 2 or 4, no other size or image options"
        )


def open_models(arguments: argparse.Namespace, optimize: Literal["latency", "throughput"]) -> Chain:
    """Open the models that the arguments name or that kind and scale select."""
    shared: dict[str, Any] = {
        "optimize": optimize,
        "precision": arguments.precision,
        "tune": arguments.tune,
        "device": arguments.device,
        "backend": arguments.backend,
        "threads": arguments.threads,
    }
    restorer, enlargers = _names(arguments)
    opened: list[Upscaler] = []
    try:
        if restorer is not None:
            opened.append(Restorer(restorer, **shared))
        for number, name in enumerate(enlargers):
            texture = None if number else arguments.texture
            opened.append(Upscaler(name, tile=arguments.tile, texture=texture, **shared))
        logging.getLogger("srsdk").info("%s", ", ".join(map(repr, opened)))
        return Chain(*opened)
    except BaseException:
        for model in opened:
            model.close()
        raise


def _names(arguments: argparse.Namespace) -> tuple[str | None, tuple[str, ...]]:
    """Return the x1 restoration model to run first, if any, and the models that enlarge.

    Among the shipped models, those that reach the scale with the fewest wasted pixels.
    """
    if arguments.model is not None:
        if arguments.kind is not None:
            raise UsageError("--model cannot be combined with --kind: each selects a model")
        return arguments.denoise, (arguments.model,)
    by_scale, scale = DEFAULTS[arguments.kind or "photo"], arguments.scale
    small = scale is not None and scale <= 2 and 2 in by_scale
    *before, first = by_scale[2 if small else 4]
    restorer = arguments.denoise or (before[0] if before else None)
    if scale is None or scale <= 4:
        return restorer, (first,)
    # the output of the first model is clean, whatever the source was
    return restorer, (first, *DEFAULTS["photo"][2 if scale <= 8 else 4])


def _quality(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
