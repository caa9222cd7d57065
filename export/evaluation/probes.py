"""Create the self-test probe of a file (`srsdk.formats.probe`), with a margin for other kernels."""

from __future__ import annotations

from types import MappingProxyType

from export.graph.layers import Flavour
from export.protocol import Run
from srsdk.formats.probe import Agreement, Probe, picture

SIDE_PX = 32
PROMISES = MappingProxyType({"fp32": Agreement(55.0, 2), "fp16": Agreement(45.0, 6)})
"""Limits by precision. Other kernels round a few samples differently, and GPUs compute float32 in
TF32, which has the mantissa of float16."""
ROOM: MappingProxyType[Flavour, tuple[float, int]] = MappingProxyType(
    {"cpu": (1.5, 6), "gpu": (3.0, 12)}
)
"""Margins of INT8, dB and levels. CPU kernels without saturation give the same integers, but the
float parts between them round differently; on GPUs these parts are float16. Files whose weights
saturated on AVX2 lost 4.7 to 8.8 dB and 14 to 81 levels."""


def make_probe(
    reference: Run,
    run: Run,
    precision: str,
    flavour: Flavour,
    *,
    size_px: tuple[int, int] | None,
    multiple_px: int,
    channels: int,
) -> Probe:
    """Run the float32 network and a file's graph on the probe picture.

    Args:
        reference: the float32 network.
        run: the file's graph.
        precision: `fp32`, `fp16` or `int8`.
        flavour: form of INT8.
        size_px: (height, width) that the file accepts; None: any.
        multiple_px: sizes are multiples of this.
        channels: channels of the picture.
    """
    side = -(-SIDE_PX // multiple_px) * multiple_px
    height, width = size_px or (side, side)
    batch = picture(height, width, channels)[None]
    wanted = reference(batch)[0]
    if precision in PROMISES:
        promise = PROMISES[precision]
        return Probe.of((height, width), wanted, promise.psnr_db, promise.max_lsb)
    found = Probe.of((height, width), wanted, 0, 255).compare(run(batch)[0])
    room_db, room_lsb = ROOM[flavour]
    lsb = min(255, found.max_lsb + room_lsb)
    return Probe.of((height, width), wanted, found.psnr_db - room_db, lsb)
