"""`python -m benchmarks gpu-check`: run all tests and measurements that need a GPU.

Writes a JSON file and a sheet of pictures. A section that cannot run here (no PyTorch, no TensorRT,
a GPU that TensorRT for RTX does not support) is recorded with its reason; the others still run.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import srsdk
from benchmarks.gpu import measure
from srsdk.engines.cuda.device import Device

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "astronaut.png"
EXIT_NO_GPU = 1
TEST_SECONDS = 150
LIBRARIES = ("cuda-bindings", "torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx",
             "cupy-cuda13x", "numba", "pycuda")  # fmt: skip

Section = Callable[[Device], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpu-check`."""
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-check"), help="output folder (default: gpu-check)"
    )
    parser.add_argument("--engine", type=Path, action="append", default=[], metavar="FILE",
                        help="a TensorRT engine to measure too; repeatable")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run all sections; exit code 1 if there is no GPU or a check fails."""
    try:
        device = Device(0)
    except srsdk.SrsdkError as error:
        sys.stderr.write(f"gpu-check needs an NVIDIA GPU: {error}\n")
        return EXIT_NO_GPU
    began_s = time.monotonic()
    record: dict[str, Any] = {"machine": _machine(device), "sections": {}}
    for name, section in _sections(arguments.engine).items():
        record["sections"][name] = _measured(name, section, device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record["sections"]["pictures"] = _measured("pictures", _sheet(arguments), device)
    record["seconds"] = round(time.monotonic() - began_s, 1)
    target = arguments.out / "gpu-check.json"
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    failed = _failed_checks(record["sections"])
    sys.stdout.write(f"wrote {target}: {record['seconds']} s, {len(failed)} section(s) failed\n")
    for line in failed:
        sys.stdout.write(f"  {line}\n")
    return 1 if failed else 0


def _sections(engines: list[Path]) -> dict[str, Section]:
    found: dict[str, Section] = {
        "tests": _tests,
        "bandwidth_gb_s": measure.bandwidth,
        "pinned_content_right": measure.pinned_content,
    }
    if importlib.util.find_spec("torch") is not None:
        from benchmarks.gpu import sections

        found |= {
            "slots_right": sections.check_slots,
            "check_memory_release": sections.check_memory_release,
            "graphs": sections.graphs,
            "end_to_end": sections.end_to_end,
            "pytorch_alone": sections.peers,
            "lower_bounds": sections.lower_bounds,
            "sweep": sections.sweep,
        }
    rgb = measure.picture(360, 640)
    cuda: dict[str, Any] = {"device": "cuda:0", "backend": "onnxruntime"}
    found["onnxruntime_cuda_ms"] = lambda _: measure.upscale_files(cuda, rgb, "gan_x4")[1]
    for path in engines:
        found[f"engine {path.name}"] = lambda _, path=path: _engine(path)  # type: ignore[misc]
    return found


def _measured(name: str, section: Section, device: Device) -> dict[str, Any]:
    sys.stdout.write(f"{name} ...\n")
    began_s = time.monotonic()
    try:
        found = {"found": section(device)}
    except Exception as error:  # a section that fails must not stop the others
        found = {"missing": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    return {**found, "seconds": round(time.monotonic() - began_s, 1)}


def _failed_checks(sections: dict[str, Any]) -> list[str]:
    """Return the failed checks, without the sections that are merely unavailable."""
    lines = []
    tests = sections["tests"].get("found", {})
    if tests.get("exit_code", 1):
        lines.append(f"tests: {tests.get('summary', sections['tests'].get('missing'))}")
    if sections["pinned_content_right"].get("found") is not True:
        lines.append("pinned copies do not return the bytes that were sent")
    if "slots_right" in sections and sections["slots_right"].get("found", {}).get("wrong", 1):
        lines.append(f"slots: {sections['slots_right']}")
    lost = sections.get("check_memory_release", {}).get("found", {}).get("lost", 0)
    if lost > 1 << 20:
        lines.append(f"close() leaks {lost:,} bytes in 100 cycles")
    return lines


def _tests(_: Device) -> dict[str, Any]:
    call = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider",
            str(ROOT / "tests" / "srsdk" / "engines" / "test_gpu.py")]  # fmt: skip
    done = subprocess.run(
        call, cwd=ROOT, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
    )
    lines = done.stdout.strip().splitlines()
    skipped = [line for line in lines if line.startswith(("SKIPPED", "FAILED", "ERROR"))]
    return {"exit_code": done.returncode, "summary": lines[-1:], "lines": skipped}


def _engine(path: Path) -> dict[str, Any]:
    with srsdk.Upscaler(path) as up:
        rgb = measure.picture(360, 640)
        plan = up.plan(*rgb.shape[:2])
        up(rgb)
        with up.profile() as calls:
            ms = measure.median_ms(lambda: up(rgb))
        return {"ms": ms, "plan": vars(plan), "steps": vars(calls[-1]), "repr": repr(up)}


def _sheet(arguments: argparse.Namespace) -> Section:
    def draw(_: Device) -> dict[str, Any]:
        """Draw bicubic, the CPU result and all GPU results side by side; return differences."""
        small = np.asarray(Image.open(SAMPLE).convert("RGB").crop((64, 32, 256, 224)))
        size = (small.shape[1] * 4, small.shape[0] * 4)
        bicubic = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        with srsdk.Upscaler("gan_x4", device="cpu") as up:
            reference = up(small)
        shown = {"bicubic": bicubic, "cpu": reference}
        found: dict[str, dict[str, Any]] = {}
        for name, make in _results(arguments.engine, small).items():
            try:
                shown[name] = make()
                difference = np.abs(shown[name].astype(int) - reference)
                found[name] = {"max_lsb": int(difference.max()), "mean": float(difference.mean())}
            except Exception as error:  # unavailable: recorded with its reason
                found[name] = {"missing": f"{type(error).__name__}: {error}"}
        sheet = Image.new("RGB", (len(shown) * (size[0] + 8), size[1] + 20), "white")
        for index, (name, pixels) in enumerate(shown.items()):
            sheet.paste(Image.fromarray(pixels), (index * (size[0] + 8), 20))
            ImageDraw.Draw(sheet).text((index * (size[0] + 8) + 4, 4), name, fill="black")
        sheet.save(arguments.out / "gpu-check.png")
        return found

    return draw


def _results(engines: list[Path], small: Any) -> dict[str, Callable[[], Any]]:
    made: dict[str, Callable[[], Any]] = {}
    if importlib.util.find_spec("torch") is not None:
        import torch

        from benchmarks.gpu.sections import result_of

        made["slots fp32"] = lambda: result_of(torch.float32, small)
        made["slots fp16"] = lambda: result_of(torch.float16, small)
    made["onnxruntime cuda"] = lambda: _upscaled({"device": "cuda:0"}, small, "gan_x4")
    for path in engines:
        made[path.name] = lambda path=path: _upscaled({}, small, str(path))  # type: ignore[misc]
    return made


def _upscaled(options: dict[str, Any], small: Any, model: str) -> Any:
    with srsdk.Upscaler(model, **options) as up:
        return up(small)


def _machine(device: Device) -> dict[str, Any]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "gpu": vars(device.properties),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "srsdk": srsdk.__version__,
        "libraries": versions,
        "date": datetime.date.today().isoformat(),
    }
