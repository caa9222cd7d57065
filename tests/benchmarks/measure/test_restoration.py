"""All methods get the same damaged pictures and the same scores as in `training.assess`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import records
from benchmarks.cli import main
from benchmarks.measure import restoration
from benchmarks.measure.worker import WorkerError
from benchmarks.peers import denoisers
from tests import networks
from tests.conftest import Picture, make_picture
from tests.training.evaluation.test_assess import saved
from training.assess import assess_ae, load
from training.data.pictures import load_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    path = tmp_path / "drawn"
    path.mkdir()
    for seed in range(3):
        Image.fromarray(make_picture(72, 88, seed)).save(path / f"{seed}.png")
    return path


def config(folder: Path, **more: object) -> dict[str, object]:
    """Return a worker's configuration: noise of sigma 25 on all pictures, no restoration."""
    asked = {"method": "none", "test": str(folder), "damage": "noise", "level": 25.0}
    return asked | {"pictures": 0, "threads": 1} | more


def test_doing_nothing_scores_as_the_damage_does(folder: Path) -> None:
    """The identity, also as an .onnx file, changes no score; PSNR matches one computed here."""
    done = denoisers.measure(config(folder))
    path = networks.identity(folder.parent / "same.onnx")
    ours = denoisers.measure(config(folder, method="srsdk", model=str(path)))
    for found in (done, ours):
        assert found["psnr_db"] == found["psnr_before_db"]
        assert found["ssim"] == found["ssim_before"]
    for number in range(3):
        truth = np.asarray(Image.open(folder / f"{number}.png")).astype(float)
        noise = np.random.default_rng(number).normal(0, 25, truth.shape)
        error = np.clip(np.round(truth + noise), 0, 255) - truth
        by_hand = 10 * np.log10(255**2 / np.mean(error**2))
        assert done["psnr_db"][number] == pytest.approx(by_hand)


def test_scores_match_assess(folder: Path) -> None:
    """The same weights, pictures and damage give the scores of `python -m training.assess`."""
    weights = saved(folder.parent, "ae", 1)
    noise, coded = (
        {
            key: np.mean(values)
            for key, values in denoisers.measure(
                config(folder, method="srsdk", model=str(weights), damage=damage, level=level)
            ).items()
        }
        for damage, level in (("noise", 25.0), ("jpeg", 10))
    )
    first, second = assess_ae(load(weights), load_pairs(folder, 1))
    assert f"{noise['psnr_before_db']:.2f} -> {noise['psnr_db']:.2f} dB" in first
    assert f"{coded['psnr_before_db']:.2f} -> {coded['psnr_db']:.2f} dB" in second


def flat(folder: Path) -> Path:
    """Write one picture of two smooth halves."""
    path = folder / "flat"
    path.mkdir()
    picture = np.full((80, 96, 3), (90, 120, 150), np.uint8)
    picture[:, 48:] = 180
    Image.fromarray(picture).save(path / "flat.png")
    return path


@pytest.mark.parametrize(("method", "package"), [("nlm", "cv2"), ("bm3d", "bm3d")])
def test_peers_remove_noise_from_flat_areas(tmp_path: Path, method: str, package: str) -> None:
    """Each gains 8 dB there and keeps the colors."""
    pytest.importorskip(package)
    asked = config(flat(tmp_path), method=method, strength=denoisers.nlm_strength(25))
    found = denoisers.measure(asked)
    assert found["psnr_db"][0] > found["psnr_before_db"][0] + 8
    assert found["ssim"][0] > found["ssim_before"][0]
    restore = denoisers.open_method(asked)
    colored = np.full((40, 40, 3), (200, 60, 20), np.uint8)
    # one value everywhere makes BM3D divide by its range, zero
    colored[:, 20:] = (40, 90, 200)
    change = restore(colored).astype(int) - colored
    assert np.abs(change[:, :15]).max() <= 4
    assert np.abs(change[:, 25:]).max() <= 4


def test_the_strength_is_the_best_of_the_grid() -> None:
    """No other pair of factors scores better on the pictures that it was chosen on."""
    pytest.importorskip("cv2")
    truth = make_picture(40, 48)
    best = denoisers.choose_strength([truth], 25)

    def score(strength: tuple[float, float]) -> float:
        noise = np.random.default_rng(0).normal(0, 25, truth.shape)
        noisy: Picture = np.clip(np.round(truth + noise), 0, 255).astype(np.uint8)
        made = denoisers.non_local_means(*strength)(noisy)
        return -float(np.mean((made.astype(float) - truth) ** 2))

    others = [(25 * a, 25 * b) for a in denoisers.LUMA_FACTORS for b in denoisers.COLOR_FACTORS]
    assert best in others
    assert score(best) == max(map(score, others))


def test_strengths_between_the_known_ones() -> None:
    """Factors are exact at the known sigmas and interpolated linearly between them."""
    luma, color = denoisers.NLM_FACTORS[25.0]
    assert denoisers.nlm_strength(25) == pytest.approx((25 * luma, 25 * color))
    between = (luma + denoisers.NLM_FACTORS[50.0][0]) / 2
    assert denoisers.nlm_strength(37.5)[0] == pytest.approx(37.5 * between)


def test_pictures_are_spread_over_the_folder() -> None:
    """The requested number, in order, none twice; all if there are too few."""
    assert denoisers.chosen(100, 5) == [0, 20, 40, 60, 80]
    assert denoisers.chosen(3, 5) == [0, 1, 2]
    assert denoisers.chosen(3, 0) == [0, 1, 2]


