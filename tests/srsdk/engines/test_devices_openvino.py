"""OpenVINO's devices: AUTO and HETERO on the real CPU; GPUs and NPUs behind a fake of the Core."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from srsdk.engines import openvino
from srsdk.engines.accelerators import openvino_devices
from srsdk.engines.accelerators.openvino_engine import OpenVinoDeviceEngine
from srsdk.engines.accelerators.spelling import choose_accelerator
from srsdk.inference import self_test
from tests.conftest import make_picture
from tests.fakes.openvino_core import MEMORY_BYTES, FakeCore

HERE = openvino_devices.available()
ONLY_CPU = pytest.mark.skipif(HERE != ("CPU",), reason=f"OpenVINO has {', '.join(HERE)} here")
SPELLINGS = ("auto:cpu", "hetero:cpu")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCore]:
    """Return a function that puts a machine with other devices in place of this one."""

    def install(*devices: str, **behavior: Any) -> FakeCore:
        core = FakeCore(openvino.core(), *([devices] if devices else []), **behavior)
        monkeypatch.setattr(openvino, "_CORE", core)
        monkeypatch.setattr(self_test, "_passed", set())
        return core

    return install


@pytest.fixture(scope="module")
def expected() -> Any:
    """What the plain CPU engine computes."""
    with srsdk.Upscaler("gan_x2", backend="openvino", precision="fp32") as up:
        return up(make_picture(90, 130))


@pytest.mark.parametrize("optimize", ["latency", "throughput"])
@pytest.mark.parametrize("device", SPELLINGS)
def test_auto_and_hetero_on_the_cpu(device: str, optimize: Any, expected: Any) -> None:
    """Both compute the bits of the plain device, and `repr` shows what was chosen."""
    with srsdk.Upscaler("gan_x2", device=device, optimize=optimize, tile=64) as up:
        assert f"gan_x2 x2 fp32, openvino on cpu ({device}), tile 64x64" in repr(up)
        assert np.array_equal(up(make_picture(90, 130)), expected)
        agreement = up.self_test()
        assert agreement is not None
        assert agreement.max_lsb <= 1
        plan = up.plan(90, 130)
        assert (plan.device_bytes, plan.free_bytes) == (0, None)


@pytest.mark.parametrize("device", SPELLINGS)
def test_every_kind_of_model(device: str) -> None:
    """INT8 and FP16 files, samples, 16 bits, and several models in a row."""
    picture = make_picture(32, 40)
    for form in ("int8", "fp16"):
        with srsdk.Upscaler("gan_x2", device=device, precision=form) as up:
            found = up(picture)
        with srsdk.Upscaler(f"gan_x2.{form}", backend="openvino") as up:
            assert np.abs(up(picture).astype(int) - found).max() <= 1
    with srsdk.Sampler("vae_x4", device=device) as sampler:
        assert sampler.sample(picture, 1, confidence=True).samples[0].shape == (128, 160, 3)
    with srsdk.Chain.of("compressed", 4, device=device, threads=1) as chain:
        assert chain(picture.astype(np.uint16) * 257).dtype == np.uint16


@ONLY_CPU
def test_auto_takes_what_exists(caplog: pytest.LogCaptureFixture, expected: Any) -> None:
    """A missing device of the list is logged, and the one in use shown."""
    with srsdk.Upscaler("gan_x2", device="auto:gpu,cpu") as up:
        assert up.device == "cpu (auto:gpu,cpu)"
        assert np.array_equal(up(make_picture(90, 130)), expected)
    assert "device auto:gpu,cpu: OpenVINO has only CPU here" in caplog.text


def test_many_threads_share_one_engine(expected: Any) -> None:
    """Calls of several threads at once get their own results."""
    wrong: list[str] = []
    with srsdk.Upscaler("gan_x2", device="hetero:cpu", tile=64, threads=2) as up:

        def work() -> None:
            if not np.array_equal(up(make_picture(90, 130)), expected):
                wrong.append("another result")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("device", ["gpu:77", "npu:77", "hetero:gpu:77,cpu", "auto:gpu:77,npu:77"])
def test_a_device_that_is_not_here(device: str) -> None:
    """The error lists the devices that are, and names the driver."""
    with pytest.raises(
        srsdk.BackendError,
        match=r"OpenVINO has no device .*77.* here, only CPU.*: an Intel .*; or device='cpu'",
    ):
        srsdk.Upscaler("gan_x2", device=device)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "gpu:x"}, "device 'gpu:x' is not one of cpu, gpu, gpu:1, npu, auto:gpu,cpu"),
        ({"device": "gpu,cpu"}, "names several devices: 'auto:gpu,cpu' uses the first that can,"),
        ({"device": "auto:"}, "expected different names of cpu, gpu, gpu:0, gpu:1, npu"),
        ({"device": "auto:gpu,gpu"}, "expected different names"),
        ({"device": "hetero:cuda,cpu"}, "expected different names"),
        ({"device": "auto:auto:cpu"}, "expected different names"),
        ({"device": "npu", "backend": "onnxruntime"}, "is a device of OpenVINO, got backend="),
        ({"device": "gpu", "backend": "tensorrt"}, "is a device of OpenVINO, got backend="),
        ({"device": "gpu", "devices": [0]}, r"device='gpu' and devices=\[0\] cannot be combined"),
        ({"device": "gpu", "max_memory": "1GB"}, "memory of CUDA GPUs, this runs on gpu: use tile"),
        ({"device": "auto:gpu,cpu", "precision": "bf16"}, "is for device='cpu', this runs on auto"),
        ({"device": "npu", "tune": True}, "but this runs on npu: omit tune"),
        ({"device": "gpu", "threads": 0}, "threads is 0"),
    ],
)
def test_what_does_not_go_together(arguments: dict[str, Any], message: str) -> None:
    """It is refused before the library is asked for the device."""
    with pytest.raises(srsdk.UsageError, match=message):
        srsdk.Upscaler("gan_x2", **arguments)


def test_engine_files_are_for_cuda(tmp_path: Any) -> None:
    """Before the file is read."""
    (tmp_path / "a.engine").write_bytes(b"")
    with pytest.raises(srsdk.UsageError, match=r"runs on a CUDA GPU, not on device='npu'; use the"):
        srsdk.Upscaler(tmp_path / "a.engine", device="npu")


def test_the_int8_form_for_cuda_is_for_devices_without_a_cpu(fake: Callable[..., Any]) -> None:
    """On a CPU its integers saturate; a GPU may run it."""
    fake()
    for device in ("auto:gpu,cpu", "hetero:cpu"):
        with pytest.raises(srsdk.UsageError, match="is the INT8 form for GPUs"):
            srsdk.Upscaler("gan_x2.int8.gpu", device=device)


@pytest.mark.parametrize(
    ("device", "target", "shown"),
    [("gpu", "GPU", "gpu"), ("gpu:0", "GPU", "gpu"), ("gpu:1", "GPU.1", "gpu:1")],
)
def test_a_gpu(
    fake: Callable[..., FakeCore], device: str, target: str, shown: str, expected: Any
) -> None:
    """It is asked for the precision of the file, which it would not take by itself."""
    core = fake()
    picture = make_picture(90, 130)
    with srsdk.Upscaler("gan_x2", device=device) as up:
        assert f"fp32, openvino on {shown}, " in repr(up)
        # small pictures are mirrored up to a square, so that few shapes are compiled
        assert np.array_equal(up(picture)[20:-20, 20:-20], expected[20:-20, 20:-20])
        assert up.plan(500, 500).free_bytes == MEMORY_BYTES
        assert not up.plan(500, 500).is_exact
    assert {each for each, _ in core.asked} == {target}
    assert {config["INFERENCE_PRECISION_HINT"] for _, config in core.asked} == {"f32"}
    assert all("ENABLE_CPU_PINNING" not in config for _, config in core.asked)
    core.asked.clear()
    with srsdk.Upscaler("gan_x2", device=device, precision="fp16", optimize="throughput") as up:
        assert up.plan(2000, 2000).slots <= 4
    assert {config["INFERENCE_PRECISION_HINT"] for _, config in core.asked} == {"f16"}
    assert {config["PERFORMANCE_HINT"] for _, config in core.asked} == {"THROUGHPUT"}


def test_an_npu_has_no_float32(
    fake: Callable[..., FakeCore], caplog: pytest.LogCaptureFixture
) -> None:
    """A float32 file is refused with the files that run; what INT8 leaves float is said."""
    core = fake()
    with pytest.raises(
        srsdk.BackendError, match="npu computes in FP16, INT8, and this file is fp32: precision='fp"
    ):
        srsdk.Upscaler("gan_x2", device="npu")
    assert core.asked == []
    for form in ("fp16", "int8"):
        with srsdk.Upscaler("gan_x2", device="npu", precision=form) as up:
            assert (up.device, up.plan(300, 300).free_bytes) == ("npu", None)
    assert {config["INFERENCE_PRECISION_HINT"] for _, config in core.asked} == {"f16"}
    assert "what the file leaves unquantized is computed in float16" in caplog.text


def test_auto_is_decided_once(
    fake: Callable[..., FakeCore], caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO's AUTO chooses at opening; every later shape is compiled for that device."""
    core = fake()
    caplog.set_level(logging.INFO, "srsdk")
    with srsdk.Upscaler("gan_x2", device="auto:npu,gpu:1,cpu", tile=96) as up:
        assert up.device == "gpu:1 (auto:npu,gpu:1,cpu)"
        up(make_picture(100, 120))
    (decision, config), *later = core.asked
    # the NPU has no float32
    assert decision == "AUTO:GPU.1,CPU"
    assert config["ENABLE_STARTUP_FALLBACK"] is False
    assert set(config["DEVICE_PROPERTIES"]) == {"GPU.1", "CPU"}
    assert len(later) >= 2
    assert {target for target, _ in later} == {"GPU.1"}
    assert "device auto:npu,gpu:1,cpu: npu computes in FP16, INT8, and this file" in caplog.text
    assert "OpenVINO chose gpu:1" in caplog.text
    with pytest.raises(srsdk.BackendError, match="npu computes in FP16"):
        srsdk.Upscaler("gan_x2", device="auto:npu")


