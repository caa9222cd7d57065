"""ONNX Runtime's execution providers: real where they exist here, else the library's answers."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

import srsdk
from srsdk import models
from srsdk.cli.main import main
from srsdk.engines.accelerators import provider_engine, providers, spelling
from srsdk.engines.accelerators.provider_engine import ProviderEngine, check_session, make_session
from srsdk.engines.accelerators.providers import PROVIDERS, Found
from srsdk.engines.accelerators.providers import Provider as Entry
from srsdk.engines.accelerators.spelling import Accelerator, choose_accelerator
from srsdk.inference import self_test
from srsdk.options import Provider
from tests.conftest import make_picture
from tests.fakes.onnxruntime_plugins import CopyingSession, FakePlugins, FakeSession, device

ort: Any = vars(providers)["ort"]
CPU_EP = "CPUExecutionProvider"
ON_CPU = Accelerator("openvino", "", ("cpu",))
ON_GPU = Accelerator("directml", "", ("gpu",))
MINE = Entry(CPU_EP, "pip install it", plugin="mine", hardware="anything")


def accelerator(provider: str, where: str = "auto") -> Accelerator:
    """Return what the arguments name."""
    found = choose_accelerator(where, None, "auto", provider, is_engine=False)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"provider": "rocm"}, "provider 'rocm' is not one of cpu, cuda, coreml, directml, openv"),
        ({"provider": "directml", "backend": "openvino"}, "is a provider of ONNX Runtime, got bac"),
        ({"provider": "directml", "device": "cuda"}, "has no device 'cuda': device is 'gpu' or 'g"),
        ({"provider": "directml", "device": "npu"}, "has no device 'npu'"),
        ({"provider": "openvino", "device": "cuda:1"}, "device is 'cpu', 'gpu', 'gpu:1' or 'npu'"),
        ({"provider": "openvino", "device": "auto:gpu,cpu"}, "has no device 'auto:gpu,cpu'"),
        ({"provider": "openvino", "device": "gpu:x"}, "device 'gpu:x' is not one of cpu, gpu"),
        ({"provider": "openvino", "device": "gpu,cpu"}, "has no device 'gpu,cpu'"),
        ({"provider": "coreml", "device": "gpu"}, "has no device 'gpu': omit device="),
        ({"provider": "webgpu", "device": "gpu:1"}, "has no device 'gpu:1': device is 'gpu', or"),
        ({"provider": "cpu", "device": "cuda"}, "provider='cpu' has no device 'cuda': omit device"),
        ({"provider": "cuda", "device": "cpu"}, "has no device 'cpu': device is 'cuda' or 'cuda:1"),
        ({"provider": "webgpu", "devices": [0]}, r"devices=\[0\] are CUDA GPUs, got provider="),
        ({"provider": "webgpu", "max_memory": "1GB"}, "memory of CUDA GPUs, this runs on webgpu:g"),
        ({"provider": "webgpu", "precision": "bf16"}, "is for device='cpu', this runs on webgpu:g"),
        ({"provider": "webgpu", "tune": True}, "this runs on webgpu:gpu: omit tune"),
    ],
)
def test_what_does_not_go_together(arguments: dict[str, Any], message: str) -> None:
    """It is refused before the library is asked for the provider."""
    with pytest.raises(srsdk.UsageError, match=message):
        srsdk.Upscaler("gan_x2", **arguments)


def test_the_names_are_those_of_the_type() -> None:
    """What a type checker accepts, the command line offers and the table has is the same."""
    assert get_args(Provider) == spelling.PROVIDERS
    assert set(spelling.PROVIDERS) == {"cpu", "cuda", *PROVIDERS}


def test_engine_files_are_for_tensorrt(tmp_path: Path) -> None:
    """Before the file is read."""
    (tmp_path / "a.engine").write_bytes(b"")
    with pytest.raises(srsdk.UsageError, match=r"runs in TensorRT, got provider='tensorrt-rtx'; u"):
        srsdk.Upscaler(tmp_path / "a.engine", provider="tensorrt-rtx")


def test_the_two_providers_that_are_devices() -> None:
    """`cpu` is the plain engine, with all that it does; `cuda` the GPU engine."""
    with srsdk.Upscaler("gan_x2", provider="cpu", precision="fp32") as up:
        assert (up.backend, up.device) == ("onnxruntime", "cpu")
    with srsdk.Upscaler("gan_x2", backend="onnxruntime", precision="fp32") as plain:
        assert np.array_equal(plain(make_picture(20, 30)), up_of(make_picture(20, 30)))
    for where in ({"device": "cuda:77"}, {"devices": [77]}):
        options: Any = {"provider": "cuda", **where}
        with pytest.raises(srsdk.BackendError, match=r"(?i)cuda|onnxruntime"):
            srsdk.Upscaler("gan_x2", **options)


def up_of(picture: Any) -> Any:
    """Upscale with `provider="cpu"`."""
    with srsdk.Upscaler("gan_x2", provider="cpu", precision="fp32") as up:
        return up(picture)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_that_is_not_installed(name: Any) -> None:
    """The error lists the providers that are, and the package to install."""
    if name in providers.here():
        pytest.skip(f"{name} is installed here")
    with pytest.raises(srsdk.BackendError) as caught:
        srsdk.Upscaler("gan_x2", provider=name)
    text = str(caught.value)
    assert f"is installed without {PROVIDERS[name].ep}, only with" in text
    assert CPU_EP in text
    assert "pip install" in text


def test_a_plugin_that_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real API for plug-ins, with the only device that every machine has."""
    (real,) = [each for each in ort.get_ep_devices() if each.ep_name == CPU_EP]
    assert providers.kind_of(real) == "cpu"
    # the CPU may not be disabled as a fallback of itself
    cpu = Entry(CPU_EP, "", plugin="mine", why_cpu="all")
    monkeypatch.setattr(providers, "find", lambda *_: Found(cpu, (real,), {}))
    picture = make_picture(40, 50)
    with srsdk.Upscaler("gan_x2", provider="openvino", precision="fp32") as up:
        assert "gan_x2 x2 fp32, onnxruntime on cpu (openvino), tile auto" in repr(up)
        assert np.array_equal(up(picture), up_of(picture))
        assert up(picture.astype(np.uint16) * 257).dtype == np.uint16
        assert up.plan(300, 300).slots == 1
    with srsdk.Sampler("vae_x4", provider="openvino") as sampler:
        drawn = sampler.sample(picture, 1, confidence=True)
    with srsdk.Sampler("vae_x4", backend="onnxruntime") as sampler:
        expected = sampler.sample(picture, 1, confidence=True)
    assert np.array_equal(drawn.samples[0], expected.samples[0])
    with pytest.raises(srsdk.BackendError, match="closed"):
        up(picture)


