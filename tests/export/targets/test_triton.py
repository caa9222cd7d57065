"""Triton model repositories, checked with Triton's own schema and, if installed, its server."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from export.cli import main
from export.errors import ExportError
from export.options import Artifact, Options
from export.record import Made
from export.targets.triton import render, write_repository
from tests.conftest import make_picture

SHIM = """
import os, sys
sys.path.extend(PATHS)
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        responses = []
        for request in requests:
            # by DLPack: its own conversions know the arrays of numpy 1 only
            image = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "image"))
            (result,) = self.session.run(None, {"image": np.array(image)})
            tensor = pb_utils.Tensor.from_dlpack("upscaled", result)
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
"""
"""Replaces Triton's ONNX Runtime backend, which is in no package index."""


@pytest.fixture(scope="module")
def repository(weights: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository of one float32 export, written twice."""
    folder = tmp_path_factory.mktemp("triton")
    (folder / "files").mkdir()
    call = [str(weights), "-o", str(folder / "files"), "--data", str(drawn), "--no-comparison"]
    call += ["--tile", "32x40", "--triton", str(folder / "repository")]
    assert main([*call]) == 0
    assert main([*call]) == 0  # again: nothing to do
    return folder / "repository"


def schema() -> Any:
    """Load Triton's own `model_config.proto`, without the rest of its client."""
    try:
        found = importlib.metadata.distribution("tritonclient")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs Triton's schema: pip install --no-deps tritonclient")
    path = found.locate_file("tritonclient/grpc/model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(config: Path) -> Any:
    """Read a config.pbtxt with Triton's schema; an unknown field is an error."""
    from google.protobuf import text_format

    return text_format.Parse(config.read_text(encoding="utf-8"), schema().ModelConfig())


def test_the_tree(repository: Path) -> None:
    """One folder per model with the file, its config and its tiles, and nothing else."""
    found = {path.relative_to(repository).as_posix() for path in repository.rglob("*")}
    assert found == {
        "toy_x2",
        "toy_x2/1",
        "toy_x2/1/model.onnx",
        "toy_x2/config.pbtxt",
        "toy_x2/warmup",
        "toy_x2/warmup/tile_0",
        "toy_x2/warmup/tile_1",
    }


def test_the_config_is_what_tritons_schema_reads(repository: Path) -> None:
    """Inputs, outputs, batching, instances and warm-up are in Triton's own fields."""
    config = parsed(repository / "toy_x2" / "config.pbtxt")
    proto = schema()
    assert (config.name, config.platform) == ("toy_x2", "onnxruntime_onnx")
    assert config.max_batch_size == 8
    (port,) = config.input
    assert (port.name, port.data_type, list(port.dims)) == ("image", proto.TYPE_UINT8, [-1, -1, 3])
    (port,) = config.output
    assert (port.name, port.data_type) == ("upscaled", proto.TYPE_UINT8)
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    (group,) = config.instance_group
    assert (group.kind, group.count) == (proto.ModelInstanceGroup.KIND_AUTO, 2)
    assert [sample.batch_size for sample in config.model_warmup] == [1, 8]
    for sample in config.model_warmup:
        image = sample.inputs["image"]
        assert list(image.dims) == [32, 40, 3]
        tile = repository / "toy_x2" / "warmup" / image.input_data_file
        assert tile.stat().st_size == 32 * 40 * 3
        assert np.frombuffer(tile.read_bytes(), np.uint8).std() > 5, "not a real tile"
    manifest = json.loads(config.parameters["srsdk.manifest"].string_value)
    assert manifest["name"] == "toy_x2"


def plan_of(folder: Path, flavour: str, profiles: list[tuple[int, int, int]]) -> Made:
    """Return a fake engine; its repository entry depends only on its manifest."""
    path = folder / "toy.fp16.engine"
    path.write_bytes(b"plan")
    manifest = replace(
        srsdk.Manifest(name="toy", scale=2, channels=3, radius_px=5),
        profiles=tuple(profiles),
        size_px=profiles[0][1:],
        flavour=flavour,
    )
    return Made(Artifact(path, "fp16", flavour), manifest, None, 0.0)


def test_a_plan(drawn: Path, tmp_path: Path) -> None:
    """A plan has the batches of its profiles, fixed sizes, and runs on a GPU."""
    made = plan_of(tmp_path, "tensorrt", [(1, 24, 32), (2, 24, 32)])
    (target,) = write_repository([made], tmp_path / "repo", Options(data=drawn))
    assert target.name == "toy_fp16"
    assert (target / "1" / "model.plan").read_bytes() == b"plan"
    config = parsed(target / "config.pbtxt")
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 2)
    assert list(config.input[0].dims) == [24, 32, 3]
    assert list(config.output[0].dims) == [48, 64, 3]
    (group,) = config.instance_group
    assert group.kind == schema().ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == ["0", "1"]


@pytest.mark.parametrize(
    ("flavour", "profiles", "sentence"),
    [
        ("rtx", [(1, 24, 32)], "--target tensorrt"),
        ("tensorrt", [(4, 24, 32)], "add --batch 1"),
    ],
)
def test_engines_that_triton_cannot_serve(
    drawn: Path, tmp_path: Path, flavour: str, profiles: list[tuple[int, int, int]], sentence: str
) -> None:
    """They are rejected with a fix in the message, and nothing is written."""
    made = plan_of(tmp_path, flavour, profiles)
    with pytest.raises(ExportError, match=sentence):
        write_repository([made], tmp_path / "repo", Options(data=drawn))
    assert not (tmp_path / "repo").exists()


def test_nothing_is_replaced_without_force(drawn: Path, tmp_path: Path) -> None:
    """The same model is kept, another one needs --force, any other folder is never replaced."""
    made, repo = plan_of(tmp_path, "tensorrt", [(1, 24, 32)]), tmp_path / "repo"
    write_repository([made], repo, Options(data=drawn))
    write_repository([made], repo, Options(data=drawn))
    made.artifact.path.write_bytes(b"another plan")
    with pytest.raises(ExportError, match="--force"):
        write_repository([made], repo, Options(data=drawn))
    write_repository([made], repo, Options(data=drawn), force=True)
    assert (repo / "toy_fp16" / "1" / "model.plan").read_bytes() == b"another plan"
    assert [path.name for path in repo.iterdir()] == ["toy_fp16"]
    (repo / "toy_fp16" / "config.pbtxt").unlink()
    with pytest.raises(ExportError, match="not a Triton model"):
        write_repository([made], repo, Options(data=drawn), force=True)


def test_a_damaged_model_is_another_one(drawn: Path, tmp_path: Path) -> None:
    """A warm-up tile of zeros, as a power cut leaves it, is not taken for the model."""
    made, repo = plan_of(tmp_path, "tensorrt", [(1, 24, 32)]), tmp_path / "repo"
    (target,) = write_repository([made], repo, Options(data=drawn))
    tile = target / "warmup" / "tile_0"
    before = tile.read_bytes()
    tile.write_bytes(bytes(len(before)))
    with pytest.raises(ExportError, match="--force"):
        write_repository([made], repo, Options(data=drawn))
    write_repository([made], repo, Options(data=drawn), force=True)
    assert tile.read_bytes() == before


def test_needs_tiles(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --data it is a usage error, before anything is written."""
    call = [str(weights), "-o", str(tmp_path), "--triton", str(tmp_path / "repo")]
    assert main(call) == 2
    assert "--data" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_text_form() -> None:
    """Quotes, backslashes and non-ASCII text survive; lists repeat their field."""
    text = render({"name": 'a"b\\n\u00e9', "input": [{"dims": [1, -1]}, {"a": True}]})
    assert text == (
        'name: "a\\"b\\\\n\u00e9"\ninput {\n  dims: 1\n  dims: -1\n}\ninput {\n  a: true\n}\n'
    )


@contextmanager
def server(repository: Path, logs: Path) -> Iterator[str]:
    """Run the real Triton server of the nvidia-pytriton wheel on the loopback interface."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs a Triton server: pip install --no-deps nvidia-pytriton")
    root = Path(next(iter(spec.submodule_search_locations))) / "tritonserver"
    backend = logs.parent / "backends"
    shutil.copytree(root / "backends", backend)
    stub = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub_path = root / "python_backend_stubs" / stub / "triton_python_backend_stub"
    shutil.copy(stub_path, backend / "python")
    for path in (root / "bin" / "tritonserver", backend / "python" / stub_path.name):
        path.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(root / "bin" / "tritonserver"), "--model-repository", str(repository)]
    command += ["--backend-directory", str(backend), "--http-address", "127.0.0.1"]
    command += ["--http-port", str(port), "--allow-grpc", "0", "--allow-metrics", "0"]
    libraries = root.parent.parent / "nvidia_pytriton.libs"
    paths = os.pathsep.join([str(libraries), os.environ.get("LD_LIBRARY_PATH", "")])
    environment = {**os.environ, "LD_LIBRARY_PATH": paths}
    with logs.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        for _ in range(600):
            if process.poll() is not None or _is_ready(f"http://127.0.0.1:{port}/v2/health/ready"):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.slow
