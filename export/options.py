"""What is asked for, as a frozen value, and which files that means."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.onnx_file import ExportError

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("onnx", "openvino-int8", "rtx", "tensorrt")
BOUNDARIES = ("uint8", "float32")
ENGINE_TARGETS = ("rtx", "tensorrt")
DEFAULT_PROFILES = ((1, 256, 256),)
DEFAULT_SMS = (86, 89, 120)


class UsageError(ExportError):
    """A call that can never work."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything that shapes the files; equal options and an equal source give equal files."""

    precisions: tuple[str, ...] = ("fp32",)
    """Of `PRECISIONS`."""
    targets: tuple[str, ...] = ("onnx",)
    """Of `TARGETS`. `openvino-int8` is the CPU form of the INT8 graph, whatever the precisions."""
    boundary: str = "uint8"
    """Input and output: `uint8` (0..255) or `float32` (0..1)."""
    profiles: tuple[tuple[int, int, int], ...] = DEFAULT_PROFILES
    """(batch, height, width) of the inputs that an engine is built for; ONNX files take any."""
    sms: tuple[int, ...] = DEFAULT_SMS
    """GPU generations that an engine of TensorRT for RTX is built for."""
    data: Path | None = None
    """Folder of pictures for INT8 calibration."""
    tests: tuple[Path, ...] = ()
    """Folders of ground truth, to score on and to gate INT8 by."""
    seed: int = 0
    """Of the calibration crops, and of the patches of QAT."""
    texture: float | None = None
    """Between the weights of `parent` (0) and of the source (1); None: the source alone."""
    parent: Path | None = None
    """Weights that the source's adversarial training began with; goes with `texture`."""
    qat: int = 0
    """Steps of quantisation-aware training before INT8; 0: none."""
    licence: str = ""
    """Terms of the weights, for the manifest."""
    training_data: str = ""
    """What they were learned from, for the manifest."""

    def __post_init__(self) -> None:
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
                "targets rtx and tensorrt would write the same names; export them into two folders"
            )
        if not all(side > 0 for profile in self.profiles for side in profile):
            raise UsageError(f"profiles {self.profiles}: expected sizes above 0")
        if self.wants_int8 and self.data is None:
            raise UsageError("INT8 is calibrated on pictures: name a folder of them with --data")
        if self.qat < 0:
            raise UsageError(f"--qat {self.qat}: expected a number of steps, or 0 for none")
        if self.qat and not self.wants_int8:
            raise UsageError("--qat tunes INT8 files: ask for one with --precision int8")
        if self.qat and not self.tests:
            raise UsageError(
                "--qat is kept only where it measurably helps: name folders of ground truth "
                "with --test"
            )
        if 75 in self.sms and "int8" in self.precisions and "rtx" in self.targets:
            raise UsageError(
                "SM 75 in an INT8 engine turns its convolutions into float16 for every GPU; leave "
                "75 out of --sm, or export an engine of fp16 for it"
            )

    def _check_texture(self) -> None:
        if (self.texture is None) != (self.parent is None):
            raise UsageError("--texture and --parent go together: how much, and of which two")
        if self.texture is not None and not 0 <= self.texture <= 1:
            raise UsageError(f"texture {self.texture}: expected 0 (the parent) to 1 (the source)")

    @property
    def wants_int8(self) -> bool:
        """Whether any file is INT8."""
        return "int8" in self.precisions or "openvino-int8" in self.targets

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that say the same on every machine: paths by what is there."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["data"] = None if self.data is None else listing(self.data)
        values["parent"] = None if self.parent is None else file_sha256(self.parent)
        values["tests"] = [listing(folder) for folder in self.tests]
        return values


@dataclass(frozen=True)
class Artefact:
    """One file to be made."""

    path: Path
    """Where it will lie."""
    precision: str
    """`fp32`, `fp16` or `int8`."""
    flavour: str
    """As in the manifest: `portable`, `cpu`, `gpu`, `rtx` or `tensorrt`."""

    @property
    def is_engine(self) -> bool:
        """Whether it is a TensorRT plan."""
        return self.flavour in ENGINE_TARGETS


def plan(output: Path, name: str, options: Options) -> list[Artefact]:
    """Say which files an export writes.

    Args:
        output: a folder; or a base name; or, for a single file, its very name.
        name: of the model, used inside a folder.
        options: what is asked for.

    Raises:
        ExportError: the folder is not there, or the name's suffix contradicts the file's kind.
    """
    kinds = _kinds(options)
    is_folder = output.is_dir()
    if not (output if is_folder else output.parent).is_dir():
        raise ExportError(f"{output.parent}: no such folder")
    suffixes = {".engine" if flavour in ENGINE_TARGETS else ".onnx" for _, flavour in kinds}
    if not is_folder and output.suffix in (".onnx", ".engine"):
        if output.suffix not in suffixes:
            raise ExportError(f"{output}: expected a name that ends in {min(suffixes)}")
        if len(kinds) == 1:
            return [Artefact(output, *kinds[0])]
        output = output.with_suffix("")
    base = output / name if is_folder else output
    return [Artefact(_named(base, kind, options.boundary), *kind) for kind in kinds]


def file_sha256(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(folder: Path) -> list[list[Any]]:
    """Return name and size of every file below a folder: enough to notice that it changed."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in files]


def parse_profiles(
    text: str | None, tiles: list[tuple[int, int]], batches: list[int]
) -> tuple[tuple[int, int, int], ...]:
    """Return the profiles that `--profiles`, or `--tile` and `--batch`, ask for.

    Raises:
        UsageError: both ways at once, or a profile that is not BATCHxHEIGHTxWIDTH.
    """
    if text is None:
        sizes = tiles or [DEFAULT_PROFILES[0][1:]]
        return tuple((batch, *size) for size in sizes for batch in batches or [1])
    if tiles or batches:
        raise UsageError("--profiles excludes --tile and --batch: it says both")
    profiles = []
    for part in text.split(","):
        sides = part.strip().lower().split("x")
        if len(sides) != 3 or not all(side.isdecimal() for side in sides):
            raise UsageError(f"profile {part!r}: expected BATCHxHEIGHTxWIDTH, such as 1x256x256")
        batch, height, width = map(int, sides)
        profiles.append((batch, height, width))
    return tuple(profiles)


def _kinds(options: Options) -> list[tuple[str, str]]:
    """Return (precision, flavour) of every file, in the order in which they are made."""
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
