"""Fuzz targets for what srsdk writes for itself and reads again: records, caches, reports."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from srsdk.autotune import cache
from srsdk.batch import reports
from srsdk.batch.ledger import Entry, Ledger
from srsdk.errors import SrsdkError, UsageError
from srsdk.system import durable
from srsdk.video.parts import Parts
from srsdk.video.run_files import STATE, folder_of
from tests.fuzz.workplace import FOLDER, check_message, stored

TRIED = [
    cache.Tried("a.onnx", precision, name)
    for precision, name in (("auto", "fp32"), ("bf16", "bf16"))
]
KEY = {"source": "a.mkv", "bytes": 3, "model": {"name": "b"}}
LINE = {"source": "a.png", "target": "b.png", "status": "done", "seconds": 0.5}
LEDGER = ("finished.jsonl", "batches/key.jsonl", "batches/key.begun")
PARTS = (STATE, "000000.json", "partial.json", "000001.json")
"""Files that the first byte of an input chooses from; 128 and more: with the right hash."""


def record(data: bytes) -> None:
    """Read a record, and content of a record whose length and hash are right."""
    with contextlib.suppress(durable.DamagedRecord):
        assert data.endswith(durable.unpack(data))
    path = stored("record", durable.pack(data))
    try:
        durable.read_record(path)
    except durable.DamagedRecord as error:
        check_message(str(error))


def tune(data: bytes) -> None:
    """Read a tuning result whose hash is right: None, or one that can be saved and shown."""
    os.environ["SRSDK_CACHE"] = str(FOLDER / "cache")
    stored("cache/tune-fuzz.json", durable.pack(data))
    choice = cache.load("fuzz", TRIED)
    if choice is not None:
        assert (choice.file, choice.precision, choice.name) in TRIED
        assert str(choice).isprintable()
        assert choice.tile_budget_px > 0
        cache.save("fuzz", choice)
        assert cache.load("fuzz", TRIED) == choice


def report(data: bytes) -> None:
    """Append to a report: refused and unchanged, or all that was there and then our line."""
    path = stored("report.jsonl", data)
    try:
        # no other process completes the last line meanwhile
        with mock.patch.object(reports, "SETTLE_S", 0.0), reports.lines_to(path) as append:
            append(LINE)
    except SrsdkError as error:
        check_message(str(error))
        assert path.read_bytes() == data
        return
    assert path.read_bytes().startswith(data)
    assert json.loads(path.read_bytes().splitlines()[-1]) == LINE
    reports.check(path)


def ledger(data: bytes) -> None:
    """Read one file of a ledger: nothing, or entries whose every field has its type."""
    folder = FOLDER / "ledger"
    path = _chosen(data, folder / ".srsdk", LEDGER)
    ours = Ledger(str(folder))
    try:
        for row in ours.rows_of("key"):
            assert isinstance(row["status"], str)
        attempts = ours.attempts("key")
        assert attempts is None or all(type(count) is int for count in attempts.values())
        if path.parent == folder / ".srsdk":
            finished, begun = ours.collect()
            assert begun >= finished.keys()
            assert all(isinstance(name, str) for name in begun)
            assert all(Entry.of(vars(entry)) == entry for entry in finished.values())
            assert ours.collect() == (finished, begun)
    except SrsdkError as error:
        check_message(str(error))
    finally:
        path.unlink()


def parts(data: bytes) -> None:
    """Resume a video whose records are damaged: refused, or only parts that are complete."""
    target = FOLDER / "parts/a.mkv"
    folder = folder_of(target)
    run = Parts(target, KEY)
    path = _chosen(data, folder, PARTS)
    if path.name != STATE:
        durable.write_record(folder / STATE, run._key)
    (folder / "000000.nut").write_bytes(b"part")
    try:
        with run.locked():
            if run.check(resume=True, overwrite=False):
                run.prepare(resume=True)
                assert all(0 < part.frames <= run.length for part in run.beginning())
                run.made(target)
                run.remove()
    except UsageError as error:
        check_message(str(error))
    for left in folder.iterdir() if folder.exists() else ():
        left.unlink()


def _chosen(data: bytes, folder: Path, names: Sequence[str]) -> Path:
    """Write an input into the file that its first byte chooses."""
    first, content = (data[0], data[1:]) if data else (0, b"")
    path = folder / names[first % len(names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(durable.pack(content) if first >= 128 else content)
    return path
