"""Test Ray: finished pictures are recorded and not repeated; a dead worker loses nothing."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.batch import ledger, storage
from srsdk.cli.main import main
from srsdk.ray import callables, cluster, planning
from tests.conftest import make_picture
from tests.srsdk.batch.conftest import Dropped
from tests.srsdk.batch.conftest import public_folder as public_folder
from tests.srsdk.batch.conftest import unprivileged as unprivileged

pytest.importorskip("pyarrow", reason="needs srsdk[ray]: pip install 'srsdk[ray]'")

# Ray itself leaves resources open and calls deprecated functions
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
MODEL = "gan_x2"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write twelve small pictures and one broken file."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for seed in range(12):
        name = f"sub/{seed:02}.png" if seed % 4 == 0 else f"{seed:02}.png"
        Image.fromarray(make_picture(20 + seed, 24, seed)).save(folder / name)
    (folder / "bad.png").write_text("no picture")
    return folder


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of a folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return [{"source": str(folder / name), "target": name} for name in names]


def batch_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as a Ray Data batch."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def pixels(path: Path) -> Any:
    """Decode a picture file."""
    with Image.open(path) as image:
        return np.asarray(image)


def assert_all_right(folder: Path, out: Path) -> None:
    """Check that every good picture exists and equals the result of an Upscaler."""
    with srsdk.Upscaler(MODEL) as up:
        for path in sorted(folder.rglob("[0-9]*.png")):
            target = out / path.relative_to(folder)
            np.testing.assert_array_equal(pixels(target), up(pixels(path)))
    assert not list(out.rglob(".*.tmp*"))


def test_a_batch_of_files(photos: Path, tmp_path: Path) -> None:
    """A bad picture fails its row; the ledger records source, target, sizes, hash and model."""
    work = callables.Upscale(str(tmp_path / "out"), model=MODEL, threads=1)
    rows = jobs_of(photos)
    columns = work(batch_of(rows))
    by_name = dict(zip([row["target"] for row in rows], columns["status"], strict=True))
    assert by_name.pop("bad.png") == "failed"
    assert set(by_name.values()) == {"done"}
    assert sum(str(photos / "bad.png") in error for error in columns["error"]) == 1
    assert_all_right(photos, tmp_path / "out")
    finished, ours = ledger.Ledger(str(tmp_path / "out")).collect()
    assert set(finished) == set(by_name)
    assert ours == {*by_name, "bad.png"}
    for target, entry in finished.items():
        data = (tmp_path / "out" / target).read_bytes()
        assert entry.target_sha256 == hashlib.sha256(data).hexdigest()
        assert entry.model_sha256 == callables.key_of(MODEL)


def test_a_finished_batch_is_not_done_again(photos: Path, tmp_path: Path) -> None:
    """A task that Ray repeats reuses its finished batches."""
    work = callables.Upscale(str(tmp_path / "out"), model=MODEL, threads=1)
    first = work(batch_of(jobs_of(photos)))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert work(batch_of(jobs_of(photos))) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def finished_run(photos: Path, out: Path) -> planning.Plan:
    """Upscale a folder without Ray and return the next plan."""
    plan = planning.plan([photos], out, model=MODEL, recursive=True)
    callables.Upscale(str(out), model=MODEL, threads=1)(batch_of(plan.rows))
    return planning.plan([photos], out, model=MODEL, recursive=True)


def names(plan: planning.Plan) -> set[str]:
    """Return the targets that a plan upscales."""
    return {row["target"] for row in plan.rows}


def test_resuming_trusts_the_ledger_and_not_existence(photos: Path, tmp_path: Path) -> None:
    """A changed source, a missing or truncated target or another model is upscaled again."""
    out = tmp_path / "out"
    again = finished_run(photos, out)
    assert names(again) == {"bad.png"}
    assert len(again.outcomes) == 12
    assert {row["status"] for row in again.outcomes} == {"skipped"}
    Image.fromarray(make_picture(9, 9)).save(photos / "01.png")
    (out / "02.png").unlink()
    (out / "03.png").write_bytes((out / "03.png").read_bytes()[:-1])
    plan = planning.plan([photos], out, model=MODEL, recursive=True)
    assert names(plan) == {"bad.png", "01.png", "02.png", "03.png"}
    other = planning.plan([photos], out, model="gan_x2.int8", recursive=True)
    assert len(other.rows) == 13
    assert len(planning.plan([photos], out, model=MODEL, recursive=True, force=True).rows) == 13


def test_files_of_others_are_left_alone(photos: Path, tmp_path: Path) -> None:
    """A target of another program is kept unless --force; a target of a dead run is replaced."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "01.png").write_text("mine")
    (out / "02.png").write_text("of a run that died")
    ledger.Ledger(str(out)).begin("key", ["02.png"])
    plan = planning.plan([photos], out, model=MODEL)
    assert "01.png" not in names(plan)
    assert "02.png" in names(plan)
    (row,) = plan.outcomes
    assert row["status"] == "failed"
    assert "force=True" in row["error"]
    assert "01.png" in names(planning.plan([photos], out, model=MODEL, force=True))