def test_the_command_writes_records_and_a_table(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each method and damage gives a record with means over pictures; a missing method is a row."""
    monkeypatch.setitem(sys.modules, "bm3d", None)
    model = networks.identity(tmp_path / "same.onnx")
    out = tmp_path / "found.jsonl"
    call = ["restoration", str(model), "--test", str(folder), "--sigma", "25", "--quality", "10"]
    call += ["--methods", "none", "srsdk", "bm3d", "--pictures", "2", "--out", str(out)]
    # the call names the missing method
    assert main(call) == 1
    found = list(records.read(out))
    asked = [(r["config"]["damage"], r["config"]["method"]) for r in found]
    noise = [("noise", "none"), ("noise", "srsdk"), ("noise", "bm3d")]
    assert asked == [*noise, ("jpeg", "none"), ("jpeg", "srsdk")]
    lack = "bm3d is not installed: pip install 'srsdk[peers]'"
    assert found[2]["result"] == {"missing": lack, "pictures": 2}
    for record in records.measured(found):
        result = record["result"]
        assert result["psnr_db"] == pytest.approx(np.mean(result["each"]["psnr_db"]), rel=1e-5)
        assert result["pictures"] == 2
        assert record["config"]["test"] == "drawn"
    assert found[1]["config"]["model"] == "same"
    assert len(found[1]["config"]["model_sha256"]) == 64
    said = capsys.readouterr()
    assert f"drawn, noise, sigma 25 (RGB), BM3D: not on this machine: {lack}\n" in said.out
    before, kind = found[0]["result"]["psnr_db"], records.kind_of(found[0])
    assert f"| {kind} | drawn, 2 | noise, sigma 25 (RGB) | {before:.2f} dB / " in said.out
    assert f"| not on this machine: {lack} |\n" in said.out
    assert restoration.table(found) in said.out


def test_a_missing_method_is_no_failure_unless_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the call names no method, the code is 1 only if srsdk itself is missing."""
    keys = ("psnr_before_db", "psnr_db", "ssim_before", "ssim", "seconds", "cpu_seconds")
    asked = []

    def fail(name: str) -> None:
        def call(_: str, config: dict[str, object]) -> dict[str, object]:
            asked.append(config["method"])
            if config["method"] == name:
                raise WorkerError("died")
            return {"peak_bytes": 1, **{key: [1.0] for key in keys}}

        monkeypatch.setattr("benchmarks.measure.worker.call", call)

    monkeypatch.setattr("benchmarks.peers.denoisers.missing", lambda _: None)
    model = networks.identity(tmp_path / "same.onnx")
    words = ["restoration", str(model), "--test", str(folder), "--sigma", "25", "--quality"]
    for name, code in (("nlm", 0), ("srsdk", 1)):
        fail(name)
        assert main(words) == code
    assert asked == ["none", "srsdk", "nlm", "bm3d"] * 2


def test_kinds_of_processor_have_rows_of_their_own() -> None:
    """Seconds of two kinds are never in one row."""
    c = {"method": "srsdk", "title": "srsdk", "test": "Set5", "damage": "noise", "level": 25}
    result = {"psnr_db": 30.0, "ssim": 0.9, "seconds": 1.0, "pictures": 5}
    found = [
        {
            "kind": "restoration",
            "config": c,
            "result": result,
            "meta": {"machine": {"processor": "x", "processor_kind": kind}},
        }
        for kind in ("AVX2", "AVX-512 VNNI")
    ]
    text = restoration.table(found)
    for kind in ("AVX2", "AVX-512 VNNI"):
        assert f"| {kind} | Set5, 5 | noise, sigma 25 (RGB) | 30.00 dB / 0.9000 / 1 s |" in text


def test_errors_are_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, a missing folder and a network that enlarges are errors."""
    model = networks.identity(tmp_path / "same.onnx")
    for path, data, message in (
        (tmp_path / "none.onnx", folder, "no such file"),
        (model, tmp_path / "none", "no such folder"),
        (saved(tmp_path, "gan", 4), folder, "not a restorer, expected weights of family `ae`"),
    ):
        call = ["restoration", str(path), "--test", str(data), "--sigma", "--methods", "srsdk"]
        assert main(call) == 1
        said = capsys.readouterr()
        lines = [text for text in (said.err + said.out).splitlines() if message in text]
        assert lines
        assert "Traceback" not in said.err


def test_errors_come_before_any_measurement(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network that enlarges, an empty folder, tiny pictures and invalid levels are errors."""
    monkeypatch.setattr("benchmarks.measure.worker.call", lambda *_: pytest.fail("work was begun"))
    empty, tiny = tmp_path / "empty", tmp_path / "tiny"
    empty.mkdir()
    tiny.mkdir()
    Image.fromarray(make_picture(1, 1)).save(tiny / "1.png")
    for words, message in (
        (["gan_x4", "--test", str(folder)], "enlarges 4 times"),
        (["nothing", "--test", str(folder)], "not a shipped model"),
        (["ae_x1", "--test", str(empty)], "no pictures in it"),
        (["ae_x1", "--test", str(tiny)], "1x1 is under 11 px"),
        (["ae_x1", "--test", str(folder), "--quality", "0"], "--quality 0, expected 1 to 100"),
        (["ae_x1", "--test", str(folder), "--sigma", "-1"], "--sigma -1, expected 1 to 255"),
    ):
        assert main(["restoration", *words]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
