"""OpenCV's super-resolution: a luma network, color by bicubic interpolation.

`dnn_superres` itself opens only TensorFlow's `.pb` files; this module repeats its steps for the
same networks as ONNX.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from benchmarks.peers.adapters import Job, Picture, Upscale

SCALE = 4


def fsrcnn(job: Job) -> Upscale:
    """Open FSRCNN x4."""
    return _open(job, "fsrcnn_x4.onnx")


def espcn(job: Job) -> Upscale:
    """Open ESPCN x4."""
    return _open(job, "espcn_x4.onnx")


def _open(job: Job, name: str) -> Upscale:
    cv2.setNumThreads(job.threads)
    net = cv2.dnn.readNetFromONNX(str(Path(str(job.files)) / name))

    def upscale(lr: Picture) -> Picture:
        ycc = cv2.cvtColor(lr, cv2.COLOR_RGB2YCrCb)
        net.setInput((ycc[:, :, 0].astype(np.float32) / 255)[None, None])
        luma = net.forward()[0, 0]
        height, width = lr.shape[:2]
        size = (width * SCALE, height * SCALE)
        large = cv2.resize(ycc, size, interpolation=cv2.INTER_CUBIC)
        large[:, :, 0] = np.clip(np.rint(luma * 255), 0, 255).astype(np.uint8)
        result: Picture = cv2.cvtColor(large, cv2.COLOR_YCrCb2RGB)
        return result

    return upscale
