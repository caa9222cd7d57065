"""Sections of `gpu-check` with libraries' own engines: ONNX Runtime CUDA, TensorRT; pictures."""

from __future__ import annotations

import collections
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import srsdk
from benchmarks.gpu import measure
from benchmarks.gpu.job import Job, Missing
from benchmarks.gpu.measure import Picture
from benchmarks.gpu.needs import MODEL, SAMPLE
from srsdk import models
from srsdk.manifest import read_manifest

PARITY_MODELS = ("gan_x4", "gan_x2", "gan_x4_quality", "ae_x1")
MAX_LSB = 2
"""Largest difference from the CPU of a float32 model; TF32 is off."""
MAX_PICTURES = 14
CUDA_PROVIDER = "CUDAExecutionProvider"
ASSIGNMENT = "session.record_ep_graph_assignment_info"
SHAPE_OPERATORS = frozenset({"Shape", "Gather", "Concat", "Slice", "Unsqueeze", "Squeeze"})
"""Operators on sizes, a few integers, which ONNX Runtime places on the CPU on purpose."""


def onnxruntime(job: Job) -> None:
    """Compare `device="cuda"` with the CPU, and record which provider each node got."""
    files = job.setup.pictures()[:MAX_PICTURES]
    job.keep(pictures=[path.name for path in files])
    for model in PARITY_MODELS:
        providers = assigned(models.find(model))
        outside = sorted(set(providers.get("CPUExecutionProvider", {})) - SHAPE_OPERATORS)
        job.keep(**{f"{model} nodes": providers})
        job.check(f"{model}: no node computes pixels on the CPU", not outside, outside)
        rows = _parity(model, files)
        job.keep(**{model: rows})
        worst = max(row["max_lsb"] for row in rows.values())
        job.check(f"{model}: at most {MAX_LSB} LSB from the CPU", worst <= MAX_LSB, worst)
    for model in (MODEL, f"{MODEL}.fp16"):
        path = str(models.find(MODEL).with_name(f"{model}.onnx"))
        job.keep(**{f"{model} 360x640 ms": _timed(path)})


def assigned(path: Path) -> dict[str, dict[str, int]]:
    """Return how many nodes of each operator each execution provider got.

    Raises:
        Missing: the library loads no CUDA provider, with its reason in the log.
    """
    import onnxruntime as ort

    ort.preload_dlls()
    options = ort.SessionOptions()
    options.add_session_config_entry(ASSIGNMENT, "1")
    session = ort.InferenceSession(str(path), options, providers=[CUDA_PROVIDER])
    if CUDA_PROVIDER not in session.get_providers():
        raise Missing(f"onnxruntime {ort.__version__} does not load {CUDA_PROVIDER}: see the log")
    return counted(session.get_provider_graph_assignment_info())


def counted(subgraphs: Iterable[Any]) -> dict[str, dict[str, int]]:
    """Return how many nodes of each operator each provider got."""
    found: dict[str, collections.Counter[str]] = {}
    for subgraph in subgraphs:
        counter = found.setdefault(subgraph.ep_name, collections.Counter())
        counter.update(node.op_type for node in subgraph.get_nodes())
    return {name: dict(counter) for name, counter in found.items()}


def _parity(model: str, files: list[Path]) -> dict[str, dict[str, float]]:
    rows = {}
    with (
        srsdk.Upscaler(srsdk.models.find(model), device="cpu", backend="onnxruntime") as cpu,
        srsdk.Upscaler(model, device="cuda") as gpu,
    ):
        for path in files:
            rgb = np.asarray(Image.open(path).convert("RGB"))
            rows[path.name] = difference(*(_inside(up, rgb, gpu) for up in (gpu, cpu)))
    return rows


def _inside(up: srsdk.Upscaler, rgb: Picture, gpu: srsdk.Upscaler) -> Picture:
    """Upscale, and cut off what differs where the GPU's tile is larger than the picture.

    There the picture is mirrored, elsewhere the network sees zeros beyond its edge.
    """
    bottom, right = gpu.plan(*rgb.shape[:2]).padding_px
    radius_px, scale = gpu.manifest.radius_px, gpu.manifest.scale
    result = up(rgb)
    height, width = result.shape[:2]
    rows = height - scale * radius_px if bottom else height
    columns = width - scale * radius_px if right else width
    return result[: max(rows, scale), : max(columns, scale)]


