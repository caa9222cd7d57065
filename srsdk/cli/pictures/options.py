"""Options of `srsdk upscale` for models, output size, alpha, encoding and limits."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import Any, Literal, get_args

from PIL import Image

from srsdk.chain import Chain, Restorer
from srsdk.cli.arguments import MODEL_HELP, known_model, setting
from srsdk.errors import UsageError
from srsdk.inference.planner import parse_bytes
from srsdk.models import DEFAULTS, single
from srsdk.options import AlphaBy, Fit, PictureOptions, Subsampling
from srsdk.upscaler import Upscaler

RESTORER = "ae_x1"


FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tiff", "gif")
"""For `--format`: suffixes without the dot."""


def add_model_choice(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose the models."""
    add = group.add_argument
    add(
        "--kind",
        choices=tuple(DEFAULTS),
        help="kind of image, selects the models; photo: small but clean, compressed: JPEG or "
        "noisy, realworld: blurred and compressed, drawing: comics, charts, screenshots "
        "(default: photo)",
    )
    add("--model", type=known_model, help=MODEL_HELP)
    add(
        "--texture",
        type=float,
        metavar="0..1",
        help="0: highest fidelity, 1: most texture; needs MODEL_texture.onnx next to the model",
    )
    add(
        "--set",
        action="append",
        default=[],
        type=setting,
        metavar="NAME=VALUE",
        help="number that the model takes beside the image, as noise=15 (see srsdk info MODEL)",
    )
    add(
        "--denoise",
        nargs="?",
        const=RESTORER,
        metavar="MODEL",
        help=f"remove noise and JPEG artifacts first, with MODEL (default: {RESTORER})",
    )


def add_size(group: argparse._ArgumentGroup) -> None:
    """Add the options for the size of the result and the largest source."""
    add = group.add_argument
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


def add_encoding(group: argparse._ArgumentGroup) -> None:
    """Add the options for the format of the result."""
    add = group.add_argument
    add(
        "--format",
        choices=FORMATS,
        help="format of the results; for a named output file, its suffix says so "
        "(default: that of the source, png to standard output)",
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
    add(
        "--alpha",
        choices=get_args(AlphaBy),
        default="model",
        help="how to upscale transparency (default: model)",
    )


def add_memory(group: argparse._ArgumentGroup) -> None:
    """Add the limit on memory."""
    group.add_argument(
        "--max-memory",
        type=parse_bytes,
        metavar="BYTES",
        help="memory limit per image, such as 1.5GB (default: 4/5 of the available memory)",
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
        inputs=dict(arguments.set),
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
        "provider": arguments.provider,
        "threads": arguments.threads,
    }
    restorer = restorer_name(arguments.denoise, arguments.kind)
    enlargers = model_names(arguments.model, arguments.kind, arguments.scale)
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


def model_names(model: str | None, kind: str | None, scale: float | None) -> tuple[str, ...]:
    """Return the models that enlarge, in the order in which they run.

    Among the shipped models, those that reach the scale with the fewest wasted pixels.

    Raises:
        UsageError: both a model and a kind.
    """
    if model is not None:
        if kind is not None:
            raise UsageError("--model cannot be combined with --kind: each selects a model")
        return (model,)
    by_scale = DEFAULTS[kind or "photo"]
    small = scale is not None and scale <= 2 and 2 in by_scale
    first = by_scale[2 if small else 4][-1]
    if scale is None or scale <= 4:
        return (first,)
    # the output of the first model is clean, whatever the source was
    return (first, *DEFAULTS["photo"][2 if scale <= 8 else 4])


def restorer_name(denoise: str | None, kind: str | None) -> str | None:
    """Return the x1 restoration model to run first, if any."""
    before = DEFAULTS[kind or "photo"][4][:-1]
    return denoise or (before[0] if before else None)


def _quality(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
