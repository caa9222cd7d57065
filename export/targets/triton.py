"""Write a model repository for Triton Inference Server: `python -m export ... --triton REPO`.

    REPO/gan_x4/config.pbtxt            one model for each exported file
    REPO/gan_x4/1/model.onnx            (or model.plan)
    REPO/gan_x4/warmup/tile_0           real tiles, raw bytes, run before the server is ready

The fields are those of Triton's `model_config.proto`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.errors import ExportError
from export.graph.wrapper import CONFIDENCE, EPS, INPUT, OUTPUT
from export.hashing import file_sha256
from export.options import Options
from export.quantization.calibration import MIN_PICTURES, Shape, draw_crops
from export.record import Made
from export.targets.atomic_output import signals_deferred
from srsdk.manifest import Manifest
from srsdk.system.durable import make_folder, sync, sync_folder

MAX_BATCH = 8
"""Maximum batch of ONNX files; a plan has the batches of its profiles."""
QUEUE_DELAY_US = 2000
"""How long a request waits to be batched: far less than a tile takes on a CPU."""
WARMUP_TILES = 2
PLATFORMS = {True: ("tensorrt_plan", "model.plan"), False: ("onnxruntime_onnx", "model.onnx")}

Config = dict[str, Any]


class EnumValue(str):
    """An enum value, which the protobuf text format writes without quotes."""


@dataclass(frozen=True)
class Model:
    """One model of the repository."""

    name: str
    """Name of its folder and in requests."""
    made: Made
    """Exported file."""
    config: Config
    """Content of `config.pbtxt`."""
    tiles: dict[str, bytes]
    """Warm-up files by name."""


def write_repository(
    made: Sequence[Made], repository: Path, options: Options, *, force: bool = False
) -> list[Path]:
    """Write one model for each exported file; each appears complete or not at all.

    Args:
        made: exported files.
        repository: a folder, created if missing; other models in it are kept.
        options: export options; the warm-up tiles come from `data`.
        force: replace existing models.

    Returns:
        The folders of the models.

    Raises:
        ExportError: a model exists, or the folder cannot be written.
        DataError: `data` holds no pictures.
    """
    models = {repository / _name(one): _model(one, options) for one in made}
    stale = {target: model for target, model in models.items() if not _is_current(model, target)}
    for target in stale:
        if target.exists() and not (target / "config.pbtxt").is_file():
            raise ExportError(f"{target} exists and is not a Triton model")
        if target.exists() and not force:
            raise ExportError(f"{target} exists and is another model; --force replaces it")
    try:
        make_folder(repository)
        for target, model in stale.items():
            _publish(model, target)
    except OSError as error:
        raise ExportError(f"{repository} cannot be written: {error}") from error
    return list(models)


def render(config: Config, indent: int = 0) -> str:
    """Format nested dicts in protobuf's text format; a list repeats its field."""
    pad, lines = "  " * indent, []
    for name, value in config.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                lines.append(f"{pad}{name} {{\n{render(one, indent + 1)}{pad}}}\n")
            elif isinstance(one, str) and not isinstance(one, EnumValue):
                lines.append(f"{pad}{name}: {json.dumps(one, ensure_ascii=False)}\n")
            else:
                text = str(one).lower() if isinstance(one, bool) else str(one)
                lines.append(f"{pad}{name}: {text}\n")
    return "".join(lines)


