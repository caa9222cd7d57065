"""ONNX Runtime's execution providers: their packages, plug-in libraries, devices and options."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import threading
from dataclasses import dataclass
from typing import Any

# see srsdk.engines.onnxruntime: it must be set before the import, whichever module comes first
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from srsdk.engines.accelerators.spelling import Accelerator
from srsdk.errors import BackendError

log = logging.getLogger("srsdk")


@dataclass(frozen=True)
class Provider:
    """An execution provider."""

    ep: str
    """ONNX Runtime's name of it."""
    fix: str
    """How it is installed."""
    plugin: str = ""
    """Python package of the plug-in library; empty: it is only part of a build of ONNX Runtime."""
    hardware: str = ""
    """What a plug-in is for."""
    why_cpu: str = ""
    """What of a network the provider leaves to the CPU by its nature; empty: nothing."""


_ALONE = "pip uninstall -y onnxruntime && pip install"
PROVIDERS = {
    "coreml": Provider(
        "CoreMLExecutionProvider",
        "it is in the macOS wheels of onnxruntime: pip install onnxruntime",
        why_cpu="bytes at both ends, arithmetic of shapes",
    ),
    "directml": Provider(
        "DmlExecutionProvider",
        f"on Windows: {_ALONE} onnxruntime-directml",
        why_cpu="arithmetic of shapes",
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "pip install onnxruntime-ep-openvino (for Intel's processors), or, with OpenVINO built in, "
        f"{_ALONE} onnxruntime-openvino",
        plugin="onnxruntime_ep_openvino",
        hardware="processors, GPUs and NPUs of Intel",
    ),
    "tensorrt-rtx": Provider(
        "NvTensorRTRTXExecutionProvider",
        "pip install onnxruntime-ep-nv-tensorrt-rtx",
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        hardware="GPUs of NVIDIA, RTX 30 and later",
    ),
    "webgpu": Provider(
        "WebGpuExecutionProvider",
        "pip install onnxruntime-ep-webgpu (on Linux also apt install libvulkan1)",
        plugin="onnxruntime_ep_webgpu",
        hardware="GPUs with a driver for Vulkan, Metal or Direct3D 12",
        why_cpu="bytes at both ends, arithmetic of shapes",
    ),
}
"""By their names in `provider=`."""

_registering = threading.Lock()


@dataclass(frozen=True)
class Found:
    """A provider that is installed here, and the device that was asked for."""

    provider: Provider
    devices: tuple[Any, ...]
    """`OrtEpDevice` of a plug-in; empty: the provider is part of this build."""
    options: dict[str, str]
    """Options of the provider."""


def find(accelerator: Accelerator, precision: str, threads: int | None) -> Found:
    """Return the provider of an accelerator, and load its plug-in library if it is one.

    Args:
        accelerator: names a provider.
        precision: of the file: `fp32`, `fp16`, `int8`, or another word where it is unknown.
        threads: CPU threads of the provider, if it computes on the CPU; None: its choice.

    Raises:
        BackendError: it is not installed, or has no such device here.
    """
    provider = PROVIDERS[accelerator.provider]
    options = _options(accelerator, precision, threads)
    if provider.ep in ort.get_available_providers():
        return Found(provider, (), {**options, **_built_in_options(accelerator)})
    if not has_plugin(provider):
        raise BackendError(
            f"onnxruntime {ort.__version__} is installed without {provider.ep}, only with "
            f"{', '.join(ort.get_available_providers())}: {provider.fix}"
        )
    return Found(provider, (_plugin_device(accelerator, provider),), options)


def here() -> list[str]:
    """Return the names of the providers that are installed, as `provider=` takes them."""
    built_in = ort.get_available_providers()
    return [name for name, each in PROVIDERS.items() if each.ep in built_in or has_plugin(each)]


def has_plugin(provider: Provider) -> bool:
    """Return whether the plug-in package of a provider is installed, without importing it."""
    return bool(provider.plugin) and importlib.util.find_spec(provider.plugin) is not None


def plugin_devices(provider: Provider) -> list[Any]:
    """Return the devices (`OrtEpDevice`) of a plug-in; register its library first.

    The library stays registered: sessions may use it for as long as the process lives.

    Raises:
        BackendError: ONNX Runtime cannot load it.
    """
    with _registering:
        found = _listed(provider)
        if found:
            return found
        try:
            package = importlib.import_module(provider.plugin)
            ort.register_execution_provider_library(
                f"srsdk.{provider.plugin}", package.get_library_path()
            )
        # the library's exceptions, and those of the package, have no other base
        except Exception as error:
            if "already registered" not in str(error):
                raise BackendError(
                    f"{provider.plugin} does not load in onnxruntime {ort.__version__}: "
                    f"{_first_line(error)}: pip install -U onnxruntime "
                    f"{provider.plugin.replace('_', '-')}"
                ) from error
        return _listed(provider)


def kind_of(device: Any) -> str:
    """Return `cpu`, `gpu` or `npu` of an `OrtEpDevice`."""
    return str(device.device.type).rpartition(".")[2].lower()


def _listed(provider: Provider) -> list[Any]:
    found = [device for device in ort.get_ep_devices() if device.ep_name == provider.ep]
    # those that compile for hardware of another machine
    return [each for each in found if each.device.metadata.get("is_virtual") != "1"]


def _plugin_device(accelerator: Accelerator, provider: Provider) -> Any:
    listed = plugin_devices(provider)
    kind, number = _kind_and_number(accelerator)
    fitting = [device for device in listed if kind_of(device) == kind]
    if number >= len(fitting):
        kinds = [kind_of(device) for device in listed]
        only = f"only {', '.join(kinds)}" if kinds else "nor any other device"
        raise BackendError(
            f"{provider.plugin.replace('_', '-')} has no device {accelerator.devices[0]} here, "
            f"{only}; it is for {provider.hardware}: install the driver of the device, or use "
            "device='cpu' without provider="
        )
    return fitting[number]


def _kind_and_number(accelerator: Accelerator) -> tuple[str, int]:
    kind, _, number = accelerator.devices[0].partition(":")
    return kind, int(number or 0)


def _options(accelerator: Accelerator, precision: str, threads: int | None) -> dict[str, str]:
    """Return the options that a provider has as part of a build and as a plug-in."""
    if accelerator.provider == "coreml":
        # its older format computes a float32 file in float16 on GPUs
        return {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}
    if accelerator.provider != "openvino":
        return {}
    kind = _kind_and_number(accelerator)[0]
    # without a hint OpenVINO computes in another precision than that of the file
    config = {"INFERENCE_PRECISION_HINT": _hint(kind, precision)}
    if kind == "cpu" and threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(threads)
    return {"load_config": json.dumps({kind.upper(): config})}


def _hint(kind: str, precision: str) -> str:
    if kind == "npu" and precision == "int8":
        log.warning("npu has no float32: what the file leaves unquantized is computed in float16")
        return "f16"
    # asked for f16, OpenVINO's CPU device takes bfloat16
    return "f16" if precision == "fp16" and kind != "cpu" else "f32"


def _built_in_options(accelerator: Accelerator) -> dict[str, str]:
    """Return the options that choose the device of a provider that is part of the build."""
    if not accelerator.devices:
        return {}
    kind, number = _kind_and_number(accelerator)
    if accelerator.provider == "openvino":
        return {"device_type": f"{kind.upper()}.{number}" if number else kind.upper()}
    return {} if accelerator.provider == "webgpu" else {"device_id": str(number)}


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)
