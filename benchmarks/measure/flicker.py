"""`python -m benchmarks flicker`: how much the error of an upscaler changes between frames.

A camera pans over a picture by fractions of a pixel, so the truth of every frame is known. An error
that moves with the picture is only blur; one that changes from frame to frame is seen as flicker.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import srsdk
from benchmarks import machine, records, workloads
from benchmarks.measure.peers import PeersError
from benchmarks.peers.adapters import Job, open_peer

Picture = npt.NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]

MODELS = ("realtime_x2", "gan_x2", "gan_x4")
PEER = "ncnn-animevideov3"
SIDE_PX = 96
"""Side of a low-resolution frame, a multiple of every scale."""
FINER = 4
"""Subpixel positions per pixel of the truth."""
SCENE_PX = (4 * SIDE_PX + 32) * FINER
SMALLEST_PX = SCENE_PX // 2
"""Pictures are enlarged by up to two, so that there is still detail at the pixel."""
FRAMES = 16
STEP = (3, 5)
"""Motion per frame in subpixels, (down, right)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `flicker`."""
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), help=f"default: {' '.join(MODELS)}"
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder of large pictures to pan over (default: a generated one)",
    )
    parser.add_argument(
        "--files", metavar="DIR", help=f"folder with the model files of {PEER}, to compare with"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure all models, and bicubic enlargement, on the same frames."""
    scenes = list(_scenes(arguments.pictures))
    if not scenes:
        raise PeersError(
            f"{arguments.pictures} has no picture of {SMALLEST_PX} px or more on its short side"
        )
    facts = machine.describe()
    for name, scale, upscale in _candidates(arguments):
        before = machine.moment()
        found = [measure(scene, scale, upscale) for scene in scenes]
        result = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        result["of_truth"] = result["flicker"] / max(result["change"], 1e-9)
        config = {"candidate": name, "scale": scale, "scenes": len(scenes), "frames": FRAMES}
        after = machine.moment()
        record = records.make(
            "flicker", config, result, facts, before, after, machine.command_line()
        )
        sys.stdout.write(
            f"{name} x{scale}: flicker {result['flicker']:.2f} levels, {result['of_truth']:.2f} of "
            f"the truth's change; error {result['error']:.2f} levels\n"
        )
        if arguments.out:
            records.append(arguments.out, record)
    return 0


def measure(scene: Picture, scale: int, upscale: Upscale) -> dict[str, float]:
    """Pan over a scene.

    Args:
        scene: (H, W, 3), at least `SCENE_PX` on each side.
        scale: of the upscaler.
        upscale: maps (H, W, 3) to (H * scale, W * scale, 3).

    Returns:
        Means over pixels of luma, in levels of 255: `error` of a frame, `flicker`, the change of
        the signed error between frames, and `change`, that of the truth between frames.
    """
    errors, truths = [], []
    for truth in pan(scene, SIDE_PX * scale):
        small = Image.fromarray(truth).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        border = 2 * scale
        inside = np.s_[border:-border, border:-border]
        truths.append(_luma(truth)[inside])
        errors.append(_luma(upscale(np.asarray(small)))[inside] - truths[-1])
    return {
        "error": float(np.abs(errors).mean()),
        "flicker": float(np.abs(np.diff(errors, axis=0)).mean()),
        "change": float(np.abs(np.diff(truths, axis=0)).mean()),
    }


def pan(scene: Picture, side_px: int) -> Iterator[Picture]:
    """Yield frames of `side_px`: windows of the middle of the scene, reduced by `FINER`."""
    first = [(length - side_px * FINER - FRAMES * max(STEP)) // 2 for length in scene.shape[:2]]
    for index in range(FRAMES):
        y, x = (start + step * index for start, step in zip(first, STEP, strict=True))
        window = scene[y : y + side_px * FINER, x : x + side_px * FINER]
        yield np.asarray(Image.fromarray(window).resize((side_px, side_px), Image.Resampling.BOX))


def _scenes(folder: Path | None) -> Iterator[Picture]:
    if folder is None:
        yield workloads.picture(SCENE_PX, SCENE_PX)
        return
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            with Image.open(path) as image:
                if min(image.size) >= SMALLEST_PX:
                    times = max(1.0, SCENE_PX / min(image.size))
                    size = tuple(int(np.ceil(length * times)) for length in image.size)
                    yield np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))  # type: ignore[arg-type]  # a pair


def _candidates(arguments: argparse.Namespace) -> Iterator[tuple[str, int, Upscale]]:
    for scale in (2, 4):
        yield "bicubic", scale, _bicubic(scale)
    for name in arguments.models:
        with srsdk.Upscaler(name) as up:
            yield f"{up.manifest.name} {up.manifest.precision}", up.scale, up
    if arguments.files:
        job: dict[str, Any] = {"model": "gan_x4", "weights": "", "threads": machine.usable_cores()}
        yield PEER, 4, open_peer(PEER, Job(**job, height=1, width=1, files=arguments.files))


def _bicubic(scale: int) -> Upscale:
    def upscale(small: Picture) -> Picture:
        height, width = small.shape[:2]
        size = (width * scale, height * scale)
        return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))

    return upscale


def _luma(picture: Picture) -> npt.NDArray[np.float32]:
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114], np.float32), np.float32)