def test_each_part_of_hetero_has_its_precision(fake: Callable[..., FakeCore]) -> None:
    """The GPU computes an FP16 file in float16, the CPU in float32, as it does alone."""
    core = fake()
    with srsdk.Upscaler("gan_x2", device="hetero:gpu,cpu", precision="fp16", threads=1) as up:
        assert up.device == "gpu, cpu (hetero:gpu,cpu)"
    target, config = core.asked[0]
    assert target == "HETERO:GPU,CPU"
    parts = config["DEVICE_PROPERTIES"]
    assert parts["GPU"]["INFERENCE_PRECISION_HINT"] == "f16"
    assert parts["CPU"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert parts["CPU"]["INFERENCE_NUM_THREADS"] == 1


@pytest.mark.parametrize("device", ["gpu", "hetero:gpu,cpu"])
def test_another_precision_is_an_error(fake: Callable[..., FakeCore], device: str) -> None:
    """What the compiled model says is compared with what it was asked for."""
    fake(computes_in="f16")
    with pytest.raises(
        srsdk.BackendError, match=r"OpenVINO computes in f16 on .*, expected f32, the precision of"
    ):
        srsdk.Upscaler("gan_x2", device=device)


def test_another_device_is_an_error(fake: Callable[..., FakeCore]) -> None:
    """A model that would run elsewhere than on the device that was named."""
    fake(runs_on=("CPU",))
    with pytest.raises(srsdk.BackendError, match="OpenVINO computes on CPU, expected GPU"):
        srsdk.Upscaler("gan_x2", device="gpu")


def test_wrong_results_are_found_before_the_first_picture(
    fake: Callable[..., FakeCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process runs the self-test once on each device."""
    ran: list[str] = []
    real = self_test._run

    def run(engine: Any, manifest: Any) -> Any:
        ran.append(engine.device)
        return real(engine, manifest)

    monkeypatch.setattr(self_test, "_run", run)
    fake()
    for device in ("gpu", "gpu:1", "gpu", "auto:gpu,cpu"):
        srsdk.Upscaler("gan_x2", device=device).close()
    assert ran == ["gpu", "gpu:1", "gpu (auto:gpu,cpu)"]


def test_too_little_memory_means_smaller_tiles(
    fake: Callable[..., FakeCore], caplog: pytest.LogCaptureFixture
) -> None:
    """The library's error is told from others by its text; the next smaller input is tried."""
    fake(out_of_memory=3 * 256 * 256)
    with srsdk.Upscaler("gan_x2", device="gpu", health=False) as up:
        assert up(make_picture(400, 400)).shape == (800, 800, 3)
    assert "CL_OUT_OF_RESOURCES; continuing with inputs of 1x128x128x3" in caplog.text


def test_a_device_without_an_answer(
    fake: Callable[..., FakeCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that fails when it is asked: an error with its reason, not a traceback."""
    core = fake()

    def fail(device: str, name: str) -> Any:
        raise RuntimeError(f"no context\nthe driver of {device} is lost")

    monkeypatch.setattr(core, "get_property", fail)
    with pytest.raises(srsdk.BackendError, match=r"cannot ask gpu .*: the driver of GPU is lost"):
        srsdk.Upscaler("gan_x2", device="gpu")
    assert openvino_devices.full_name("GPU") == "no name: the driver of GPU is lost"


def test_the_precision_of_a_graph() -> None:
    """It is read from the graph, so that files without a manifest have one too."""
    core = openvino.core()
    for name in ("fp32", "fp16", "int8"):
        path = srsdk.models.find("gan_x2" if name == "fp32" else f"gan_x2.{name}")
        assert openvino_devices.graph_precision(core.read_model(path)) == name


def test_closed_engines_release_their_models() -> None:
    """A slot that is open keeps its own; the engine may be closed twice."""
    accelerator = choose_accelerator("hetero:cpu", None, "auto", None, is_engine=False)
    assert accelerator is not None
    path = srsdk.models.find("gan_x2")
    engine = OpenVinoDeviceEngine(path, accelerator, threads=1)
    slot = engine.slot((1, 24, 24, 3))
    engine.close()
    engine.close()
    slot.submit()
    assert slot.wait().shape == (1, 48, 48, 3)
    slot.close()


def test_on_the_command_line(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """`--device` takes every spelling, and messages name the options."""
    # put back afterwards: -v sets it for the process
    caplog.set_level(logging.INFO, "srsdk")
    source = tmp_path / "a.png"
    Image.fromarray(make_picture(20, 24)).save(source)
    call = ["upscale", str(source), "-o", str(tmp_path / "b.png"), "--scale", "2", "--device"]
    assert main([*call, "auto:cpu", "-v"]) == 0
    assert "openvino on cpu (auto:cpu)" in caplog.text
    assert main([*call, "gpu:77"]) == 1
    assert "OpenVINO has no device gpu:77 here" in capsys.readouterr().err
    assert main([*call, "gpu", "--backend", "onnxruntime"]) == 2
    assert "--device gpu is a device of OpenVINO, got --backend" in capsys.readouterr().err
