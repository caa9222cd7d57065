"""Checks of `srsdk doctor` for OpenVINO's devices and ONNX Runtime's providers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from srsdk.engines.backends import installed
from srsdk.errors import SrsdkError
from srsdk.options import Backend, Precision, Provider
from srsdk.upscaler import Upscaler

MODEL = "gan_x2"
"""Shipped model whose test picture each device computes."""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    """What was checked."""
    works: bool
    """Whether it works on this machine."""
    found: str
    """What was found: a version, a device, an error."""
    fix: str = ""
    """The command that fixes it; empty if there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        fix = f"\n      -> {self.fix}" if self.fix else ""
        return f"[{'ok' if self.works else '--'}] {self.name}: {self.found}{fix}"


def accelerators() -> list[Check]:
    """Run the self-test of a shipped model on OpenVINO's devices and ONNX Runtime's providers."""
    checks: list[Check] = []
    if installed("openvino"):
        checks += _guarded("devices of openvino", _openvino_devices)
    if installed("onnxruntime"):
        checks += _guarded("providers of onnxruntime", _providers)
    return checks


def _guarded(title: str, find: Callable[[], list[Check]]) -> list[Check]:
    try:
        return find()
    except ImportError as error:
        # the backend's own check has the fix
        return [Check(title, False, f"cannot be imported: {error}")]


def _openvino_devices() -> list[Check]:
    from srsdk.engines.accelerators import openvino_devices as devices

    names = devices.available()
    listed = ", ".join(f"{devices.own_name(n)} ({devices.full_name(n)})" for n in names)
    checks = [Check("devices of openvino", bool(names), listed or "none")]
    for name in map(devices.own_name, names):
        # an NPU has no float32
        precision: Precision = "fp16" if name.startswith("npu") else "fp32"
        checks.append(_on_device(f"openvino on {name}", "openvino", name, None, precision))
    return checks


def _providers() -> list[Check]:
    from srsdk.engines.accelerators import providers

    names = providers.here()
    missing = ", ".join(name for name in providers.PROVIDERS if name not in names)
    found = f"{', '.join(['cpu', *names])}; not installed: {missing or 'none'}"
    checks = [Check("providers of onnxruntime", True, found)]
    for name in names:
        title, provider = f"onnxruntime with {name}", cast(Provider, name)
        checks.append(_on_device(title, "onnxruntime", "auto", provider, "fp32"))
    return checks


def _on_device(
    title: str, backend: Backend, device: str, provider: Provider | None, precision: Precision
) -> Check:
    """Run the self-test of one shipped model."""
    try:
        with Upscaler(
            MODEL,
            backend=backend,
            device=device,
            provider=provider,
            precision=precision,
            self_test=False,
        ) as up:
            return Check(title, True, f"{up.manifest.precision} on {up.device}: {up.self_test()}")
    except (SrsdkError, ImportError) as error:
        return Check(title, False, str(error), "device='cpu' without provider=")
