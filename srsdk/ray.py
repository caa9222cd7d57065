"""Callables for `ray.data.Dataset.map_batches`: one Upscaler in each actor of a pool.

>>> import ray, srsdk.ray                                               # doctest: +SKIP
>>> rows = [{"source": "s3://in/a.png", "target": "a.png"}]
>>> ray.data.from_items(rows).map_batches(
...     srsdk.ray.Upscale,
...     fn_constructor_kwargs={"output": "s3://out/large", "model": "gan_x4"},
...     batch_size=16,                                                  # pictures
...     compute=ray.data.ActorPoolStrategy(size=8, max_tasks_in_flight_per_actor=2),
...     num_cpus=1,                                                     # or num_gpus=1
... ).take_all()

`srsdk upscale --ray` (`srsdk.cluster`) is this with listing, resuming and a report around it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import srsdk
from srsdk import models, storage
from srsdk.errors import ModelError, OutputError, PictureError, SrsdkError
from srsdk.ledger import Entry, Ledger, batch_key

MAX_ALONE = 2
"""How often a picture is tried alone, after its batch lost a worker, before it is given up."""


class Upscale:
    """Upscale picture files into picture files; only addresses go through Ray.

    A batch has the columns `source` (an address) and `target` (below `output`; its suffix names the
    format), and may have `source_bytes` and `source_mtime_ns`. It returns the columns `source`,
    `target`, `status` (`done` or `failed`), `seconds` and `error`. A bad picture costs its row. A
    batch that lost its worker is repeated, one picture at a time; a picture that takes its worker
    down again and again costs its row too.

    Args:
        output: address of the folder of the targets, which are replaced where they exist.
        model: as for `Upscaler`; a path must be readable on every machine.
        model_sha256: refuse a model file of any other hash; empty: take any.
        options: of `Upscaler`.

    Raises:
        ModelError: no such model, or another one than the driver's.
        SrsdkError: as `Upscaler` does.
    """

    def __init__(
        self, output: str, *, model: str = "gan_x4", model_sha256: str = "", **options: Any
    ) -> None:
        self._output = storage.absolute(output)
        self._ledger = Ledger(self._output)
        self._model, self._model_sha256 = model, sha256_of(model)
        if model_sha256 not in ("", self._model_sha256):
            raise ModelError(
                f"{model} has sha256 {self._model_sha256[:12]} on this machine, expected "
                f"{model_sha256[:12]}; install one version of srsdk everywhere"
            )
        self._up = srsdk.Upscaler(model, **{"optimize": "throughput", **options})
        self._pool = ThreadPoolExecutor(self._up.ahead, thread_name_prefix="srsdk-ray")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Upscale one batch."""
        jobs = [
            dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)
        ]
        key = batch_key([self._model_sha256, [[str(v) for v in job.values()] for job in jobs]])
        # a block of several batches is repeated as a whole: what is finished stays so
        rows = self._ledger.rows_of(key) or self._compute(key, jobs)
        names = ("source", "target", "status", "seconds", "error")
        return {column: [row[column] for row in rows] for column in names}

    def _compute(self, key: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        targets = [str(job["target"]) for job in jobs]
        alone = self._ledger.attempts(key)
        if alone is None:
            self._ledger.begin(key, targets)
            rows = list(self._pool.map(self._row, jobs))
        else:
            rows = []
            for target, job in zip(targets, jobs, strict=True):
                if alone.get(target, 0) >= MAX_ALONE:
                    error = (
                        f"{storage.public(str(job['source']))}: every worker that computed it died"
                    )
                    rows.append(self._failed(job, error, 0.0))
                    continue
                alone[target] = alone.get(target, 0) + 1
                self._ledger.begin(key, targets, alone)
                rows.append(self._row(job))
                # it did not kill the worker, whatever comes of its neighbours
                alone[target] = 0
        self._ledger.finish(key, rows)
        return rows

    def _row(self, job: dict[str, Any]) -> dict[str, Any]:
        began_s = time.monotonic()
        try:
            entry = self.upscale(job)
        except (SrsdkError, OSError) as error:
            return self._failed(job, str(error), time.monotonic() - began_s)
        return {**self._named(job, time.monotonic() - began_s), "entry": asdict(entry)}

    def _failed(self, job: Mapping[str, Any], error: str, seconds: float) -> dict[str, Any]:
        return {**self._named(job, seconds), "status": "failed", "error": error}

    def _named(self, job: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        return {
            "source": storage.public(str(job["source"])),
            "target": storage.public(storage.join(self._output, str(job["target"]))),
            "status": "done",
            "seconds": round(seconds, 4),
            "error": "",
        }

    def upscale(self, job: Mapping[str, Any]) -> Entry:
        """Upscale one picture and say what came of it.

        Raises:
            SrsdkError: as `Upscaler.upscale_file` does.
        """
        source, relative = str(job["source"]), str(job["target"])
        target = storage.join(self._output, relative)
        if storage.is_local(source) and storage.is_local(target):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self._up.upscale_file(source, target, overwrite=True)
            data = Path(target).read_bytes()
        else:
            data = self._through_copies(source, target)
        return Entry(
            source=storage.public(source),
            source_bytes=int(job.get("source_bytes", 0)),
            source_mtime_ns=int(job.get("source_mtime_ns", 0)),
            target=relative,
            target_bytes=len(data),
            target_sha256=hashlib.sha256(data).hexdigest(),
            model=self._model,
            model_sha256=self._model_sha256,
        )

    def _through_copies(self, source: str, target: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="srsdk-", ignore_cleanup_errors=True) as folder:
            small = Path(folder) / "in" / storage.name(source)
            large = Path(folder) / "out" / storage.name(target)
            small.parent.mkdir()
            large.parent.mkdir()
            try:
                small.write_bytes(storage.get(source))
            except OSError as error:
                raise PictureError(f"{storage.public(source)} cannot be read: {error}") from error
            try:
                self._up.upscale_file(small, large)
            except SrsdkError as error:
                # a copy's name says nothing to whoever reads the report
                text = str(error).replace(str(small), storage.public(source))
                raise type(error)(text.replace(str(large), storage.public(target))) from error
            data = large.read_bytes()
        try:
            storage.put(target, data)
        except OSError as error:
            raise OutputError(f"{storage.public(target)} cannot be written: {error}") from error
        return data


class UpscaleImages:
    """Upscale a column of arrays, as `ray.data.read_images(..., mode="RGB")` gives it.

    The column then holds the large pictures, (H * scale, W * scale, 3) uint8; a column `error` is
    added, empty where all went well. A bad picture becomes (0, 0, 3).

    Args:
        model: as for `Upscaler`.
        column: (H, W, 3) uint8 arrays, of whatever sizes.
        options: of `Upscaler`.

    Raises:
        SrsdkError: as `Upscaler` does.
    """

    def __init__(self, model: str = "gan_x4", *, column: str = "image", **options: Any) -> None:
        self._column = column
        self._up = srsdk.Upscaler(model, **{"optimize": "throughput", **options})

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Upscale one batch; its other columns stay."""
        futures = [self._up.submit(image) for image in batch[self._column]]
        large = np.empty(len(futures), object)
        errors = []
        for index, future in enumerate(futures):
            try:
                large[index], error = future.result(), ""
            except SrsdkError as failure:
                large[index], error = np.zeros((0, 0, 3), np.uint8), str(failure)
            errors.append(error)
        return {**batch, self._column: large, "error": np.array(errors, object)}


def sha256_of(model: str | os.PathLike[str]) -> str:
    """Return the hash of a model's file.

    Raises:
        ModelError: no such model.
    """
    with models.find(model).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