def test_no_fallback_to_the_cpu() -> None:
    """A real provider that takes no node: the session is refused, whoever would notice it."""
    idle = "AzureExecutionProvider"
    if idle not in ort.get_available_providers():
        pytest.skip(f"this build of ONNX Runtime has no {idle}")
    path = models.find("gan_x2")
    found = Found(Entry(idle, "pip install it"), (), {})
    with pytest.raises(
        srsdk.BackendError, match=rf"{idle} on cpu cannot compute all of this model, or finds no"
    ):
        make_session(path, None, ON_CPU, found)
    found = Found(Entry(idle, "pip install it", why_cpu="ends"), (), {})
    with pytest.raises(srsdk.BackendError, match=rf"runs Conv \(11\), .* expected {idle}: use the"):
        make_session(path, None, ON_CPU, found)


def test_a_file_that_the_library_refuses(tmp_path: Path) -> None:
    """Its reason is passed on, with the way that remains."""
    (tmp_path / "a.onnx").write_bytes(b"no model")
    found = Found(Entry(CPU_EP, "", why_cpu="all"), (), {})
    with pytest.raises(
        srsdk.ModelError, match=r"cannot open this model with provider='openvino': "
    ):
        make_session(tmp_path / "a.onnx", None, ON_CPU, found)


def test_which_provider_each_node_got(caplog: pytest.LogCaptureFixture) -> None:
    """What the provider leaves to the CPU by its nature is logged; the network may not be there."""
    caplog.set_level(logging.INFO, "srsdk")
    found = Found(PROVIDERS["webgpu"], (), {})
    ep = PROVIDERS["webgpu"].ep
    ends = {ep: ["Conv", "Relu"], CPU_EP: ["Cast", "Cast", "Round"]}
    check_session(FakeSession([ep, CPU_EP], ends), found)
    assert f"{ep} leaves these operators to the CPU (bytes at both ends" in caplog.text
    assert "Cast (2), Round (1)" in caplog.text
    for op in ("Conv", "FusedConv", "QLinearConv", "MatMul", "QuantizeLinear", "PRelu", "Resize"):
        with pytest.raises(srsdk.BackendError, match=rf"runs {op} \(1\) of this model on the CPU"):
            check_session(FakeSession([ep, CPU_EP], {CPU_EP: [op, "Cast"]}), found)
    with pytest.raises(srsdk.BackendError, match=r"asked onnxruntime .* for .*, got CPUExecution"):
        check_session(FakeSession([CPU_EP], {}), found)
    # OpenVINO needs no CPU for anything
    whole = Found(PROVIDERS["openvino"], (), {})
    with pytest.raises(srsdk.BackendError, match=r"runs Cast \(1\) of this model on the CPU"):
        check_session(FakeSession([PROVIDERS["openvino"].ep], {CPU_EP: ["Cast"]}), whole)


