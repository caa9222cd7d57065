"""Callables for `ray.data.Dataset.map_batches`; each actor of the pool opens one Upscaler.

>>> import ray, srsdk.ray                                               # doctest: +SKIP
>>> rows = [{"source": "s3://in/a.png", "target": "a.png"}]
>>> ray.data.from_items(rows).map_batches(
...     srsdk.ray.Upscale,
...     fn_constructor_kwargs={"output": "s3://out/large", "model": "gan_x4"},
...     batch_size=16,                                                  # pictures
...     compute=ray.data.ActorPoolStrategy(size=8, max_tasks_in_flight_per_actor=2),
...     num_cpus=1,                                                     # or num_gpus=1
... ).take_all()

`srsdk upscale --ray` (`srsdk.ray.cluster`) adds listing, resuming and a report.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import srsdk
from srsdk import models
from srsdk.batch import storage
from srsdk.batch.ledger import Entry, Ledger, batch_key
from srsdk.errors import ModelError, OutputError, PictureError, SrsdkError
from srsdk.system import durable
from srsdk.system.threads import started_pool

MAX_ALONE = 2
"""How often to retry a picture alone after its batch lost a worker, before giving it up."""


class Upscale:
    """Upscale picture files into picture files; only addresses pass through Ray.

    A batch has the columns `source` (an address) and `target` (below `output`; its suffix sets the
    format), and optionally `source_bytes` and `source_mtime_ns`. The result has the columns
    `source`, `target`, `status` (`done` or `failed`), `seconds` and `error`. A bad picture fails
    only its own row. A batch that lost its worker is repeated one picture at a time; a picture that
    kills its worker repeatedly is marked as failed.

    Args:
        output: address of the folder for the targets; existing ones are overwritten.
        model: as for `Upscaler`; a path must be readable on every machine.
        model_sha256: reject a model file with any other hash; empty: accept any.
        options: passed to `Upscaler`.

    Raises:
        ModelError: no such model, or another model than the driver's.
        SrsdkError: as for `Upscaler`.
    """

    def __init__(
        self, output: str, *, model: str = "gan_x4", model_sha256: str = "", **options: Any
    ) -> None:
        self._output = storage.absolute(output)
        self._ledger = Ledger(self._output)
        found = sha256_of(model)
        self._model, self._model_key = model, key_of(model, options.get("precision", "auto"))
        if model_sha256 not in ("", found):
            raise ModelError(
                f"{model} has sha256 {found[:12]} on this machine, expected "
                f"{model_sha256[:12]}; install the same version of srsdk on every machine"
            )
        self._up = srsdk.Upscaler(model, **{"optimize": "throughput", **options})
        self._pool = started_pool(self._up.ahead, "srsdk-ray")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Upscale one batch."""
        jobs = [
            dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)
        ]
        key = batch_key([self._model_key, [[str(v) for v in job.values()] for job in jobs]])
        # Ray repeats a block of several batches as a whole: reuse the batches that are finished
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
                        f"{storage.public(str(job['source']))}: every worker that processed it died"
                    )
                    rows.append(self._failed(job, error, 0.0))
                    continue
                alone[target] = alone.get(target, 0) + 1
                self._ledger.begin(key, targets, alone)
                rows.append(self._row(job))
                # it did not kill the worker, whatever happens to its neighbors
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
        """Upscale one picture and return its ledger entry.

        Raises:
            SrsdkError: as for `Upscaler.upscale_file`.
        """
        source, relative = str(job["source"]), str(job["target"])
        target = storage.join(self._output, relative)
        if storage.is_local(source) and storage.is_local(target):
            durable.make_folder(Path(target).parent)
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
            model_sha256=self._model_key,
            target_mtime_ns=storage.mtime_ns(target),
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
                # readers of the report know the address, not the name of the temporary copy
                text = str(error).replace(str(small), storage.public(source))
                raise type(error)(text.replace(str(large), storage.public(target))) from error
            data = large.read_bytes()
        try:
            storage.put(target, data)
        except OSError as error:
            raise OutputError(f"{storage.public(target)} cannot be written: {error}") from error
        return data


class UpscaleImages:
    """Upscale a column of arrays, as produced by `ray.data.read_images(..., mode="RGB")`.

    The column is replaced by the upscaled pictures, (H * scale, W * scale, 3) uint8. A column
    `error` is added, empty for each success. A bad picture becomes an array of shape (0, 0, 3).

    Args:
        model: as for `Upscaler`.
        column: name of a column of (H, W, 3) uint8 arrays, which may differ in size.
        options: passed to `Upscaler`.

    Raises:
        SrsdkError: as for `Upscaler`.
    """

    def __init__(self, model: str = "gan_x4", *, column: str = "image", **options: Any) -> None:
        self._column = column
        self._up = srsdk.Upscaler(model, **{"optimize": "throughput", **options})

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Upscale one batch; other columns are kept."""
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
    """Return the SHA-256 of a model file.

    Raises:
        ModelError: no such model.
    """
    with models.find(model).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(model: str | os.PathLike[str], precision: str = "auto") -> str:
    """Return what the ledger records of a model: two runs with one key give the same pictures.

    It is the SHA-256 of the model file, or, where `precision` may open the INT8 file or changes how
    the file is computed, of all of that.

    Raises:
        ModelError: no such model.
    """
    path = models.find(model)
    form = "fp16" if precision == "fp16" else "int8"
    beside = path.with_name(f"{path.stem}.{form}.onnx")
    parts = [sha256_of(model)]
    may_open = precision in ("fp16", "int8") or (precision == "auto" and models.is_name(model))
    if may_open and beside.is_file():
        parts.append(sha256_of(beside))
    if precision in ("bf16", "fp16", "int8"):
        parts.append(precision)
    return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()