def _name(made: Made) -> str:
    """Return a name that is valid in URLs and protobuf, such as gan_x4_int8_gpu."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", made.artifact.path.name.rpartition(".")[0])


def _model(made: Made, options: Options) -> Model:
    manifest = made.manifest
    if manifest.inputs:
        raise ExportError(
            f"--triton: {made.artifact.path.name} takes {', '.join(manifest.inputs)} beside the "
            "picture, which a server that batches cannot pass: serve an engine of it (--target), "
            "which has the defaults built in"
        )
    platform, _ = PLATFORMS[made.artifact.is_engine]
    latent, batch = _latent(made), _max_batch(made)
    size = _size(manifest, options)
    tiles = _tiles(manifest, options, size)
    config: Config = {
        "name": _name(made),
        "platform": platform,
        "max_batch_size": batch,
        "input": _ports(manifest, INPUT, 1, {EPS: [latent, -1, -1]} if latent else {}),
        "output": _ports(
            manifest, OUTPUT, manifest.scale, {CONFIDENCE: [-1, -1, 1]} if latent else {}
        ),
        "dynamic_batching": {
            "preferred_batch_size": sorted({max(1, batch // 2), batch}),
            "max_queue_delay_microseconds": QUEUE_DELAY_US,
        },
        "instance_group": _instances(made),
        "model_warmup": _warmup(manifest, tiles, size, latent, batch),
        "parameters": {"key": "srsdk.manifest", "value": {"string_value": manifest.to_json()}},
    }
    if len(manifest.profiles) > 1:
        config["instance_group"]["profile"] = [str(i) for i in range(len(manifest.profiles))]
    return Model(_name(made), made, config, tiles)


def _ports(manifest: Manifest, name: str, factor: int, more: dict[str, list[int]]) -> list[Config]:
    """Return the inputs or outputs; Triton prepends the batch to `dims`."""
    sides = [side * factor for side in manifest.size_px] if manifest.size_px else [-1, -1]
    channels = manifest.channels
    kind = EnumValue("TYPE_UINT8" if manifest.dtype == "uint8" else "TYPE_FP32")
    ports: list[Config] = [{"name": name, "data_type": kind, "dims": [*sides, channels]}]
    for extra, shape in more.items():
        ports.append({"name": extra, "data_type": EnumValue("TYPE_FP32"), "dims": shape})
    return ports


def _max_batch(made: Made) -> int:
    """Return the maximum batch size; every size up to it must be supported."""
    if made.artifact.flavour == "rtx":
        raise ExportError(
            f"{made.artifact.path.name} is a TensorRT for RTX engine, which Triton cannot run; "
            "export with --target tensorrt instead"
        )
    if not made.artifact.is_engine:
        return MAX_BATCH
    batches = {profile[0] for profile in made.manifest.profiles}
    largest = next(size for size in range(len(batches) + 1) if size + 1 not in batches)
    if not largest:
        raise ExportError(
            f"{made.artifact.path.name} takes batches of {sorted(batches)}, but Triton also sends "
            "single requests: add --batch 1"
        )
    return largest


def _instances(made: Made) -> Config:
    """Return device and count of instances; with two, one copies while the other computes."""
    if made.artifact.is_engine or made.artifact.flavour == "gpu":
        return {"kind": EnumValue("KIND_GPU"), "count": 2}
    # a portable file uses GPUs if the server has any
    kind = "KIND_CPU" if made.artifact.flavour == "cpu" else "KIND_AUTO"
    return {"kind": EnumValue(kind), "count": 1 if kind == "KIND_CPU" else 2}


def _warmup(
    manifest: Manifest, tiles: dict[str, bytes], size: tuple[int, int], latent: int, batch: int
) -> list[Config]:
    dims = [*size, manifest.channels]
    kind = EnumValue("TYPE_UINT8" if manifest.dtype == "uint8" else "TYPE_FP32")
    samples = []
    for index, name in enumerate(tiles):
        inputs: list[Config] = [
            {"key": INPUT, "value": {"data_type": kind, "dims": dims, "input_data_file": name}}
        ]
        if latent:
            noise = {
                "data_type": EnumValue("TYPE_FP32"),
                "dims": [latent, *size],
                "zero_data": True,
            }
            inputs.append({"key": EPS, "value": noise})
        samples.append(
            {"name": name, "batch_size": (1, batch)[index % 2], "inputs": inputs, "count": 1}
        )
    return samples


def _tiles(manifest: Manifest, options: Options, size: tuple[int, int]) -> dict[str, bytes]:
    """Return real tiles from --data for the server's warm-up."""
    if options.data is None:
        raise ExportError("--triton warms up the server on real tiles: name a folder with --data")
    shape = Shape(manifest.scale, manifest.channels, manifest.multiple_px, size)
    crops = draw_crops(options.data, shape, seed=options.seed, count=MIN_PICTURES)
    is_float = manifest.dtype == "float32"
    return {
        f"tile_{i}": (tile.astype(np.float32) / 255 if is_float else tile).tobytes()
        for i, tile in enumerate(crops.pixels[:WARMUP_TILES])
    }


def _size(manifest: Manifest, options: Options) -> tuple[int, int]:
    if manifest.size_px is not None:
        return manifest.size_px
    _, height, width = (manifest.profiles or options.profiles)[0]
    return height, width


def _latent(made: Made) -> int:
    """Return the channels of a vae's noise; 0: the file takes none."""
    if made.manifest.family != "vae":
        return 0
    if made.artifact.is_engine:
        raise ExportError("--triton supports ONNX files of a vae, not engines: leave --target out")
    inputs = onnx.load(made.artifact.path, load_external_data=False).graph.input
    return int(inputs[1].type.tensor_type.shape.dim[1].dim_value)


def _is_current(model: Model, target: Path) -> bool:
    """Return whether the target holds exactly this model."""
    file = target / "1" / PLATFORMS[model.made.artifact.is_engine][1]
    config = target / "config.pbtxt"
    return (
        config.is_file()
        and file.is_file()
        and config.read_bytes() == render(model.config).encode()
        and file_sha256(file) == file_sha256(model.made.artifact.path)
        and all(_holds(target / "warmup" / name, data) for name, data in model.tiles.items())
    )


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _publish(model: Model, target: Path) -> None:
    """Write and sync a temporary folder, then rename it; an old model is moved away first."""
    name = f".{target.name}.{os.urandom(8).hex()}"
    fresh, old = target.with_name(f"{name}.tmp"), target.with_name(f"{name}.old")
    try:
        _write(model, fresh)
        with signals_deferred():
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(fresh, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
            sync_folder(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write(model: Model, folder: Path) -> None:
    """Write a model and sync its files and folders."""
    (folder / "1").mkdir(parents=True)
    (folder / "warmup").mkdir()
    file = folder / "1" / PLATFORMS[model.made.artifact.is_engine][1]
    shutil.copyfile(model.made.artifact.path, file)
    for name, data in model.tiles.items():
        (folder / "warmup" / name).write_bytes(data)
    (folder / "config.pbtxt").write_bytes(render(model.config).encode())
    for path in (*folder.rglob("*"), folder):
        (sync_folder if path.is_dir() else sync)(path)
