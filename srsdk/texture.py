"""Between a model and its textured twin."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import MappingProxyType

from srsdk.errors import ModelError, UsageError
from srsdk.graph_edit import mixed
from srsdk.manifest import Manifest

SUFFIX = "_texture"


def mix(
    path: Path, manifest: Manifest | None, texture: float | None
) -> tuple[bytes | None, Manifest | None]:
    """Mix the weights of `X.onnx` and `X_texture.onnx`, which lie in one folder.

    Args:
        path: X.onnx, the parent, trained for fidelity.
        manifest: the parent's.
        texture: 0 for the parent, 1 for all texture; None: the model as it is.

    Returns:
        The mixed model's bytes, or None, and its manifest: no scores, since nothing was measured.

    Raises:
        UsageError: `texture` is outside of 0..1.
        ModelError: there is no twin, or it is of another architecture.
    """
    if texture is None:
        return None, manifest
    if isinstance(texture, bool) or not isinstance(texture, (int, float)) or not 0 <= texture <= 1:
        raise UsageError(f"texture is {texture!r}, expected 0 (fidelity) to 1 (texture)")
    twin = path.with_name(f"{path.stem}{SUFFIX}.onnx")
    if path.suffix != ".onnx" or not twin.is_file():
        raise ModelError(
            f"{path.name} has no textured twin {twin.name} beside it; mix one from weights with "
            f"`python -m export TEXTURED --texture {texture:g} --parent WEIGHTS -o OUT.onnx`"
        )
    graph = mixed(path.read_bytes(), twin.read_bytes(), float(texture))
    if manifest is None:
        return graph, None
    return graph, dataclasses.replace(
        manifest,
        texture=float(texture),
        probe=None,
        parity_db=None,
        parity_lsb=None,
        scores=MappingProxyType({}),
        weights_sha256="",
        build_key="",
    )
