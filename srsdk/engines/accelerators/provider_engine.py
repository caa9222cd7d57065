"""Run ONNX models with a provider of ONNX Runtime, and check that no other computes them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy.typing as npt

# see srsdk.engines.onnxruntime: it must be set before the import, whichever module comes first
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from srsdk.engines.accelerators import providers
from srsdk.engines.accelerators.providers import Found
from srsdk.engines.accelerators.spelling import Accelerator
from srsdk.engines.onnxruntime import (
    FATAL_ONLY,
    OnnxRuntimeSlot,
    readable,
    session_signature,
    translated,
)
from srsdk.engines.protocol import Signature
from srsdk.errors import BackendError, ModelError
from srsdk.manifest import read_manifest
from srsdk.system.threads import started_pool

log = logging.getLogger("srsdk")

_COMPUTES = (
    *("Conv", "ConvTranspose", "ConvInteger", "MatMul", "MatMulInteger", "Gemm"),
    *("QuantizeLinear", "Relu", "DepthToSpace", "Resize"),
)
"""Ends of the names of operators of which a network for images consists, fused or not. Quantization
too: between layers, each would send the whole picture to the CPU and back."""
_FALLS_BACK = "assigned to the default CPU EP"
"""Mark of the error of a session that may not use the CPU, and would."""


class ProviderEngine:
    """An ONNX file opened with one execution provider.

    Args:
        path: the file.
        accelerator: the provider and its device.
        threads: CPU threads, if the provider computes on the CPU; None: its choice.
        graph: ONNX bytes to open instead of the file's content.

    Raises:
        ModelError: the library cannot read the file, or the provider cannot run it.
        BackendError: the provider is not installed, has no such device, or would leave the
            network to the CPU.
    """

    backend = "onnxruntime"
    profiles: tuple[tuple[int, int, int], ...] = ()

    def __init__(
        self,
        path: Path,
        accelerator: Accelerator,
        *,
        threads: int | None,
        graph: bytes | None = None,
    ) -> None:
        manifest = read_manifest(path)
        found = providers.find(accelerator, manifest.precision if manifest else "", threads)
        self._session = make_session(path, graph, accelerator, found)
        self.signature: Signature = session_signature(path, self._session)
        where = ", ".join(accelerator.devices)
        self.device = f"{where} ({accelerator.provider})" if where else accelerator.provider
        self.few_shapes = not accelerator.uses_cpu
        # one: a provider runs one picture at a time, and DirectML allows no second call meanwhile
        self._worker = started_pool(1, f"srsdk-{accelerator.provider}")

    def slot(self, input_shape: tuple[int, ...]) -> OnnxRuntimeSlot:
        """Make a slot; the session accepts any shape."""
        return ProviderSlot(self._session, self._worker, self.signature, input_shape)

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return 2: one tile is cut or pasted while the other computes."""
        return 2

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """Return None: ONNX Runtime does not state the memory of a provider's device."""

    def close(self) -> None:
        """Stop the worker."""
        self._worker.shutdown(wait=True)


class ProviderSlot(OnnxRuntimeSlot):
    """A slot whose inputs may be read on another device than the CPU."""

    def _bound_run(self) -> npt.NDArray[Any]:
        with translated("ONNX Runtime failed"):
            # what is read elsewhere was copied when it was bound (seen with WebGPU)
            self._bind_inputs()
            self._binding.synchronize_inputs()
        output = super()._bound_run()
        with translated("ONNX Runtime failed"):
            self._binding.synchronize_outputs()
        return output


def make_session(path: Path, graph: bytes | None, accelerator: Accelerator, found: Found) -> Any:
    """Make a session with one provider and check which provider each node got.

    Raises:
        ModelError: the library cannot read the file, or the provider cannot run it.
        BackendError: the CPU would compute what the provider is to compute.
    """
    provider, options = found.provider, ort.SessionOptions()
    # its errors are raised, too
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not provider.why_cpu:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if accelerator.provider == "directml":
        # it requires both
        options.enable_mem_pattern = False
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    named: dict[str, Any] = {}
    if not found.devices:
        named = {"providers": [(provider.ep, found.options)]}
    try:
        if found.devices:
            options.add_provider_for_devices(list(found.devices), found.options)
        session = ort.InferenceSession(
            readable(path) if graph is None else graph,
            options,
            **named,
            # after an error of the provider, `run` would silently repeat itself on the CPU
            enable_fallback=0,
        )
    except Exception as error:  # the only common base of the library's exceptions
        raise _refusal(path, accelerator, found, error) from error
    check_session(session, found)
    return session


def check_session(session: Any, found: Found) -> None:
    """Check that the provider computes the network; log what it leaves to the CPU.

    Raises:
        BackendError: the session lacks the provider, or the CPU has a part of the network or, of a
            provider that needs no CPU, any node.
    """
    provider, got = found.provider, session.get_providers()
    if provider.ep not in got:
        raise BackendError(
            f"asked onnxruntime {ort.__version__} for {provider.ep}, got {', '.join(got)}: the "
            f"provider does not start here: {provider.fix}; install the driver of its device, or "
            "use device='cpu' without provider="
        )
    elsewhere = [
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider.ep
        for node in part.get_nodes()
    ]
    wrong = [op for op in elsewhere if op.endswith(_COMPUTES) or not provider.why_cpu]
    if wrong:
        raise BackendError(
            f"onnxruntime {ort.__version__} runs {_counted(wrong)} of this model on the CPU, "
            f"expected {provider.ep}: use the float32 file, or device='cpu' without provider="
        )
    if elsewhere:
        log.info(
            "%s leaves these operators to the CPU (%s): %s",
            provider.ep,
            provider.why_cpu,
            _counted(elsewhere),
        )


def _refusal(path: Path, accelerator: Accelerator, found: Found, error: Exception) -> Exception:
    text = str(error).strip()
    if _FALLS_BACK in text:
        return BackendError(
            f"{path}: {found.provider.ep} on {accelerator.devices[0]} cannot compute all of this "
            "model, or finds no such device here: install the driver of the device, or use "
            "device='cpu' without provider="
        )
    first = text.splitlines()[0] if text else repr(error)
    return ModelError(
        f"{path}: ONNX Runtime cannot open this model with provider={accelerator.provider!r}: "
        f"{first}; try device='cpu' without provider="
    )


def _counted(ops: list[str]) -> str:
    return ", ".join(f"{op} ({n})" for op, n in sorted(Counter(ops).items()))
