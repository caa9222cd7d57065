"""INT8 accuracy of the shipped files on this processor, with both backends.

The figures in the manifests were measured on one type of processor; these tests check them on the
processor that runs them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import srsdk
from export.targets import lint
from srsdk import models
from srsdk.options import Backend
from srsdk.system.processor import processor
from tests.conftest import make_picture
from training.data.pictures import Pair, load_pairs
from training.data.resize import imresize
from training.evaluation.metrics import psnr_y

BACKENDS: tuple[Backend, ...] = ("openvino", "onnxruntime")
INT8 = [name for name in models.shipped() if name.endswith(".int8")]
ENLARGE = [name for name in INT8 if not name.startswith("ae_")]
MOST_LOST_DB = {2: 0.06, 4: 0.03}
BACKENDS_APART_DB, BACKENDS_APART_LSB = 0.01, 4

Pictures = list[npt.NDArray[np.uint8]]


def upscaled(name: str, backend: Backend, pictures: Sequence[npt.NDArray[np.uint8]]) -> Pictures:
    """Upscale with one backend; skip the test if it rejects the file."""
    try:
        up = srsdk.Upscaler(name, backend=backend)
    except srsdk.SelfTestError:
        raise
    except srsdk.ModelError as error:
        pytest.skip(f"{backend} rejects {name} on this processor: {error}")
    with up:
        return [up(picture) for picture in pictures]


def scored(results: Pictures, pairs: Sequence[Pair], scale: int) -> float:
    """Return the mean luma PSNR, dB."""
    both = zip(results, pairs, strict=True)
    return float(np.mean([psnr_y(one, pair.hr, border_px=scale) for one, pair in both]))


@pytest.mark.parametrize("name", INT8)
def test_both_backends_give_the_same_picture(name: str) -> None:
    """Within 4 levels, on a reduced synthetic picture with flat areas, edges and noise."""
    large = make_picture(192, 256)
    picture = np.ascontiguousarray(imresize(large, 1 / 2))
    results = [upscaled(name, backend, [picture])[0].astype(int) for backend in BACKENDS]
    assert np.abs(results[0] - results[1]).max() <= BACKENDS_APART_LSB


@pytest.mark.data
@pytest.mark.parametrize(
    "folder",
    [
        "Set5",
        pytest.param("Set14", marks=pytest.mark.slow),
        pytest.param("BSD100", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ENLARGE)
def test_what_int8_loses_here(test_sets: Path, name: str, folder: str) -> None:
    """At most 0.03 dB at x4 and 0.06 dB at x2; backends differ by up to 0.01 dB and 4 levels."""
    scale = 2 if "_x2" in name else 4
    pairs = load_pairs(test_sets / folder, scale)
    pictures = [pair.lr for pair in pairs]
    whole = scored(upscaled(name.removesuffix(".int8"), BACKENDS[0], pictures), pairs, scale)
    results = [upscaled(name, backend, pictures) for backend in BACKENDS]
    found = [scored(result, pairs, scale) for result in results]
    assert max(whole - psnr for psnr in found) <= MOST_LOST_DB[scale]
    assert abs(found[0] - found[1]) <= BACKENDS_APART_DB
    apart = [np.abs(a.astype(int) - b).max() for a, b in zip(*results, strict=True)]
    assert max(apart) <= BACKENDS_APART_LSB


KERNELS = ("AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""oneDNN's names; a processor without the newer ones uses its best."""
RUN = """
import sys
import numpy as np
from pathlib import Path
import srsdk
picture = np.load(sys.argv[1])
for path in map(Path, sys.argv[3:]):
    with srsdk.Upscaler(path, backend="openvino", self_test=False, health=False) as up:
        np.save(Path(sys.argv[2]) / f"{path.name}.npy", up(picture))
"""


def by_kernels(kernels: str, folder: Path, paths: Sequence[Path]) -> Pictures:
    """Upscale one picture in OpenVINO, in a process limited to these kernels."""
    out = folder / kernels
    out.mkdir()
    np.save(folder / "picture.npy", np.ascontiguousarray(imresize(make_picture(128, 160), 1 / 2)))
    call = [sys.executable, "-c", RUN, str(folder / "picture.npy"), str(out), *map(str, paths)]
    subprocess.run(call, check=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": kernels})
    return [np.load(out / f"{path.name}.npy") for path in paths]


x86 = pytest.mark.skipif(
    processor().kind in ("ARM64", "SSE4.2", "unknown"),
    reason="selects kernels of x86 processors with AVX2",
)


@x86
def test_every_kernel_gives_the_same_picture(tmp_path: Path) -> None:
    """With and without VNNI, at most 1 in 10,000 samples differs, by 1 level: no saturation."""
    paths = [models.find(name) for name in INT8]
    results = [by_kernels(kernels, tmp_path, paths) for kernels in KERNELS]
    for other in results[1:]:
        for name, a, b in zip(INT8, results[0], other, strict=True):
            apart = np.abs(a.astype(int) - b)
            assert apart.max() <= 1, name
            assert np.mean(apart > 0) <= 1e-4, name


def in_float(model: onnx.ModelProto, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Run a quantized graph in ONNX's reference evaluator, whose sums never saturate."""
    (result,) = ReferenceEvaluator(model).run(None, {"image": picture[None]})
    return np.asarray(result[0], np.int64)


@x86
def test_weights_beyond_the_bound_saturate(tmp_path: Path) -> None:
    """Kernels without VNNI compute our file correctly, but not a file with larger weights.

    The lint rejects that file.
    """
    model = onnx.load(models.find("gan_x2.int8"))
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and list(tensor.dims[1:]) == [32, 3, 3]:
            codes = numpy_helper.to_array(tensor).astype(int)
            larger = np.clip(codes * 2, -127, 127).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(larger, tensor.name))
    lint.check_saturation(model)
    with pytest.raises(lint.LintError, match="a processor without VNNI saturates"):
        lint.check_saturation(wide)
    paths = [tmp_path / "ours.onnx", tmp_path / "wide.onnx"]
    for graph, path in zip((model, wide), paths, strict=True):
        onnx.save(graph, path)
    found = by_kernels("AVX2", tmp_path, paths)
    picture = np.load(tmp_path / "picture.npy")
    apart = [
        int(np.abs(one - in_float(graph, picture)).max())
        for one, graph in zip(found, (model, wide), strict=True)
    ]
    assert apart[0] <= 1
    assert apart[1] > 20