def test_a_real_server_loads_it(repository: Path, tmp_path: Path) -> None:
    """It loads the config, warms up on the tiles, and returns the same bytes as srsdk.

    Its ONNX Runtime backend is in no package index, so a short shim in its Python backend runs the
    file; the rest of the config is unchanged.
    """
    models = tmp_path / "models"
    shutil.copytree(repository, models)
    config = models / "toy_x2" / "config.pbtxt"
    text = config.read_text().replace('platform: "onnxruntime_onnx"', 'backend: "python"')
    config.write_text(text)
    (models / "toy_x2" / "1" / "model.py").write_text(SHIM.replace("PATHS", repr(sys.path)))
    picture = make_picture(21, 34)
    request = {
        "name": "image",
        "shape": [1, *picture.shape],
        "datatype": "UINT8",
        "data": picture.ravel().tolist(),
    }
    raw = {"name": "upscaled", "parameters": {"binary_data": True}}
    with server(models, tmp_path / "log.txt") as address:
        body = json.dumps({"inputs": [request], "outputs": [raw]}).encode()
        try:
            with urllib.request.urlopen(f"{address}/v2/models/toy_x2/infer", body) as answer:
                header = int(answer.headers["Inference-Header-Content-Length"])
                (output,) = json.loads(answer.read(header))["outputs"]
                data = answer.read()
            with urllib.request.urlopen(f"{address}/v2/models/toy_x2/config") as answer:
                seen = json.load(answer)
        except OSError as error:
            said = error.read() if isinstance(error, urllib.error.HTTPError) else b""
            pytest.fail(f"{error}: {said!r} {(tmp_path / 'log.txt').read_text()[-3000:]}")
    with srsdk.Upscaler(repository / "toy_x2" / "1" / "model.onnx", backend="onnxruntime") as up:
        expected = up(picture)
    got = np.frombuffer(data, np.uint8).reshape(output["shape"])
    np.testing.assert_array_equal(got[0], expected)
    assert seen["dynamic_batching"]["preferred_batch_size"] == [4, 8]
    assert len(seen["model_warmup"]) == 2
