"""What `srsdk upscale` says of pictures: models, sizes, alpha, encoding, limits."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import Any, Literal, get_args

from PIL import Image

from srsdk.chain import Chain, Restorer
from srsdk.errors import UsageError
from srsdk.memory_plan import parse_bytes
from srsdk.models import DEFAULTS, single
from srsdk.options import AlphaBy, Fit, PictureOptions, Subsampling
from srsdk.upscaler import Upscaler

RESTORER = "ae_x1"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = command.add_argument
    add("--model", help="a shipped model's name (srsdk models), or a file's path")
    add(
        "--kind",
        choices=tuple(DEFAULTS),
        help="of picture, picks the models (photo); compressed: JPEG or noisy",
    )
    add("--scale", type=float, help="output size over input size, 1 to 16; 2.5 is fine (4)")
    add("--width", type=int, metavar="PX", help="width of the result; alone it keeps the aspect")
    add("--height", type=int, metavar="PX", help="height of the result; alone the same")
    add(
        "--fit",
        choices=get_args(Fit),
        default="contain",
        help="with both sides: inside of the box, covering and cropped, or stretched",
    )
    add("--alpha", choices=get_args(AlphaBy), default="model", help="what enlarges transparency")
    add(
        "--texture",
        type=float,
        metavar="0..1",
        help="0: fidelity, 1: texture; needs MODEL_texture.onnx beside the model",
    )
    add(
        "--denoise",
        nargs="?",
        const=RESTORER,
        metavar="MODEL",
        help=f"restore first: noise and JPEG damage ({RESTORER}, or a file's path)",
    )
    add("--quality", type=_quality, help="1 to 100, keep (a JPEG's own) or lossless (WebP)")
    add("--subsampling", choices=get_args(Subsampling), help="of colours in JPEG, AVIF (4:4:4)")
    add(
        "--max-memory",
        type=parse_bytes,
        metavar="BYTES",
        help="of a picture: 800MB, 1.5GB",
    )
    add("--max-pixels", type=int, metavar="N", help="raise the limit on a source's size")


def options(arguments: argparse.Namespace) -> PictureOptions:
    """Return what is asked of each picture, and raise Pillow's limit where that is asked.

    Raises:
        UsageError: values out of their range, or that exclude each other.
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


def check_plain(arguments: argparse.Namespace, options: PictureOptions) -> None:
    """Refuse what workers of a cluster do not take.

    Raises:
        UsageError: anything beside a model, or a scale of 2 or 4.
    """
    more = replace(options, scale=None) != PictureOptions()
    kind = arguments.kind or "photo"
    models = arguments.denoise is not None or arguments.texture is not None
    if more or models or kind not in single() or arguments.scale not in (None, 2, 4):
        raise UsageError("--ray takes a --model, or a --scale of 2 or 4, and no other size or look")


def open_models(arguments: argparse.Namespace, optimize: Literal["latency", "throughput"]) -> Chain:
    """Open the models that the arguments name, or that the scale asks for."""
    shared: dict[str, Any] = {
        "optimize": optimize,
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
    """Return the model of x1 that goes first, if one does, and those that enlarge.

    Of the shipped ones these reach a scale with the fewest pixels computed in vain.
    """
    if arguments.model is not None:
        if arguments.kind is not None:
            raise UsageError("--model and --kind exclude each other: a kind picks the model")
        return arguments.denoise, (arguments.model,)
    by_scale, scale = DEFAULTS[arguments.kind or "photo"], arguments.scale
    small = scale is not None and scale <= 2 and 2 in by_scale
    *before, first = by_scale[2 if small else 4]
    restorer = arguments.denoise or (before[0] if before else None)
    if scale is None or scale <= 4:
        return restorer, (first,)
    # what the first one gives is clean, whatever it was given
    return restorer, (first, *DEFAULTS["photo"][2 if scale <= 8 else 4])


def _quality(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
