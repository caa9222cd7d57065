"""ncnn on the CPU, in float32."""

from __future__ import annotations

from pathlib import Path

import ncnn
import numpy as np

from benchmarks.peers.adapters import Job, Picture, Upscale


def animevideov3(job: Job) -> Upscale:
    """Real-ESRGAN's SRVGGNetCompact, 621 K parameters."""
    return _open(job, "realesr-animevideov3-x4")


def _open(job: Job, name: str) -> Upscale:
    folder = Path(str(job.files))
    net = ncnn.Net()
    net.opt.num_threads = job.threads
    # by default ncnn would compute in bfloat16 or float16 where the processor has it
    net.opt.use_bf16_storage = net.opt.use_fp16_packed = False
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(folder / f"{name}.param"))
    net.load_model(str(folder / f"{name}.bin"))

    def upscale(lr: Picture) -> Picture:
        height, width = lr.shape[:2]
        pixels = ncnn.Mat.from_pixels(lr, ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        pixels.substract_mean_normalize([], [1 / 255] * 3)
        with net.create_extractor() as extractor:
            extractor.input("data", pixels)
            _, large = extractor.extract("output")
        levels = np.rint(np.asarray(large) * np.float32(255)).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))

    return upscale
