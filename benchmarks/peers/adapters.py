"""Alternatives to srsdk, each opened by a small adapter.

An adapter opens its network for one picture size and returns a function from a (H, W, 3) uint8 RGB
array to a (H * 4, W * 4, 3) uint8 one; the code is what users of that library would write.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.workloads import picture
from srsdk.engines.cuda.driver import device_count
from srsdk.errors import SrsdkError

Picture = npt.NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]

WARM_UP_RUNS = 8
"""At most; a size reaches its fastest form in srsdk after five pictures of 640x360."""
SPAN_DB = 31.74
"""PSNR-Y of SPANtiny (NTIRE 2024, 131 K parameters) with its authors' weights: Set5 at x4 under the
protocol of our tables. They trained on DF2K and LSDIR, thousands of 2K pictures."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an adapter opens."""

    model: str
    """Name or path of the model that peers with `same_model` run."""
    weights: str
    """The same model as an srsdk checkpoint, for PyTorch."""
    height: int
    """Picture height, pixels."""
    width: int
    """Picture width, pixels."""
    threads: int
    """Threads, the same for all peers."""
    files: str | None = None
    """Folder with the peers' model files, such as `realesr-animevideov3-x4.param`."""
    engine: str | None = None
    """The same model as an `.engine` file, for peers on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to upscale by four."""

    title: str
    """Title in tables."""
    adapter: str
    """Module of this package and function in it, `module:function`."""
    needs: tuple[str, ...] = ()
    """Packages that it imports; none where srsdk chooses its backend."""
    file: str | None = None
    """File that it needs in `Job.files`."""
    same_model: bool = False
    """Whether it runs the same weights as srsdk."""
    trained: bool = True
    """False: random weights, which do not affect speed but make quality meaningless."""
    others_db: float | None = None
    """PSNR-Y in dB on Set5 with weights that others trained and that we do not have."""
    slow: bool = False
    """Whether it runs only if requested by name; it takes seconds for a small picture."""
    gpu: bool = False
    """Whether it runs on an NVIDIA GPU."""
    engine: bool = False
    """Whether it runs the `.engine` file of the job."""


PEERS = {
    "srsdk": Peer(title='srsdk, `precision="fp32"`', adapter="ours:float32", same_model=True),
    "srsdk-auto": Peer(title="srsdk, default", adapter="ours:default"),
    "srsdk-onnxruntime": Peer(
        title='srsdk, ONNX Runtime, `precision="fp32"`',
        adapter="ours:onnxruntime",
        needs=("onnxruntime",),
        same_model=True,
    ),
    "srsdk-bf16": Peer(
        title='srsdk, `precision="bf16"`', adapter="ours:bf16", needs=("openvino",), same_model=True
    ),
    "srsdk-int8": Peer(title="srsdk, INT8 file", adapter="ours:int8", same_model=False),
    "srsdk-quality": Peer(title="srsdk, `gan_x4_quality`", adapter="ours:quality"),
    "srsdk-quality-int8": Peer(
        title="srsdk, `gan_x4_quality`, INT8 file",
        adapter="ours:quality_int8",
    ),
    "srsdk-tuned": Peer(title="srsdk, `tune=True`", adapter="ours:tuned", same_model=False),
    "onnxruntime": Peer(
        title="bare ONNX Runtime",
        adapter="bare_onnxruntime:open_it",
        needs=("onnxruntime",),
        same_model=True,
    ),
    "openvino": Peer(
        title="bare OpenVINO, FP32",
        adapter="bare_openvino:fp32",
        needs=("openvino",),
        same_model=True,
    ),
    "openvino-defaults": Peer(
        title="bare OpenVINO, its defaults",
        adapter="bare_openvino:defaults",
        needs=("openvino",),
        same_model=True,
    ),
    "torch-eager": Peer(
        title="PyTorch, eager", adapter="pytorch:eager", needs=("torch",), same_model=True
    ),
    "torch-compiled": Peer(
        title="PyTorch, compiled", adapter="pytorch:compiled", needs=("torch",), same_model=True
    ),
    "torch-tiling": Peer(
        title="PyTorch, Real-ESRGAN's tiling",
        adapter="user_tiling:open_it",
        needs=("torch",),
        same_model=True,
    ),
    "ncnn-animevideov3": Peer(
        title="ncnn, realesr-animevideov3",
        adapter="ncnn_net:animevideov3",
        needs=("ncnn",),
        file="realesr-animevideov3-x4.param",
    ),
    "opencv-fsrcnn": Peer(
        title="OpenCV, FSRCNN", adapter="opencv:fsrcnn", needs=("cv2",), file="fsrcnn_x4.onnx"
    ),
    "opencv-espcn": Peer(
        title="OpenCV, ESPCN", adapter="opencv:espcn", needs=("cv2",), file="espcn_x4.onnx"
    ),
    "spandrel-compact": Peer(
        title="spandrel, Compact",
        adapter="spandrel_nets:compact",
        needs=("torch", "spandrel"),
        trained=False,
    ),
    "spandrel-span": Peer(
        title="spandrel, SPAN",
        adapter="spandrel_nets:span",
        needs=("torch", "spandrel"),
        trained=False,
    ),
    "spandrel-safmn": Peer(
        title="spandrel, SAFMN",
        adapter="spandrel_nets:safmn",
        needs=("torch", "spandrel"),
        trained=False,
    ),
    "spandrel-rrdb": Peer(
        title="spandrel, RRDB (ESRGAN)",
        adapter="spandrel_nets:rrdb",
        needs=("torch", "spandrel"),
        trained=False,
        slow=True,
    ),
    "span-openvino": Peer(
        title="SPAN of 131 K in OpenVINO, FP32",
        adapter="spandrel_onnx:openvino",
        others_db=SPAN_DB,
        needs=("openvino",),
        file="span26_x4.onnx",
        trained=False,
    ),
    "span-openvino-bf16": Peer(
        title="SPAN of 131 K in OpenVINO, its defaults",
        adapter="spandrel_onnx:openvino_bf16",
        others_db=SPAN_DB,
        needs=("openvino",),
        file="span26_x4.onnx",
        trained=False,
    ),
    "span-onnxruntime": Peer(
        title="SPAN of 131 K in ONNX Runtime",
        adapter="spandrel_onnx:onnxruntime",
        others_db=SPAN_DB,
        needs=("onnxruntime",),
        file="span26_x4.onnx",
        trained=False,
    ),
    "srsdk-engine": Peer(
        title="srsdk, TensorRT engine",
        adapter="ours:engine",
        needs=("cuda",),
        same_model=True,
        gpu=True,
        engine=True,
    ),
    "tensorrt-loop": Peer(
        title="TensorRT, the loop of trtexec",
        adapter="tensorrt_loop:open_it",
        needs=("cuda",),
        same_model=True,
        gpu=True,
        engine=True,
    ),
    "torch-cuda": Peer(
        title="PyTorch on the GPU, FP16",
        adapter="pytorch_gpu:eager",
        needs=("torch",),
        same_model=True,
        gpu=True,
    ),
    "torch-tensorrt": Peer(
        title="Torch-TensorRT, FP16",
        adapter="pytorch_gpu:torch_tensorrt",
        needs=("torch", "torch_tensorrt"),
        same_model=True,
        gpu=True,
    ),
}


