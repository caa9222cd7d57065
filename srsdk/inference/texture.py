"""Interpolate between the weights of a model and its textured version."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import MappingProxyType

from srsdk.errors import ModelError, UsageError
from srsdk.formats.onnx_rewrite import mixed
from srsdk.manifest import Manifest, read_manifest

SUFFIX = "_texture"


def mix(
    path: Path, manifest: Manifest | None, texture: float | None
) -> tuple[bytes | None, Manifest | None]:
    """Mix the weights of `X.onnx` and `X_texture.onnx` from the same folder.

    Args:
        path: `X.onnx`, the parent, trained for fidelity.
        manifest: manifest of the parent.
        texture: 0 for the parent, 1 for full texture; None: the unchanged model.

    Returns:
        The mixed model's bytes, or None, and its manifest, without scores: none were measured.

    Raises:
        UsageError: `texture` is outside 0..1.
        ModelError: no textured version, or one of another architecture.
    """
    if texture is None:
        return None, manifest
    if isinstance(texture, bool) or not isinstance(texture, (int, float)) or not 0 <= texture <= 1:
        raise UsageError(f"texture is {texture!r}, expected 0 (fidelity) to 1 (texture)")
    twin = path.with_name(f"{path.stem}{SUFFIX}.onnx")
    if path.suffix != ".onnx" or not twin.is_file():
        raise ModelError(
            f"{path.name} has no textured twin {twin.name} next to it; mix one from weights, in "
            f"a checkout of srsdk, with `python -m export TEXTURED --texture {texture:g} "
            "--parent WEIGHTS -o OUT.onnx`"
        )
    graph = mixed(path.read_bytes(), twin.read_bytes(), float(texture))
    if manifest is None:
        return graph, None
    return graph, dataclasses.replace(
        manifest,
        training_licenses=_licenses(manifest, read_manifest(twin)),
        texture=float(texture),
        probe=None,
        parity_db=None,
        parity_lsb=None,
        scores=MappingProxyType({}),
        weights_sha256="",
        build_key="",
    )


def _licenses(parent: Manifest, textured: Manifest | None) -> tuple[str, ...]:
    """Return the licenses of what both have learned from; empty: one of them states none."""
    if textured is None or not parent.training_licenses or not textured.training_licenses:
        return ()
    return tuple(sorted({*parent.training_licenses, *textured.training_licenses}))
