"""Open a source by its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.errors import UsageError
from export.protocol import Source
from export.sources.archives import kind_of, open_archive
from export.sources.checkpoint import open_checkpoint
from export.sources.onnx_file import open_onnx
from export.sources.spandrel_weights import open_third_party
from export.sources.user_file import is_import, open_import
from export.sources.user_module import Form
from training import checkpoint


@dataclass(frozen=True, kw_only=True)
class Own:
    """What the caller says about a network of their own."""

    form: Form = field(default_factory=Form)
    """What is known about it."""
    weights: Path | None = None
    """Its weights, if the source is code."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of its class or factory."""

    @property
    def said(self) -> list[str]:
        """Options that were given."""
        f = self.form
        values = {
            "--weights": self.weights,
            "--arg": self.arguments or None,
            "--name": f.name or None,
            "--scale": f.scale,
            "--channels": f.channels,
            "--multiple": f.multiple_px,
            "--result": f.output,
        }
        return [option for option, value in values.items() if value is not None]


def open_source(path: Path, own: Own | None = None) -> Source:
    """Open code, an archive, a checkpoint, weights or an ONNX file, by name and content.

    Args:
        path: a file, or `my_nets.py:MyNet`, whose code is run.
        own: what is known about a network of one's own.

    Raises:
        ExportError: the type is unknown or the file is damaged; the message states what was found.
        UsageError: `own` is for another kind of source.
        checkpoint.CheckpointError: a checkpoint of `python -m training` is damaged.
    """
    own = own or Own()
    if is_import(str(path)):
        return open_import(str(path), own.weights, own.arguments, own.form)
    if kind_of(path):
        if own.weights is not None or own.arguments:
            raise UsageError(f"{path} holds its weights: leave out --weights and --arg")
        return open_archive(path, own.form)
    if own.said:
        raise UsageError(
            f"{', '.join(own.said)}: for networks of your own only, such as my_nets.py:MyNet; the "
            f"facts about {path} are in the file"
        )
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return open_onnx(path)
    # a third-party .safetensors file lacks our schema
    if suffix in (".pth", ".pt", ".ckpt") or not checkpoint.is_ours(path):
        return open_third_party(path)
    return open_checkpoint(path)
