"""An application that lives in PyCUDA: its arrays go in and come out, and never leave the GPU.

`python examples/pycuda_app.py gan_x4.fp16.engine photo.jpg large.png`; needs an NVIDIA GPU and
`pip install "srsdk[rtx,pycuda]"` (PyCUDA is compiled: it needs a compiler and the CUDA headers).
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

import srsdk


def main(model: str, source: str, target: str) -> None:
    """Upscale a picture between two copies of PyCUDA, all on one stream."""
    # not pycuda.autoinit: it makes a context of its own, whose memory nobody else can use
    import pycuda.autoprimaryctx  # noqa: F401 - takes the context that everybody uses
    import pycuda.driver as cuda
    from pycuda import gpuarray

    pixels = np.asarray(Image.open(source).convert("RGB"))
    stream = cuda.Stream()
    with srsdk.Upscaler(model, device="cuda:0") as up:
        small = gpuarray.to_gpu_async(pixels, stream=stream)
        large = gpuarray.empty((pixels.shape[0] * up.scale, pixels.shape[1] * up.scale, 3), "uint8")
        # reads `small` after what is on the stream; what is put on it afterwards sees `large`
        up(small, out=large, stream=stream)
        result = large.get_async(stream=stream)
        stream.synchronize()
    Image.fromarray(result).save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
