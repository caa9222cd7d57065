"""The arguments `device=` and `provider=`: which spellings exist, and which go together.

Knows no library: whether a device exists is asked when a model is opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from srsdk.errors import UsageError

PROVIDERS = ("cpu", "cuda", "coreml", "directml", "openvino", "tensorrt-rtx", "webgpu")
"""Names for `provider=`; `cpu` and `cuda` are what `device="cpu"` and `"cuda"` choose."""
DEVICES = "gpu, gpu:1, npu, auto:gpu,cpu, hetero:gpu,cpu"
"""Spellings of OpenVINO's devices, for messages."""
MODES = ("auto", "hetero")
_DEFAULTS: dict[str, tuple[str, ...]] = {"coreml": (), "openvino": ("cpu",)}
"""Device of a provider that is named alone; for the others the first GPU. CoreML divides a network
among the processor, the GPU and the neural engine by itself."""
_NAME = re.compile(r"cpu|(?:gpu|npu)(?::(?:0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class Accelerator:
    """What runs a model that neither the plain CPU engines nor the CUDA engines run."""

    provider: str
    """One of `PROVIDERS`, without `cpu` and `cuda`; empty: OpenVINO itself."""
    mode: str
    """`auto` (the first device that can), `hetero` (a graph over several), or empty: one device."""
    devices: tuple[str, ...]
    """`cpu`, `gpu`, `gpu:1`, `npu`, ... in order of priority; empty: CoreML, which has none."""

    @property
    def backend(self) -> str:
        """The backend that has it."""
        return "onnxruntime" if self.provider else "openvino"

    @property
    def uses_cpu(self) -> bool:
        """Whether the CPU computes, or may compute, a part of the network."""
        return "cpu" in self.devices

    def __str__(self) -> str:
        """Return it as the user spells it, such as `auto:gpu,cpu` or `openvino:npu`."""
        prefix = self.provider or self.mode
        return ":".join(part for part in (prefix, ",".join(self.devices)) if part)


def choose_accelerator(
    device: str,
    devices: Sequence[int] | None,
    backend: str,
    provider: str | None,
    *,
    is_engine: bool,
) -> Accelerator | None:
    """Return the accelerator that the arguments name; None: the CPU or CUDA GPUs.

    Raises:
        UsageError: an unknown name, or names that exclude each other or the file.
    """
    if provider is not None:
        _check_provider(device, devices, backend, provider, is_engine=is_engine)
        if provider in ("cpu", "cuda"):
            return None
        names = _DEFAULTS.get(provider, ("gpu",)) if device == "auto" else _names(device, device)
        return Accelerator(provider, "", names)
    found = _of_openvino(device)
    if found is None:
        return None
    if devices is not None:
        raise UsageError(f"device={device!r} and devices={devices!r} cannot be combined")
    if is_engine:
        raise UsageError(
            f"an .engine file runs on a CUDA GPU, not on device={device!r}; use the .onnx file"
        )
    if backend not in ("auto", "openvino"):
        raise UsageError(
            f"device={device!r} is a device of OpenVINO, got backend={backend!r}: omit backend=, "
            "or name a provider of ONNX Runtime, such as provider='directml'"
        )
    return found


def plain_device(
    device: str, devices: Sequence[int] | None, backend: str, provider: str | None
) -> tuple[str, str]:
    """Return device and backend that `provider="cpu"` and `"cuda"` stand for; else as given."""
    if provider not in ("cpu", "cuda"):
        return device, backend
    return (provider if device == "auto" and devices is None else device), "onnxruntime"


def _of_openvino(device: object) -> Accelerator | None:
    """Parse a device; None: one that is not OpenVINO's alone."""
    if not isinstance(device, str):
        return None
    mode, separator, several = device.partition(":")
    if mode in MODES and separator:
        return Accelerator("", mode, _names(several, device))
    # a number of any other form is refused by its error, not taken for a CUDA device
    if re.match(r"(gpu|npu)\b", device):
        return Accelerator("", "", _name(device))
    return None


def _name(device: str) -> tuple[str, ...]:
    names = _names(device, device)
    if len(names) > 1:
        raise UsageError(
            f"device {device!r} names several devices: 'auto:{device}' uses the first that can, "
            f"'hetero:{device}' all of them for one graph"
        )
    return names


def _names(text: str, device: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if len(set(names)) != len(names) or not all(map(_NAME.fullmatch, names)):
        raise UsageError(
            f"device {device!r} is not one of cpu, {DEVICES}: expected different names of cpu, "
            "gpu, gpu:0, gpu:1, npu"
        )
    return names


def _check_provider(
    device: str, devices: Sequence[int] | None, backend: str, provider: str, *, is_engine: bool
) -> None:
    if provider not in PROVIDERS:
        raise UsageError(f"provider {provider!r} is not one of {', '.join(PROVIDERS)}")
    if is_engine:
        raise UsageError(
            f"an .engine file runs in TensorRT, got provider={provider!r}; use the .onnx file"
        )
    if backend not in ("auto", "onnxruntime"):
        raise UsageError(
            f"provider={provider!r} is a provider of ONNX Runtime, got backend={backend!r}: omit "
            "one of the two"
        )
    if devices is not None and provider != "cuda":
        raise UsageError(
            f"devices={devices!r} are CUDA GPUs, got provider={provider!r}: omit one of the two"
        )
    if not isinstance(device, str) or not _agree(device, provider):
        raise UsageError(f"provider={provider!r} has no device {device!r}: {_fix(provider)}")


def _agree(device: str, provider: str) -> bool:
    if device == "auto":
        return True
    if provider in ("cpu", "cuda"):
        return device.partition(":")[0] == provider
    if provider == "webgpu":
        # it takes the adapter that the system prefers
        return device == "gpu"
    kinds = {"coreml": (), "openvino": ("cpu", "gpu", "npu")}.get(provider, ("gpu",))
    return device.partition(":")[0] in kinds and "," not in device


def _fix(provider: str) -> str:
    if provider in ("cpu", "coreml"):
        return "omit device="
    known = {
        "cuda": "'cuda' or 'cuda:1'",
        "openvino": "'cpu', 'gpu', 'gpu:1' or 'npu'",
        "webgpu": "'gpu'",
    }
    return f"""device is {known.get(provider, "'gpu' or 'gpu:1'")}, or omit it"""
