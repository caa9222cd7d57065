"""Read darktable's model packages, `.dtmodel`: zip files with ONNX models and a `config.json`.

The form is that of darktable 5.6: docs/dtmodel-format.md of
https://github.com/andriiryzhkov/darktable-ai-sdk, and dev-doc/AI_Tasks.md of darktable for what the
networks of each task read and write. Nothing is extracted by the names in the archive: two files
are read, and written to names that srsdk chooses.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srsdk.errors import ModelError, UsageError
from srsdk.formats.files import opened
from srsdk.system import user_cache
from srsdk.system.durable import create_private, is_private, make_private, replacing

TASKS = ("upscale", "denoise")
"""Tasks whose models turn a picture into a picture."""
NOISE_LEVEL, NOISE_RANGE = 25.0, 255.0
"""What darktable feeds to the second input of a denoiser, and what it divides that by."""
MAX_ENTRIES = 1000
MAX_CONFIG_BYTES = 1 << 20
MAX_MODEL_BYTES = 1 << 31
MAX_RATIO = 100
"""Unpacked bytes for each packed one; weights compress to half at best."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SCALE = re.compile(r"_x(\d{1,2})$")
_BLOCK_BYTES = 1 << 20
_END, _END_BYTES, _MAX_COMMENT = b"PK\x05\x06", 22, 65535
_ENCRYPTED = 1


@dataclass(frozen=True, kw_only=True)
class Package:
    """A darktable package: what its `config.json` says, and which models it holds."""

    path: Path
    """The file."""
    id: str
    """Its identifier, and the name of its only folder."""
    description: str
    """One line."""
    task: str
    """`upscale` or `denoise`."""
    architecture: str
    """Name of the architecture."""
    card: Mapping[str, str]
    """Provenance: `author`, `license`, `source`, `training_data` and more, as far as stated."""
    attributes: Mapping[str, Any] = field(repr=False)
    """Hints for darktable."""
    inputs: int
    """Inputs of the network."""
    models: tuple[str, ...]
    """Names of the ONNX files without suffix, sorted."""

    def choose(self, scale: int | None, member: str = "") -> str:
        """Return the name of the model for a scale; None: the only one.

        Raises:
            UsageError: several models and no scale, or none of this scale.
        """
        if member in self.models:
            return member
        if scale is None and len(self.models) == 1:
            return self.models[0]
        found = [each for each in self.models if self.scale(each) == scale]
        if len(self.models) == 1 and self.scale(self.models[0]) is None:
            found = list(self.models)
        if scale is None or len(found) != 1:
            raise UsageError(
                f"{self.path} holds {' and '.join(self.models)}: pass scale=N with one of "
                f"{', '.join(str(s) for s in sorted(self.scales())) or 'their scales'}"
            )
        return found[0]

    def scale(self, model: str) -> int | None:
        """Return the scale of a model, from its name; None: the name does not say."""
        if self.task == "denoise":
            return 1
        found = _SCALE.search(model)
        return int(found[1]) if found else None

    def scales(self) -> set[int]:
        """Return the scales of all models."""
        return {scale for each in self.models if (scale := self.scale(each)) is not None}

    def io(self, model: str) -> dict[str, Any]:
        """Return what the network reads and writes, as keyword arguments of `srsdk.IO`.

        darktable feeds every network of these tasks the same: sRGB as RGB in 0..1, NCHW.
        """
        said: dict[str, Any] = {"range": 1.0, "order": "rgb", "layout": "NCHW"}
        own = self.attributes.get(model)
        nested = own if isinstance(own, Mapping) else {}
        multiple = nested.get("size_multiple", self.attributes.get("size_multiple"))
        if isinstance(multiple, int) and not isinstance(multiple, bool) and 1 <= multiple <= 256:
            said["multiple"] = multiple
        if self.inputs == 2:
            said["inputs"] = {"noise": (NOISE_LEVEL, NOISE_RANGE)}
        return said

    def file_name(self, model: str) -> str:
        """Return what a model is called once it is unpacked: `upscale-bsrgan_x4`."""
        rest = model.removeprefix("model")
        return f"{self.id}{rest if model != rest else f'_{model}'}"


def read_package(path: Path) -> Package:
    """Read what a package says, without unpacking its models.

    Raises:
        ModelError: not a darktable package, damaged, or for another task; or it would unpack to
            more than is allowed.
    """
    with opened(path, "a darktable package") as (file, size):
        _check_size(path, file, size)
        try:
            with zipfile.ZipFile(file) as archive:
                return _read(path, archive)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ModelError(f"{path} is a damaged zip file: {error}") from error


