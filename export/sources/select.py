"""Open a source file by its type."""

from __future__ import annotations

from pathlib import Path

from export.protocol import Source
from export.sources.checkpoint import open_checkpoint
from export.sources.onnx_file import open_onnx
from export.sources.spandrel_weights import open_third_party
from training import checkpoint


def open_source(path: Path) -> Source:
    """Open a checkpoint, third-party weights or an ONNX file, by suffix and content.

    Raises:
        ExportError: the type is unknown or the file is damaged; the message states what was found.
        checkpoint.CheckpointError: a checkpoint of `python -m training` is damaged.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return open_onnx(path)
    # a third-party .safetensors file lacks our schema
    if suffix in (".pth", ".pt", ".ckpt") or not checkpoint.is_ours(path):
        return open_third_party(path)
    return open_checkpoint(path)