def test_inputs_are_bound_at_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with memory of its own has a copy of the input as it was when it was bound."""
    cpu = Found(Entry(CPU_EP, "", why_cpu="all"), (), {})
    real = make_session
    monkeypatch.setattr(providers, "find", lambda *_: cpu)
    monkeypatch.setattr(provider_engine, "make_session", lambda *a: CopyingSession(real(*a)))
    engine = ProviderEngine(models.find("gan_x2"), ON_GPU, threads=None)
    slot = engine.slot((1, 32, 40, 3))
    for seed in range(3):
        picture = make_picture(32, 40, seed)
        slot.input[0] = picture
        slot.submit()
        found = slot.wait()[0]
        with srsdk.Upscaler("gan_x2", provider="cpu", precision="fp32") as up:
            assert np.array_equal(found, up(picture))
    assert (engine.few_shapes, engine.device) == (True, "gpu (directml)")
    slot.close()
    engine.close()


def test_wrong_results_are_found_before_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process runs the self-test once for each provider and device."""
    monkeypatch.setattr(self_test, "_passed", set())
    cpu = Found(Entry(CPU_EP, "", why_cpu="all"), (), {})
    monkeypatch.setattr(providers, "find", lambda *_: cpu)
    ran: list[str] = []
    real = self_test._run

    def run(engine: Any, manifest: Any) -> Any:
        ran.append(engine.device)
        return real(engine, manifest)

    monkeypatch.setattr(self_test, "_run", run)
    for where in ("gpu", "gpu:1", "gpu"):
        srsdk.Upscaler("gan_x2", provider="directml", device=where).close()
    assert ran == ["gpu (directml)", "gpu:1 (directml)"]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePlugins:
    """A machine whose plug-in packages are installed, with devices of two providers."""
    for provider in PROVIDERS.values():
        if provider.plugin:
            package = SimpleNamespace(
                get_library_path=lambda name=provider.plugin: f"{name}.so", __spec__=object()
            )
            monkeypatch.setitem(sys.modules, provider.plugin, package)
    openvino, webgpu = PROVIDERS["openvino"].ep, PROVIDERS["webgpu"].ep
    fake = FakePlugins(
        [
            device(openvino, "NPU", virtual=True),
            *(device(openvino, kind) for kind in ("CPU", "GPU", "GPU")),
            device(webgpu, "GPU"),
        ]
    )
    monkeypatch.setattr(providers, "ort", fake)
    return fake


def test_the_devices_of_a_plugin(plugins: FakePlugins) -> None:
    """The library is registered once; the device is chosen by its kind and number."""
    listed = plugins.devices
    for where, expected in (("auto", 1), ("cpu", 1), ("gpu", 2), ("gpu:0", 2), ("gpu:1", 3)):
        found = providers.find(accelerator("openvino", where), "fp32", None)
        assert found.devices == (listed[expected],)
    assert providers.find(accelerator("webgpu"), "fp32", None).devices == (listed[4],)
    # the fake lists the devices of all plug-ins by then, so that no other is registered
    assert plugins.registered == [("srsdk.onnxruntime_ep_openvino", "onnxruntime_ep_openvino.so")]
    # what compiles for hardware of another machine does not run here
    with pytest.raises(
        srsdk.BackendError,
        match="onnxruntime-ep-openvino has no device npu here, only cpu, gpu, gpu; it is for proc",
    ):
        providers.find(accelerator("openvino", "npu"), "fp32", None)
    with pytest.raises(
        srsdk.BackendError, match="has no device gpu here, nor any other device; it"
    ):
        providers.find(accelerator("tensorrt-rtx"), "fp32", None)
    assert providers.here() == ["openvino", "tensorrt-rtx", "webgpu"]