def unpack(package: Package, model: str, sha256: str) -> Path:
    """Unpack a model into the user's cache, unless it is there, and return its path.

    Args:
        package: the package.
        model: one of its `models`.
        sha256: of the package; each package has its own folder.

    Raises:
        ModelError: damaged, larger than it says, or the cache cannot be used.
    """
    home = user_cache.folder()
    if home is None:
        raise ModelError(
            f"{package.path} is unpacked into the cache, and there is none: set "
            f"{user_cache.VARIABLE}=FOLDER, or unzip it and pass the path of {model}.onnx"
        )
    target = home / "packages" / sha256[:32] / f"{package.file_name(model)}.onnx"
    try:
        make_private(target.parent)
        if not is_private(target.parent.stat()):
            raise ModelError(
                f"{target.parent} is not used: other users own it or can write there; fix: "
                f"chmod -R go-w {target.parent}"
            )
        with zipfile.ZipFile(package.path) as archive:
            info = archive.getinfo(f"{package.id}/{model}.onnx")
            # the file may be another one since it was read
            _check_entry(package.path, info, package.id)
            if not _is_unpacked(target, info):
                with replacing(target) as temporary:
                    _extract(archive, info, temporary)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ModelError(f"{package.path} is a damaged zip file: {error}") from error
    except OSError as error:
        raise ModelError(
            f"{package.path} cannot be unpacked to {target}: {error.strerror or error}"
        ) from error
    return target


def _check_size(path: Path, file: Any, size: int) -> None:
    """Refuse a directory of too many entries before `zipfile` reads it into memory."""
    file.seek(max(0, size - _END_BYTES - _MAX_COMMENT))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ModelError(f"{path} is not a darktable package: expected a zip file")
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if entries > MAX_ENTRIES or directory > MAX_ENTRIES * 1024:
        raise ModelError(
            f"{path} has {entries:,} entries in {directory:,} bytes, expected at most "
            f"{MAX_ENTRIES:,} entries"
        )
    file.seek(0)


def _read(path: Path, archive: zipfile.ZipFile) -> Package:
    entries = archive.infolist()
    identifier = _identifier(path, entries)
    for info in entries:
        _check_entry(path, info, identifier)
    names = [info.filename for info in entries]
    if len(set(names)) != len(names) or len(names) > MAX_ENTRIES:
        raise ModelError(f"{path} has two entries of one name, or more than {MAX_ENTRIES}")
    config = _config(path, archive, f"{identifier}/config.json")
    task = config.get("task", "general")
    if task not in TASKS or config.get("backend", "onnx") != "onnx":
        raise ModelError(
            f"{path} is a package for the task {task!r} and the backend "
            f"{config.get('backend', 'onnx')!r}, expected {' or '.join(TASKS)}, and onnx"
        )
    pattern = re.compile(rf"{re.escape(identifier)}/([A-Za-z0-9][A-Za-z0-9._-]*)\.onnx")
    models = sorted(found[1] for name in names if (found := pattern.fullmatch(name)))
    if not models:
        raise ModelError(f"{path} holds no ONNX file in its folder {identifier}/")
    said, attributes = config.get("model_card"), config.get("attributes")
    return Package(
        path=path,
        id=identifier,
        description=_text(config, "description"),
        task=task,
        architecture=_text(config, "arch"),
        card={key: _text(said, key) for key in said} if isinstance(said, dict) else {},
        attributes=attributes if isinstance(attributes, dict) else {},
        inputs=2 if config.get("num_inputs") == 2 else 1,
        models=tuple(models),
    )


def _identifier(path: Path, entries: list[zipfile.ZipInfo]) -> str:
    """Return the name of the folder that the first entry is in, as darktable does."""
    first = entries[0].filename.partition("/")[0] if entries else ""
    if not _ID.fullmatch(first):
        raise ModelError(
            f"{path} is not a darktable package: its first folder is {first!r}, expected the "
            "model's identifier"
        )
    return first


def _check_entry(path: Path, info: zipfile.ZipInfo, identifier: str) -> None:
    parts = info.filename.split("/")
    if parts[0] != identifier or ".." in parts or "\\" in info.filename or len(parts) < 2:
        raise ModelError(
            f"{path} has the entry {info.filename!r}, expected all in one folder {identifier}/"
        )
    if info.flag_bits & _ENCRYPTED:
        raise ModelError(f"{path} is encrypted, expected a package that everybody can read")
    # the decoders of other methods may need gigabytes of memory
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(
            f"{path} is packed with method {info.compress_type}, expected 0 (stored) or 8 (deflate)"
        )
    if info.file_size > MAX_MODEL_BYTES or info.file_size > MAX_RATIO * (info.compress_size + 1024):
        raise ModelError(
            f"{path}: {info.filename!r} would unpack from {info.compress_size:,} to "
            f"{info.file_size:,} bytes, expected at most {MAX_RATIO} times as many and "
            f"{MAX_MODEL_BYTES:,}"
        )


def _config(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ModelError(f"{path} is not a darktable package: it has no {name}") from None
    if info.file_size > MAX_CONFIG_BYTES:
        raise ModelError(
            f"{path}: {name} has {info.file_size:,} bytes, expected at most {MAX_CONFIG_BYTES:,}"
        )
    try:
        config = json.loads(archive.read(info))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {name} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: {name} is not a JSON object")
    return config


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return value[:2000] if isinstance(value, str) else ""


def _is_unpacked(target: Path, info: zipfile.ZipInfo) -> bool:
    if not target.is_file() or target.stat().st_size != info.file_size:
        return False
    found = 0
    with target.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return found == info.CRC


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpack one entry; `zipfile` reads no more than it says, and compares its CRC."""
    with archive.open(info) as packed, create_private(target) as file:
        while block := packed.read(_BLOCK_BYTES):
            file.write(block)