def test_a_target_that_has_changed_is_upscaled_again(photos: Path, tmp_path: Path) -> None:
    """Also one of the same size, as zeros after a power cut; one that was only touched is not."""
    out = tmp_path / "out"
    finished_run(photos, out)
    right = (out / "01.png").read_bytes()
    (out / "01.png").write_bytes(bytes(len(right)))
    os.utime(out / "02.png", ns=(0, 0))
    assert names(planning.plan([photos], out, model=MODEL, recursive=True)) == {"bad.png", "01.png"}
    assert names(finished_run(photos, out)) == {"bad.png"}
    assert (out / "01.png").read_bytes() == right


def test_a_damaged_ledger_loses_no_result(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Results that match its lines are kept, one whose line is lost is not replaced, and said."""
    out = tmp_path / "out"
    finished_run(photos, out)
    path = out / ".srsdk" / "finished.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"target": "05.png"', b'"target": "0?.png"'))
    plan = planning.plan([photos], out, model=MODEL, recursive=True)
    assert "is damaged" in caplog.text
    status = {Path(row["target"]).name: row["status"] for row in plan.outcomes}
    assert status.pop("05.png") == "failed"
    assert set(status.values()) == {"skipped"}
    forced = planning.plan([photos], out, model=MODEL, recursive=True, force=True)
    assert len(forced.rows) == 13


def test_a_report_is_no_picture(photos: Path, tmp_path: Path) -> None:
    """It is neither a source nor a result, by any path, and never a text of the user's."""
    out = tmp_path / "out"
    (tmp_path / "link.jsonl").symlink_to(photos / "01.png")
    for report in (photos / "01.png", out / "01.png", tmp_path / "link.jsonl"):
        with pytest.raises(srsdk.UsageError, match="choose another report="):
            planning.plan([photos], out, model=MODEL, report=report)
    (tmp_path / "notes").write_text("precious\n")
    call = ["upscale", str(photos), "-o", str(out), "--ray", "--report", str(tmp_path / "notes")]
    assert main(call) == 1
    assert (tmp_path / "notes").read_text() == "precious\n"
    assert not out.exists()


def test_folders_that_cannot_be_read(
    photos: Path, public_folder: Path, unprivileged: Dropped
) -> None:
    """One of the sources is a problem, one of the results costs its own pictures."""
    source, out = public_folder / "in", public_folder / "out"
    shutil.copytree(photos, source)
    for name in ("locked/x.png", "deep/y.png"):
        (source / name).parent.mkdir()
        shutil.copy(photos / "01.png", source / name)
    (out / "deep").mkdir(parents=True)
    for folder, mode in ((source / "locked", 0), (out / "deep", 0o333), (out, 0o777)):
        folder.chmod(mode)
    with unprivileged():
        plan = planning.plan([source], out, model=MODEL, recursive=True)
    assert plan.problems == [f"{source / 'locked'} cannot be read: Permission denied"]
    (row,) = plan.outcomes
    assert (row["target"], row["status"]) == (str(out / "deep" / "y.png"), "failed")
    assert names(plan) == names(planning.plan([photos], out, model=MODEL, recursive=True))


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes")
def test_a_name_that_is_not_utf_8(photos: Path, tmp_path: Path) -> None:
    """It fails alone: Ray passes on UTF-8 only."""
    shutil.copy(photos / "01.png", photos / os.fsdecode(b"\xff.png"))
    plan = planning.plan([photos], tmp_path / "out", model=MODEL)
    (row,) = plan.outcomes
    assert row["status"] == "failed"
    assert "not UTF-8" in row["error"]
    assert len(plan.rows) == 10


def test_usage_errors(photos: Path, tmp_path: Path) -> None:
    """Each one raises its message before any work."""
    twins = [photos, photos / "01.png"]
    with pytest.raises(srsdk.UsageError, match=r"both be written to 01\.png"):
        planning.plan(twins, tmp_path / "out", model=MODEL)
    with pytest.raises(srsdk.UsageError, match="its own result"):
        planning.plan([photos], photos, model=MODEL)
    with pytest.raises(srsdk.UsageError, match="neither Arrow"):
        planning.plan(["gopher://x/y"], tmp_path / "out", model=MODEL)
    with pytest.raises(srsdk.ModelError, match="not a shipped model"):
        planning.plan([photos], tmp_path / "out", model="nothing")
    with pytest.raises(srsdk.ModelError, match="same version of srsdk on every machine"):
        callables.Upscale(str(tmp_path), model=MODEL, model_sha256="0" * 64)
    with pytest.raises(srsdk.UsageError, match="batch is 0"):
        cluster.Workers(batch=0)
    missing = planning.plan([tmp_path / "missing"], tmp_path / "out", model=MODEL)
    assert "no such file" in missing.problems[0]
    assert main(["upscale", "s3://bucket/x", "-o", str(tmp_path)]) == 2
    assert main(["upscale", str(photos), "-o", str(tmp_path), "--ray", "--compare"]) == 2


def test_a_picture_that_kills_its_worker_is_given_up(photos: Path, tmp_path: Path) -> None:
    """It fails after the batch and two tries alone; its neighbors are upscaled."""
    rows = jobs_of(photos)[:3]
    work = callables.Upscale(str(tmp_path / "out"), model=MODEL, threads=1)
    poison = rows[1]["target"]
    upscale = work.upscale

    def dying(job: Any) -> ledger.Entry:
        if job["target"] == poison:
            raise KeyboardInterrupt  # stands for the end of the process
        return upscale(job)

    work.upscale = dying  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            work(batch_of(rows))
    columns = work(batch_of(rows))
    assert columns["status"] == ["done", "failed", "done"]
    assert "every worker that processed it died" in columns["error"][1]


def test_addresses() -> None:
    """A query stays at the end of an address and out of messages."""
    address = "s3://key:secret@bucket/a?endpoint_override=x"
    assert storage.join(address, "b", "c.png") == (
        "s3://key:secret@bucket/a/b/c.png?endpoint_override=x"
    )
    assert storage.public(storage.join(address, "b.png")) == "s3://bucket/a/b.png"
    assert storage.name(address) == "a"
    assert storage.absolute("s3://b/x") == "s3://b/x"
    assert storage.absolute("x") == str(Path.cwd() / "x")


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_any_file_system(photos: Path, tmp_path: Path, scheme: str) -> None:
    """Input and output through a file system of Arrow (file) and one of fsspec (local)."""
    source, out = f"{scheme}://{photos}", f"{scheme}://{tmp_path}/out"
    plan = planning.plan([source], out, model=MODEL, recursive=True)
    columns = callables.Upscale(out, model=MODEL, threads=1)(batch_of(plan.rows))
    assert columns["status"].count("done") == 12
    (error,) = [error for error in columns["error"] if error]
    assert error.startswith(f"{scheme}://{photos}/bad.png ")
    assert_all_right(photos, tmp_path / "out")
    assert names(planning.plan([source], out, model=MODEL, recursive=True)) == {"bad.png"}


def test_a_column_of_arrays() -> None:
    """Each becomes its upscaled picture, an invalid one an empty array and a message."""
    images = np.empty(3, object)
    images[:] = [make_picture(8, 9), make_picture(10, 7), np.zeros((4, 4, 7), np.uint8)]
    result = callables.UpscaleImages(MODEL, threads=1)({"image": images, "id": np.arange(3)})
    assert [image.shape for image in result["image"]] == [(16, 18, 3), (20, 14, 3), (0, 0, 3)]
    assert list(result["id"]) == [0, 1, 2]
    assert list(result["error"][:2]) == ["", ""]
    assert "(H, W, 3)" in result["error"][2]


class Slow(callables.Upscale):
    """Slow enough to be killed in the middle of a run."""

    def upscale(self, job: Any) -> ledger.Entry:
        """Sleep, then upscale."""
        time.sleep(0.3)
        return super().upscale(job)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    """Start a local Ray cluster with two CPUs on the loopback interface."""
    pytest.importorskip("ray.data", reason="needs srsdk[ray]: pip install 'srsdk[ray]'")
    module = cluster.import_ray()
    assert not module.is_initialized()
    cluster.begin_local(module, num_cpus=2, object_store_memory=100_000_000)
    yield module
    module.shutdown()
    gc.collect()


def actors(class_name: str) -> set[int]:
    """Return the process ids of the actors of a class."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if line.startswith(b"ray::") and class_name.encode() in line:
            found.add(int(entry.name))
    return found


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(local_ray: Any, photos: Path, tmp_path: Path) -> None:
    """After a SIGKILL the report has every picture once; at most one batch is repeated."""
    out, batch = tmp_path / "out", 3
    stamps: dict[Path, int] = {}
    killed: list[int] = []

    def kill() -> None:
        while len(list(out.glob("**/[0-9]*.png"))) < 4:
            time.sleep(0.01)
        victim = min(actors("Slow"))
        stamps.update({path: path.stat().st_mtime_ns for path in out.glob("**/[0-9]*.png")})
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    plan = planning.plan([photos], out, model=MODEL, recursive=True)
    workers = cluster.Workers(count=2, batch=batch)
    rows = list(cluster.run(plan, out, model=MODEL, workers=workers, worker=Slow))
    killer.join(timeout=10)
    assert killed
    assert 4 <= len(stamps) < 12, "the kill was not in the middle"
    assert sorted(row["target"] for row in rows) == sorted(
        str(out / row["target"]) for row in plan.rows
    )
    assert [row["status"] for row in rows].count("done") == 12
    repeated = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert len(repeated) <= batch
    assert_all_right(photos, out)
    assert names(planning.plan([photos], out, model=MODEL, recursive=True)) == {"bad.png"}


@pytest.mark.slow
def test_all_of_ray_listens_on_the_loopback(local_ray: Any) -> None:
    """No Ray process listens on the network, and usage statistics are off."""
    psutil = pytest.importorskip("psutil", reason="reads the sockets: pip install psutil")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    me = psutil.Process()
    sockets = [
        socket
        for process in (me, *me.children(recursive=True))
        for socket in process.net_connections()
    ]
    hosts = {end.ip for socket in sockets for end in (socket.laddr, socket.raddr) if end}
    assert hosts <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert any(socket.status == psutil.CONN_LISTEN for socket in sockets)


@pytest.mark.slow
def test_the_command(
    local_ray: Any, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One report line per picture, exit code 1 for a bad one, and nothing is repeated."""
    out, report = tmp_path / "out", tmp_path / "report.jsonl"
    call = ["upscale", str(photos), "-r", "-o", str(out), "--scale", "2", "--ray", "--batch", "4"]
    assert main([*call, "--report", str(report)]) == 1
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert sorted(line["status"] for line in lines) == ["done"] * 12 + ["failed"]
    assert_all_right(photos, out)
    (photos / "bad.png").unlink()
    assert main(call) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "srsdk: 0 done, 12 skipped, 0 failed"


@pytest.mark.slow
def test_images_through_ray_data(local_ray: Any, photos: Path) -> None:
    """Pictures of several sizes from `read_images` come back as arrays."""
    from ray import data as ray_data

    data = ray_data.read_images(str(photos / "sub"), mode="RGB")
    done = data.map_batches(
        callables.UpscaleImages,
        fn_constructor_kwargs={"model": MODEL, "threads": 1},
        batch_size=2,
        compute=ray_data.ActorPoolStrategy(size=1),
    )
    assert sorted(row["image"].shape[0] for row in done.take_all()) == [40, 48, 56]