def test_a_plugin_that_does_not_load(plugins: FakePlugins) -> None:
    """The library's reason, and the packages to renew."""
    plugins.refuses = "[ONNXRuntimeError] : API version 30 is not supported\nmore"
    with pytest.raises(
        srsdk.BackendError,
        match=r"onnxruntime_ep_webgpu does not load in onnxruntime 1.32.0: .*API version 30 is not "
        r"supported: pip install -U onnxruntime onnxruntime-ep-webgpu",
    ):
        providers.find(accelerator("webgpu"), "fp32", None)


def test_a_file_that_is_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ONNX Runtime refuses it with an exception, which is translated."""
    (tmp_path / "mine.so").write_bytes(b"no library")
    package = SimpleNamespace(get_library_path=lambda: str(tmp_path / "mine.so"))
    monkeypatch.setitem(sys.modules, "mine", package)
    provider = Entry("MyExecutionProvider", "", plugin="mine")
    with pytest.raises(srsdk.BackendError, match="mine does not load in onnxruntime") as caught:
        providers.plugin_devices(provider)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("where", "precision", "hint"),
    [
        ("cpu", "fp32", "f32"),
        # asked for f16, the CPU device takes bfloat16
        ("cpu", "fp16", "f32"),
        ("gpu", "fp32", "f32"),
        ("gpu", "fp16", "f16"),
        ("gpu", "int8", "f32"),
        ("npu", "fp16", "f16"),
        ("npu", "int8", "f16"),
    ],
)
def test_openvino_computes_in_the_precision_of_the_file(
    monkeypatch: pytest.MonkeyPatch, where: str, precision: str, hint: str
) -> None:
    """By itself it would take float16 or bfloat16; threads are the CPU device's."""
    fake = FakePlugins([], built_in=(PROVIDERS["openvino"].ep, CPU_EP))
    monkeypatch.setattr(providers, "ort", fake)
    found = providers.find(accelerator("openvino", where), precision, 3)
    config = json.loads(found.options["load_config"])[where.upper()]
    assert config["INFERENCE_PRECISION_HINT"] == hint
    assert ("INFERENCE_NUM_THREADS" in config) == (where == "cpu")
    assert found.options["device_type"] == where.upper()


def test_options_of_other_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device by its number; CoreML in the format that keeps float32."""
    built_in = tuple(provider.ep for provider in PROVIDERS.values())
    monkeypatch.setattr(providers, "ort", FakePlugins([], built_in=built_in))
    for name, where, expected in (
        ("directml", "auto", {"device_id": "0"}),
        ("directml", "gpu:2", {"device_id": "2"}),
        ("tensorrt-rtx", "gpu:1", {"device_id": "1"}),
        ("webgpu", "gpu", {}),
        ("coreml", "auto", {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}),
    ):
        assert providers.find(accelerator(name, where), "fp32", None).options == expected
    assert str(accelerator("coreml")) == "coreml"
    assert str(accelerator("openvino", "npu")) == "openvino:npu"


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_the_real_openvino_provider(form: Any) -> None:
    """On its CPU device, where it is installed: pip install onnxruntime-openvino."""
    try:
        up = srsdk.Upscaler("gan_x2", provider="openvino", precision=form)
    except srsdk.BackendError as error:
        pytest.skip(str(error))
    picture = make_picture(60, 70)
    with up:
        assert up.device == "cpu (openvino)"
        result = up(picture)
    with srsdk.Upscaler("gan_x2", backend="onnxruntime", precision=form) as plain:
        assert np.abs(plain(picture).astype(int) - result).max() <= (2 if form == "int8" else 1)
    with pytest.raises(srsdk.BackendError, match="gpu:77"):
        srsdk.Upscaler("gan_x2", provider="openvino", device="gpu:77")


def test_the_real_webgpu_provider() -> None:
    """Where it is installed and finds an adapter: pip install onnxruntime-webgpu."""
    try:
        up = srsdk.Upscaler("gan_x2", provider="webgpu", precision="fp32")
    except (srsdk.BackendError, srsdk.ModelError) as error:
        pytest.skip(str(error))
    picture = make_picture(128, 128)
    with up:
        assert up.device == "gpu (webgpu)"
        result = up(picture)
    assert np.abs(up_of(picture).astype(int) - result).max() <= 1


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--provider` takes the names, and messages name the options."""
    (tmp_path / "a.png").touch()
    call = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--provider"]
    assert main([*call, "directml", "--backend", "openvino"]) == 2
    assert "--provider directml is a provider of ONNX" in capsys.readouterr().err
    if "directml" not in providers.here():
        assert main([*call, "directml"]) == 1
        assert "pip install onnxruntime-directml" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*call, "rocm"])
