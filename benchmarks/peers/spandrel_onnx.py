"""SPAN as an ONNX file, run by the fastest libraries.

`python -m benchmarks.peers.spandrel_onnx FOLDER` writes the file. It has 26 channels and 131 K
parameters after its convolutions are merged: a small member of the family that wins NTIRE's
efficiency challenges. Its weights are random, which does not affect speed. `python -m export`
writes it like any checkpoint, uint8 in and uint8 out, so SPAN is at no disadvantage.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import bare_onnxruntime, bare_openvino
from benchmarks.peers.adapters import Job, Upscale

FILE = "span26_x4.onnx"
CHANNELS = 26


def openvino(job: Job) -> Upscale:
    """Run in OpenVINO, in float32."""
    return bare_openvino.fp32(_of(job))


def openvino_bf16(job: Job) -> Upscale:
    """Run in OpenVINO with its defaults: bfloat16 where the processor has it."""
    return bare_openvino.defaults(_of(job))


def onnxruntime(job: Job) -> Upscale:
    """Run in ONNX Runtime, in float32."""
    return bare_onnxruntime.open_it(_of(job))


def _of(job: Job) -> Job:
    assert job.files is not None
    return dataclasses.replace(job, model=str(Path(job.files) / FILE))


def make(folder: Path) -> Path:
    """Write the file into a folder, creating the folder if missing.

    Raises:
        ModuleNotFoundError: spandrel is not installed.
        OSError: the folder cannot be written.
    """
    import torch

    from benchmarks.peers.spandrel_nets import SCALE, without_torchvision
    from export.options import Options
    from export.pipeline import export

    without_torchvision()
    from spandrel.architectures.SPAN.__arch.span import SPAN

    torch.manual_seed(0)
    options: dict[str, Any] = {"feature_channels": CHANNELS, "upscale": SCALE}
    net = SPAN(num_in_ch=3, num_out_ch=3, **options).eval()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "span26_x4.pth"
        torch.save(net.state_dict(), weights)
        export(weights, folder / FILE, Options(), force=True)
    return folder / FILE


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.spandrel_onnx", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="output folder, for the option --files of peers")
    try:
        made = make(parser.parse_args(argv).folder)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"benchmarks: {error.name} is not installed: pip install 'srsdk[peers]'\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1
    sys.stdout.write(f"wrote {made}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
