"""Export options, and the list of files that they produce."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError, UsageError
from export.hashing import file_sha256, listing
from srsdk.models.terms import identifiers

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("onnx", "openvino-int8", "rtx", "tensorrt")
BOUNDARIES = ("uint8", "float32")
ENGINE_TARGETS = ("rtx", "tensorrt")
DEFAULT_PROFILES = ((1, 256, 256),)
DEFAULT_SMS = (86, 89, 120)


@dataclass(frozen=True, kw_only=True)
class Options:
    """All settings that affect the files; the same options and source give the same files."""

    precisions: tuple[str, ...] = ("fp32",)
    """A subset of `PRECISIONS`."""
    targets: tuple[str, ...] = ("onnx",)
    """A subset of `TARGETS`; `openvino-int8` adds the INT8 file for CPUs to any precisions."""
    boundary: str = "uint8"
    """Input and output: `uint8` (0..255) or `float32` (0..1)."""
    profiles: tuple[tuple[int, int, int], ...] = DEFAULT_PROFILES
    """Input shapes of an engine, (batch, height, width); ONNX files accept any."""
    sms: tuple[int, ...] = DEFAULT_SMS
    """GPU architectures (SM numbers) of a TensorRT for RTX engine."""
    version_compatible: bool = False
    """Build TensorRT engines that later versions and the lean runtime open, too."""
    data: Path | None = None
    """Folder of pictures for INT8 calibration."""
    tests: tuple[Path, ...] = ()
    """Folders of ground truth, for scores and for the INT8 gate."""
    seed: int = 0
    """Seed of the calibration crops and the QAT patches."""
    texture: float | None = None
    """Blend of the weights of `parent` (0) and the source (1); None: the source alone."""
    parent: Path | None = None
    """Weights that the source's adversarial training started from; goes with `texture`."""
    qat: int = 0
    """Steps of quantization-aware training before INT8; 0: none."""
    licence: str = ""
    """License of the weights, for the manifest."""
    training_data: str = ""
    """What the weights were trained on, for the manifest."""
    training_licenses: tuple[str, ...] = ()
    """SPDX identifiers of the licenses of the training data, for the manifest; sorted."""

    def __post_init__(self) -> None:
        self._check_licenses()
        for name, values, allowed in (
            ("precision", self.precisions, PRECISIONS),
            ("target", self.targets, TARGETS),
            ("boundary", (self.boundary,), BOUNDARIES),
        ):
            for value in values:
                if value not in allowed:
                    raise UsageError(f"{name} {value!r} is not one of {', '.join(allowed)}")
        self._check_texture()
        if len(set(self.targets) & set(ENGINE_TARGETS)) > 1:
            raise UsageError(
                "targets rtx and tensorrt write the same file names; export them into two folders"
            )
        if self.version_compatible and "tensorrt" not in self.targets:
            raise UsageError(
                "--version-compatible is for --target tensorrt only: an rtx engine opens with the "
                "version that built it, an ONNX file with any"
            )
        if not all(side > 0 for profile in self.profiles for side in profile):
            raise UsageError(f"profiles {self.profiles}: expected sizes above 0")
        if self.wants_int8 and self.data is None:
            raise UsageError("INT8 needs pictures for calibration: name a folder with --data")
        if self.qat < 0:
            raise UsageError(f"--qat {self.qat}: expected a number of steps, or 0 for none")
        if self.qat and not self.wants_int8:
            raise UsageError("--qat is for INT8 files only: add --precision int8")
        if self.qat and not self.tests:
            raise UsageError(
                "--qat needs ground truth to check that it helps: name folders with --test"
            )
        if 75 in self.sms and "int8" in self.precisions and "rtx" in self.targets:
            raise UsageError(
                "with SM 75, an INT8 engine computes in float16 on every GPU; leave 75 out of --sm "
                "or export an fp16 engine for it"
            )

    def _check_texture(self) -> None:
        if (self.texture is None) != (self.parent is None):
            raise UsageError("--texture and --parent go together: give both or neither")
        if self.texture is not None and not 0 <= self.texture <= 1:
            raise UsageError(f"texture {self.texture}: expected 0 (the parent) to 1 (the source)")

    def _check_licenses(self) -> None:
        try:
            found = identifiers(self.training_licenses)
        except ValueError as error:
            raise UsageError(f"--training-license {error}") from error
        # the same licenses in another order give the same files
        object.__setattr__(self, "training_licenses", found)

    @property
    def wants_int8(self) -> bool:
        """Whether any file is INT8."""
        return "int8" in self.precisions or "openvino-int8" in self.targets

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that are equal on every machine; paths become hashes and listings."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["data"] = None if self.data is None else listing(self.data)
        values["parent"] = None if self.parent is None else file_sha256(self.parent)
        values["tests"] = [listing(folder) for folder in self.tests]
        if not self.training_licenses:
            # files of earlier versions, which had no such option, stay up to date
            del values["training_licenses"]
        return values


