"""spandrel's architectures in PyTorch, with random weights: these do not affect speed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from benchmarks.peers.adapters import Job, Upscale
from benchmarks.peers.pytorch import upscaler

SCALE = 4


def compact(job: Job) -> Upscale:
    """Compact: SRVGGNetCompact, 64 channels, 16 convolutions (realesr-animevideov3's)."""
    return _open(job, "Compact.__arch.SRVGG", "SRVGGNetCompact", upscale=SCALE)


def span(job: Job) -> Upscale:
    """SPAN, 48 channels."""
    return _open(job, "SPAN.__arch.span", "SPAN", num_in_ch=3, num_out_ch=3, upscale=SCALE)


def safmn(job: Job) -> Upscale:
    """SAFMN, 36 channels, 8 blocks."""
    return _open(job, "SAFMN.__arch.safmn", "SAFMN", dim=36, upscaling_factor=SCALE)


def rrdb(job: Job) -> Upscale:
    """RRDB with 23 blocks: ESRGAN, Real-ESRGAN x4plus."""
    return _open(job, "ESRGAN.__arch.RRDB", "RRDBNet", scale=SCALE)


def _open(job: Job, module: str, name: str, **options: Any) -> Upscale:
    without_torchvision()
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    architectures = importlib.import_module(f"spandrel.architectures.{module}")
    net: nn.Module = getattr(architectures, name)(**options)
    return upscaler(net.eval())


def without_torchvision() -> None:
    """Replace three torchvision modules by stubs, because PyPI has no build for CPUs.

    spandrel imports them for networks that are not used here.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        module: Any = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.InterpolationMode = SimpleNamespace(NEAREST=0, BILINEAR=2)
        module.rotate = module.normalize = None
        sys.modules[name] = module
