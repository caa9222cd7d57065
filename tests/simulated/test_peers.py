"""The peers that need a GPU, as far as the simulated one can run them."""

from __future__ import annotations

import numpy as np
import pytest
from cuda.bindings import driver

from benchmarks.peers.tensorrt_loop import Loop
from tests.conftest import make_picture
from tests.fakes import tensorrt
from tests.simulators.cuda import Simulator


@pytest.mark.parametrize("flavour", ["rtx", "tensorrt"])
def test_the_loop_of_tensorrt(gpu: Simulator, flavour: str) -> None:
    """It selects the right profile, and the caller owns the result."""
    module = tensorrt.make_module(flavour, gpu)
    profiles = [(1, 8, 8), ((1, 16, 16), (1, 20, 30), (1, 64, 64))]
    context = driver.cuCtxGetCurrent()[1]
    loop = Loop(module, tensorrt.plan(profiles), (1, 20, 30, 3))
    first, second = make_picture(20, 30), make_picture(20, 30)[::-1]
    result = loop(first)
    loop(np.ascontiguousarray(second))
    np.testing.assert_array_equal(result, first.repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(RuntimeError, match=r"no profile for a 90x80 picture.*--profiles 1x80x90"):
        Loop(module, tensorrt.plan(profiles), (1, 80, 90, 3))
    with pytest.raises(RuntimeError, match="TensorRT rejected the engine"):
        Loop(module, b"ptrt", (1, 20, 30, 3))
    driver.cuCtxSetCurrent(context)
    gpu.forget()
