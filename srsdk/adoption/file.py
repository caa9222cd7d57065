"""Write an adopted network as a file that says itself what it is."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from srsdk.adoption import values
from srsdk.adoption.adopt import Adopted, Open
from srsdk.adoption.boundary import wrapped
from srsdk.adoption.form import Form
from srsdk.adoption.tiles.influence import Batch, Run
from srsdk.adoption.tiles.reach import find_reach
from srsdk.adoption.trial import Floats, Trial, shapes
from srsdk.engines.protocol import Engine, ValuesSlot
from srsdk.errors import BackendError, ModelError, OutputError
from srsdk.formats.probe import Agreement, Probe, picture
from srsdk.formats.protobuf import BYTES, join, split
from srsdk.manifest import METADATA_KEY, Manifest, read_manifest
from srsdk.system.durable import replacing

METADATA_PROPS = 14
MAX_LSB = 1
"""Largest difference between the file and a direct run of the network, in levels of 255."""
PROBE_PX = 32
PROMISE = MappingProxyType({"fp32": Agreement(55.0, 2), "unknown": Agreement(55.0, 2),
                            "fp16": Agreement(45.0, 6), "int8": Agreement(30.0, 30)})  # fmt: skip
"""What the self-test on other machines requires; those of exported files are as wide."""
CHECKED_PX = (48, 80)


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    path: Path
    """Where it is."""
    manifest: Manifest
    """What it says of itself."""
    max_lsb: int
    """Largest difference from a direct run of the original, in levels of 255."""


def write(
    adopted: Adopted,
    target: Path,
    open_graph: Open,
    *,
    overwrite: bool = False,
    **fields: Any,
) -> Written:
    """Check an adopted network against a direct run of the original, and write it.

    Args:
        adopted: from `adopt`.
        target: a new `.onnx` file.
        open_graph: opens a graph to compare.
        overwrite: replace the target.
        fields: of the manifest, where they are not those found: name, licence, ...

    Raises:
        ModelError: the result differs from a direct run by more than a level.
        OutputError: the target exists (unless `overwrite`), or cannot be written.
        ManifestError: a field is wrong.
    """
    check_target(target, overwrite=overwrite)
    engine = open_graph(adopted.graph)
    try:
        run = runner(engine, adopted.manifest)
        found = _difference(adopted, run, open_graph)
        if found > MAX_LSB:
            raise ModelError(
                f"{target}: the adopted network is {found} levels off a direct run of the "
                f"original, expected at most {MAX_LSB}; please report it with the file"
            )
        about = dataclasses.replace(
            _measured(adopted.manifest, run),
            parity_lsb=found,
            weights_sha256=hashlib.sha256(adopted.original).hexdigest(),
            **fields,
        )
        about = dataclasses.replace(about, probe=_probe(about, run))
    finally:
        engine.close()
    content = _with_manifest(adopted.graph, about)
    try:
        with replacing(target, overwrite=overwrite) as temporary:
            temporary.write_bytes(content)
            if read_manifest(temporary) != about:
                raise ModelError(f"{target}: the manifest cannot be read back; not written")
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    return Written(target, about, found)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that cannot be written.

    Raises:
        OutputError: it exists (unless `overwrite`), is a folder, or is to lie in none.
    """
    if not target.parent.is_dir():
        raise OutputError(f"there is no folder {target.parent}: create it first")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; overwrite=True replaces it")


def runner(engine: Engine, manifest: Manifest) -> Run:
    """Return a function that maps (N, H, W, C) uint8 to (N, H * scale, W * scale, C)."""
    numbers = np.array(list(manifest.inputs.values()), np.float32)

    def run(batch: Batch) -> Batch:
        slot = engine.slot(batch.shape)
        try:
            slot.input[...] = batch
            if numbers.size:
                cast(ValuesSlot, slot).values[...] = numbers
            slot.submit()
            output = np.array(slot.wait(), np.uint8)
        finally:
            slot.close()
        n, height, width, _ = batch.shape
        shape = (n, height * manifest.scale, width * manifest.scale, manifest.channels)
        if output.shape == shape:
            return output
        if output.ndim == 6:
            return output.reshape(shape)
        raise BackendError(f"the network returned {output.shape}, expected {shape}")

    return run


def _measured(manifest: Manifest, run: Run) -> Manifest:
    """Return the manifest with what runs show about tiles, where the operators do not tell."""
    # of a batch of several pictures only the operators are read
    if manifest.tiling == "exact" or manifest.profiles:
        return manifest
    reach = find_reach(
        run,
        manifest.scale,
        manifest.channels,
        multiple_px=manifest.multiple_px,
        size_px=manifest.size_px,
    )
    return dataclasses.replace(manifest, **reach.fields)


def _difference(adopted: Adopted, run: Run, open_graph: Open) -> int:
    """Return the largest difference between the adopted network and the original, in levels."""
    form, multiple = adopted.form, adopted.manifest.multiple_px
    raw = wrapped(adopted.original, form, adopted.opset, adopted.manifest.scale, "raw")
    engine = open_graph(raw)
    try:
        trial = Trial(adopted.manifest.name, engine, form)
        height, width = form.tile_px or (-(-side // multiple) * multiple for side in CHECKED_PX)
        worst = 0
        for source in (_soft(height, width, form), picture(height, width, form.boundary_channels)):
            direct = _direct(trial, source)
            batch = np.repeat(source[None], form.batch or 1, axis=0)
            worst = max(worst, int(np.abs(run(batch)[0].astype(np.int16) - direct).max()))
        return worst
    finally:
        engine.close()


def _soft(height: int, width: int, form: Form) -> Batch:
    soft = np.rint(shapes(height, width, form.boundary_channels) * values.WHITE)
    return np.asarray(soft, np.uint8)


def _direct(trial: Trial, source: Batch) -> npt.NDArray[np.int16]:
    """Prepare a picture as the users of the original do, run it, and return levels."""
    form = trial.form
    unit = source.astype(np.float32) / np.float32(values.WHITE)
    if form.boundary_channels < form.channels:
        unit = np.dstack([unit, np.ones(unit.shape[:2], np.float32)])
    levels: Floats = values.out_of(trial.run(values.into(_ordered(unit, form.order), form)), form)
    shown = _ordered(levels[..., : form.boundary_channels], form.output_order) * values.WHITE
    return np.asarray(np.rint(np.clip(shown, 0, values.WHITE)), np.int16)


def _ordered(picture: Floats, order: str) -> Floats:
    if order != "bgr" or picture.shape[2] < 3:
        return picture
    return picture[..., [2, 1, 0, 3][: picture.shape[2]]]


def _probe(manifest: Manifest, run: Run) -> Probe:
    multiple = manifest.multiple_px
    side = -(-PROBE_PX // multiple) * multiple
    height, width = manifest.size_px or (side, side)
    batches = [n for n, *_ in manifest.profiles] or [1]
    batch = np.repeat(picture(height, width, manifest.channels)[None], batches[0], axis=0)
    promise = PROMISE[manifest.precision]
    return Probe.of((height, width), run(batch)[0], promise.psnr_db, promise.max_lsb)


def _with_manifest(model: bytes, manifest: Manifest) -> bytes:
    """Return the model with the manifest as its only metadata of that name."""
    entry = [(1, BYTES, METADATA_KEY.encode()), (2, BYTES, manifest.to_json().encode())]
    fields = [field for field in split(model) if field[0] != METADATA_PROPS]
    return join([*fields, (METADATA_PROPS, BYTES, join(list(entry)))])
