"""What OpenVINO's devices state of themselves: which exist, their precisions and their memory."""

from __future__ import annotations

import logging
from typing import Any

from srsdk.engines import openvino
from srsdk.engines.accelerators.spelling import Accelerator
from srsdk.errors import BackendError

log = logging.getLogger("srsdk")

MEMORY = {"GPU": "GPU_DEVICE_TOTAL_MEM_SIZE", "NPU": "NPU_DEVICE_TOTAL_MEM_SIZE"}
"""Property with the bytes of a device's memory; a GPU in the processor states its share."""
_FIXES = {
    "GPU": "an Intel GPU needs its OpenCL driver: on Debian and Ubuntu, apt install "
    "intel-opencl-icd, and membership in the group render; on Windows, Intel's graphics driver",
    "NPU": "an Intel NPU needs its driver: on Linux, the packages intel-level-zero-npu, "
    "intel-driver-compiler-npu and intel-fw-npu; on Windows, Intel's NPU driver",
    "CPU": "pip install --force-reinstall openvino",
}


def available() -> tuple[str, ...]:
    """Return OpenVINO's names of the devices that it has here, such as `CPU`, `GPU.0`."""
    return tuple(openvino.core().available_devices)


def find(accelerator: Accelerator) -> tuple[str, ...]:
    """Return OpenVINO's names of an accelerator's devices.

    For `auto`, those that exist; what is missing is logged. Otherwise all of them.

    Raises:
        BackendError: a device that OpenVINO does not have here, with those that it has.
    """
    here = available()
    exist = {canonical(name) for name in here}
    wanted = {library_name(name): name for name in accelerator.devices}
    missing = [name for name in wanted if name not in exist]
    found = tuple(name for name in wanted if name in exist)
    texts = " or ".join(wanted[name] for name in missing)
    if missing and (accelerator.mode != "auto" or not found):
        fixes = dict.fromkeys(_FIXES[kind_of(name)] for name in missing)
        raise BackendError(
            f"OpenVINO has no device {texts} here, only {', '.join(here)}: {'; '.join(fixes)}; or "
            "device='cpu'"
        )
    if missing:
        log.warning("device %s: OpenVINO has only %s here", accelerator, ", ".join(here))
    return found


def library_name(name: str) -> str:
    """Return OpenVINO's name of a device: `GPU.1` for `gpu:1`, `GPU` for `gpu:0`."""
    return canonical(name.upper().replace(":", "."))


def canonical(name: str) -> str:
    """Return one of the two names of the first device of a kind, which mean the same."""
    return name.removesuffix(".0")


def own_name(name: str) -> str:
    """Return srsdk's name of a device: `gpu:1` for `GPU.1`."""
    return name.lower().replace(".", ":")


def kind_of(name: str) -> str:
    """Return `CPU`, `GPU` or `NPU`."""
    return name.partition(".")[0]


def hint(device: str, precision: str) -> str:
    """Return the precision in which a device is to compute what a graph leaves open.

    By themselves devices choose another: GPUs and ARM processors float16, other processors
    bfloat16.

    Args:
        device: OpenVINO's name of a device.
        precision: of the graph: `fp32`, `fp16` or `int8`.

    Returns:
        `f32` or `f16`.

    Raises:
        BackendError: the device has no float32 and the graph is float32.
    """
    if kind_of(device) == "CPU":
        # asked for f16, OpenVINO 2026.4 takes bfloat16 on x86, which is less precise
        return "f32"
    has = set(openvino.core().get_property(device, "OPTIMIZATION_CAPABILITIES"))
    if precision == "fp16" and "FP16" in has:
        return "f16"
    if "FP32" in has:
        return "f32"
    if precision == "fp32":
        raise BackendError(
            f"{own_name(device)} computes in {', '.join(sorted(has & {'FP16', 'INT8', 'BF16'}))}, "
            "and this file is fp32: precision='fp16' or precision='int8' opens that file of the "
            "same weights"
        )
    if precision == "int8":
        log.warning(
            "%s has no float32: what the file leaves unquantized is computed in float16",
            own_name(device),
        )
    return "f16"


def graph_precision(model: Any) -> str:
    """Return the precision that an OpenVINO model was written in: `fp32`, `fp16` or `int8`."""
    nodes = model.get_ops()
    if any(node.get_type_name() == "FakeQuantize" for node in nodes):
        return "int8"
    computing = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")
    types = {
        node.get_output_element_type(0).get_type_name()
        for node in nodes
        if node.get_type_name() in computing
    }
    # FP16 files may keep a few layers in float32; a device takes one precision for all
    return "fp16" if "f16" in types else "fp32"


def check_hints(compiled: Any, hints: dict[str, str], used: list[str]) -> None:
    """Check that a compiled model computes in the precisions that were asked for.

    Args:
        compiled: the library's compiled model.
        hints: what was asked for, by device.
        used: devices that run it.

    Raises:
        BackendError: a device chose another precision.
    """
    for device in used:
        got = _stated_hint(compiled, device)
        if not got:
            log.warning("%s does not state in which precision it computes", own_name(device))
        elif got != hints[device]:
            raise BackendError(
                f"OpenVINO computes in {got} on {own_name(device)}, expected {hints[device]}, the "
                "precision of the file: use another device, such as device='cpu'"
            )


def _stated_hint(compiled: Any, device: str) -> str:
    """Return the precision of a part of a compiled model; "": it does not say."""
    name = "INFERENCE_PRECISION_HINT"
    try:
        # only models over several devices have this property
        parts = compiled.get_property("DEVICE_PROPERTIES").items()
        stated = {canonical(key): values for key, values in parts}[device].get(name)
    except (RuntimeError, KeyError):
        try:
            stated = compiled.get_property(name)
        except RuntimeError:
            return ""
    return "" if stated is None else str(stated.get_type_name())


def memory_bytes(device: str) -> int | None:
    """Return the memory of a device; None: it does not say, as CPUs do not."""
    name = MEMORY.get(kind_of(device))
    if name is None:
        return None
    try:
        return int(openvino.core().get_property(device, name))
    except RuntimeError as error:
        log.info("%s does not state its memory: %s", own_name(device), error)
        return None


def full_name(device: str) -> str:
    """Return the product name of a device, or why it does not say."""
    try:
        return str(openvino.core().get_property(device, "FULL_DEVICE_NAME"))
    except RuntimeError as error:
        return f"no name: {str(error).strip().splitlines()[-1]}"