@dataclass(frozen=True)
class Artifact:
    """One file to export."""

    path: Path
    """Final path."""
    precision: str
    """`fp32`, `fp16` or `int8`."""
    flavour: str
    """Manifest flavour: `portable`, `cpu`, `gpu`, `rtx` or `tensorrt`."""

    @property
    def is_engine(self) -> bool:
        """Whether the file is a TensorRT plan."""
        return self.flavour in ENGINE_TARGETS


def plan(output: str | Path, name: str, options: Options) -> list[Artifact]:
    """List the files that an export writes; their folder need not exist.

    Args:
        output: a folder, which is a name without a suffix or with a slash at its end; or a file
            name ending in .onnx or .engine, from which those of several files are made.
        name: model name, used if `output` is a folder.
        options: export options.

    Raises:
        UsageError: another suffix, or one that does not match the file type.
        ExportError: the folder is a file.
    """
    kinds = _kinds(options)
    path = Path(output)
    if _is_folder(output):
        base = path / name
    else:
        suffixes = {".engine" if flavour in ENGINE_TARGETS else ".onnx" for _, flavour in kinds}
        if path.suffix not in suffixes:
            folder = path.with_suffix("") if path.suffix in (".onnx", ".engine") else path
            raise UsageError(
                f"{path}: expected a name that ends in {' or '.join(sorted(suffixes))}, or a "
                f"folder: {folder}/"
            )
        if len(kinds) == 1:
            return [Artifact(path, *kinds[0])]
        base = path.with_suffix("")
    for folder in (base.parent, *base.parent.parents):
        if folder.exists() and not folder.is_dir():
            raise ExportError(f"{folder} is a file, expected a folder")
    return [Artifact(_named(base, kind, options.boundary), *kind) for kind in kinds]


def _is_folder(output: str | Path) -> bool:
    """Whether a name is that of a folder, which may not exist yet."""
    path = Path(output)
    return path.is_dir() or not path.suffix or str(output).endswith(("/", os.sep))


def parse_profiles(
    text: str | None, tiles: list[tuple[int, int]], batches: list[int]
) -> tuple[tuple[int, int, int], ...]:
    """Parse the profiles given by `--profiles`, or by `--tile` and `--batch`.

    Raises:
        UsageError: both forms at once, or a profile that is not BATCHxHEIGHTxWIDTH.
    """
    if text is None:
        sizes = tiles or [DEFAULT_PROFILES[0][1:]]
        return tuple((batch, *size) for size in sizes for batch in batches or [1])
    if tiles or batches:
        raise UsageError("--profiles cannot be combined with --tile or --batch")
    profiles = []
    for part in text.split(","):
        sides = part.strip().lower().split("x")
        if len(sides) != 3 or not all(side.isdecimal() for side in sides):
            raise UsageError(f"profile {part!r}: expected BATCHxHEIGHTxWIDTH, such as 1x256x256")
        batch, height, width = map(int, sides)
        profiles.append((batch, height, width))
    return tuple(profiles)


def _kinds(options: Options) -> list[tuple[str, str]]:
    """Return (precision, flavour) of every file, in build order."""
    kinds: dict[tuple[str, str], None] = {}
    for target in options.targets:
        if target == "openvino-int8":
            kinds["int8", "cpu"] = None
            continue
        for precision in options.precisions:
            if target in ENGINE_TARGETS:
                kinds[precision, target] = None
            elif precision == "int8":
                kinds["int8", "cpu"] = kinds["int8", "gpu"] = None
            else:
                kinds[precision, "portable"] = None
    return sorted(kinds, key=lambda kind: (kind[1] in ENGINE_TARGETS, PRECISIONS.index(kind[0])))


def _named(base: Path, kind: tuple[str, str], boundary: str) -> Path:
    """Return `x.onnx`, `x.fp16.onnx`, `x.int8.onnx`, `x.int8.gpu.onnx`, `x.fp16.engine`, ..."""
    precision, flavour = kind
    parts = [base.name]
    if flavour in ENGINE_TARGETS or precision != "fp32":
        parts.append(precision)
    if flavour == "gpu":
        parts.append("gpu")
    if boundary == "float32":
        parts.append("float32")
    parts.append("engine" if flavour in ENGINE_TARGETS else "onnx")
    return base.with_name(".".join(parts))
