"""Infer the manifest of a model file that has none."""

from __future__ import annotations

from pathlib import Path

from srsdk.engines.protocol import Engine, Signature, picture_shape
from srsdk.errors import BackendError, ModelError, OutOfMemoryError
from srsdk.manifest import Manifest

DEFAULT_RADIUS_PX = 32
"""Overlap for networks with an unknown receptive field; most small networks need less."""
PROBE_PX = (24, 40)
MAX_TRIAL_PX = 1 << 24
"""Pixels of a file's only input size; a trial run on more takes minutes and gigabytes."""


def infer_manifest(path: Path, engine: Engine) -> Manifest:
    """Infer layout, channels, sizes and scale from the graph and one small run.

    Raises:
        ModelError: not an upscaler: neither 1 nor 3 channels, or the scale is not an integer; or
            its only input size is too large to try.
        OutOfMemoryError: not enough memory for the trial run.
    """
    layout, channels, size = _axes(path, engine.signature)
    height, width = size or PROBE_PX
    n = 1
    if engine.profiles and size is None:
        n, height, width = engine.profiles[0]
    elif engine.profiles:
        n = min(batch for batch, *_ in engine.profiles)
    if n * height * width > MAX_TRIAL_PX:
        raise ModelError(
            f"{path} has no manifest, and a trial run on its input of {n}x{height}x{width} pixels "
            f"would take too long: expected at most {MAX_TRIAL_PX:,} pixels"
        )
    shape = (n, channels, height, width) if layout == "NCHW" else (n, height, width, channels)
    slot = None
    try:
        slot = engine.slot(shape)
        slot.submit()
        got = picture_shape(slot.wait().shape)
    except BackendError as error:
        raise ModelError(f"{path} is not an image model: a trial run failed: {error}") from error
    except MemoryError as error:
        raise OutOfMemoryError(f"{path}: not enough memory for a trial run on {shape}") from error
    finally:
        if slot is not None:
            slot.close()
    scale = got[2] // height if layout == "NCHW" else got[1] // height
    if layout == "NCHW":
        expected = (n, channels, height * scale, width * scale)
    else:
        expected = (n, height * scale, width * scale, channels)
    if scale < 1 or got != expected:
        wanted = str(expected) if scale else "a whole multiple of height and width"
        raise ModelError(
            f"{path} is not an image model: it maps {shape} to {got}, expected {wanted}"
        )
    return Manifest(
        name=path.stem,
        scale=scale,
        channels=channels,
        dtype=engine.signature.dtype,
        layout=layout,
        radius_px=DEFAULT_RADIUS_PX if size is None else min(DEFAULT_RADIUS_PX, min(size) // 4),
        size_px=size,
        profiles=engine.profiles,
    )


def _axes(path: Path, signature: Signature) -> tuple[str, int, tuple[int, int] | None]:
    shape = signature.input_shape
    for layout, channel_axis, picture_axes in (("NCHW", 1, (2, 3)), ("NHWC", 3, (1, 2))):
        channels = shape[channel_axis]
        if channels in (1, 3) and signature.output_shape[channel_axis] in (channels, None):
            height, width = (shape[axis] for axis in picture_axes)
            if height is None or width is None:
                return layout, channels, None
            if min(height, width) < 1:
                break
            return layout, channels, (height, width)
    raise ModelError(
        f"{path} is not an image model: its input is {shape}, expected 1 or 3 channels, NCHW or "
        "NHWC"
    )