def difference(result: Picture, expected: Picture) -> dict[str, float]:
    """Return the largest and the mean absolute difference of two pictures, in levels."""
    levels = np.abs(result.astype(int) - expected)
    return {"max_lsb": int(levels.max()), "mean_lsb": float(levels.mean())}


def _timed(model: str) -> float:
    return measure.upscale_files({"device": "cuda"}, measure.picture(360, 640), model)[1]


def engines(job: Job) -> None:
    """Measure engines; one that this GPU cannot run must be refused with the reason."""
    sm = job.device().properties.sm
    reasons = []
    for path in job.setup.engines:
        manifest = read_manifest(path)
        try:
            job.keep(**{path.name: _engine(path)})
        except srsdk.EngineMismatch as error:
            text = str(error)
            job.keep(**{path.name: {"refused": text}})
            if "not installed" in text:
                reasons.append(text)
                continue
            built = manifest.sms if manifest else ()
            job.check(f"{path.name}: refused although built for this GPU", sm not in built, text)
            named = f"SM {sm // 10}.{sm % 10}"
            job.check(f"{path.name}: the refusal names {named}", named in text, text)
    if reasons:
        raise Missing("; ".join(reasons))


def _engine(path: Path) -> dict[str, Any]:
    rgb = measure.picture(360, 640)
    with srsdk.Upscaler(path) as up:
        plan = up.plan(*rgb.shape[:2])
        up(rgb)
        with up.profile() as calls:
            ms = measure.median_ms(lambda: up(rgb))
        return {"ms": ms, "plan": vars(plan), "steps": vars(calls[-1]), "repr": repr(up)}


def pictures(job: Job) -> None:
    """Draw bicubic, the CPU's result and each GPU result side by side; record differences."""
    small = np.asarray(Image.open(SAMPLE).convert("RGB").crop((64, 32, 256, 224)))
    size = (small.shape[1] * 4, small.shape[0] * 4)
    bicubic = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    with srsdk.Upscaler(MODEL, device="cpu", precision="fp32") as up:
        reference = up(small)
    shown = {"bicubic": bicubic, "cpu": reference}
    for name, make in _results(job.setup.engines, small).items():
        try:
            made = make()
        except Exception as error:  # unavailable: recorded with its reason
            job.keep(**{name: f"unavailable: {type(error).__name__}: {error}"})
            continue
        if made.shape == reference.shape:
            shown[name] = made
            job.keep(**{name: difference(made, reference)})
    _draw(shown, size).save(job.setup.out / "gpu-check.png")


def _draw(shown: dict[str, Picture], size: tuple[int, int]) -> Image.Image:
    sheet = Image.new("RGB", (len(shown) * (size[0] + 8), size[1] + 20), "white")
    for index, (name, pixels) in enumerate(shown.items()):
        sheet.paste(Image.fromarray(pixels), (index * (size[0] + 8), 20))
        ImageDraw.Draw(sheet).text((index * (size[0] + 8) + 4, 4), name, fill="black")
    return sheet


def _results(engines: tuple[Path, ...], small: Picture) -> dict[str, Callable[[], Picture]]:
    made: dict[str, Callable[[], Picture]] = {}
    if importlib.util.find_spec("torch") is not None:
        import torch

        from benchmarks.gpu.sections import result_of

        made["slots fp32"] = lambda: result_of(torch.float32, small)
        made["slots fp16"] = lambda: result_of(torch.float16, small)
    made["onnxruntime cuda"] = lambda: _upscaled({"device": "cuda"}, small, MODEL)
    for path in engines:
        made[path.name] = lambda path=path: _upscaled({}, small, str(path))  # type: ignore[misc]
    return made


def _upscaled(options: dict[str, Any], small: Picture, model: str) -> Picture:
    with srsdk.Upscaler(model, **options) as up:
        return up(small)