def missing(peer: Peer, job: Job) -> str | None:
    """Return what a peer lacks here, or None."""
    for package in peer.needs:
        if importlib.util.find_spec(package) is None:
            extra = "torch-tensorrt" if package == "torch_tensorrt" else "'srsdk[peers]'"
            return f"{package} is not installed: pip install {extra}"
    if peer.file is not None and (job.files is None or not (Path(job.files) / peer.file).is_file()):
        return f"{peer.file} not found: pass --files FOLDER with this file"
    if peer.engine and job.engine is None:
        return "no engine: pass --engine FILE.engine of the same model"
    return no_gpu() if peer.gpu else None


def no_gpu() -> str | None:
    """Return why no NVIDIA GPU can be used, or None."""
    try:
        device_count()
    except SrsdkError as error:
        return str(error)
    return None


def open_peer(name: str, job: Job) -> Upscale:
    """Open a peer for one picture size."""
    module, function = PEERS[name].adapter.split(":")
    adapter = importlib.import_module(f"benchmarks.peers.{module}")
    opened: Upscale = getattr(adapter, function)(job)
    return opened


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Time one peer in this process: warm-up, then `runs` calls or `seconds`, at least two calls.

    Returns:
        `ms` of each call, and `open_ms`.
    """
    job = Job(**config["job"])
    source = picture(job.height, job.width)
    began = time.perf_counter()
    upscale = open_peer(config["peer"], job)
    open_ms = 1000 * (time.perf_counter() - began)
    began = time.perf_counter()
    for index in range(WARM_UP_RUNS):
        # the first call may compile; one is enough if calls are slow
        if index == 0 or time.perf_counter() - began < config["seconds"]:
            result = upscale(source)
    ms: list[float] = []
    while len(ms) < config["runs"] and (len(ms) < 2 or sum(ms) < 1000 * config["seconds"]):
        began = time.perf_counter()
        result = upscale(source)
        ms.append(1000 * (time.perf_counter() - began))
    shape = (4 * job.height, 4 * job.width, 3)
    if result.shape != shape or result.dtype != np.uint8:
        found = f"{result.shape} {result.dtype}"
        raise RuntimeError(f"{config['peer']} returned {found}, expected {shape} uint8")
    return {"ms": ms, "open_ms": open_ms}


def quality(config: dict[str, Any]) -> dict[str, Any]:
    """Score one peer on a folder of pictures, downscaled by four with MATLAB's bicubic.

    Returns:
        `psnr_y_db` and `ssim_y`, under the protocol of the published tables.
    """
    from training.data.pictures import load_pairs
    from training.evaluation.evaluate import score

    pairs = load_pairs(Path(config["test"]), 4)

    def upscale(lr: Picture) -> Picture:
        height, width = lr.shape[:2]
        job = Job(**{**config["job"], "height": height, "width": width})
        return open_peer(config["peer"], job)(np.ascontiguousarray(lr))

    found = score(upscale, pairs, 4)
    return {"psnr_y_db": found.psnr_y_db, "ssim_y": found.ssim_y}
