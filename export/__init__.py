"""Export trained weights to ONNX files and TensorRT engines with embedded metadata and scores.

Run as ``python -m export WEIGHTS -o gan_x4.onnx``, or call `export.export` with a network of your
own. Needs torch and onnx; not part of the wheel.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.errors import ExportError, GateError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from export.record import Report

__all__ = ["ExportError", "GateError", "Report", "UsageError", "export"]


def export(
    network: nn.Module,
    output: str | os.PathLike[str],
    *,
    scale: int | None = None,
    name: str = "",
    example: Tensor | None = None,
    channels: int | None = None,
    multiple: int | None = None,
    result: str | int | None = None,
    precisions: Sequence[str] = ("fp32",),
    targets: Sequence[str] = ("onnx",),
    boundary: str = "uint8",
    data: str | os.PathLike[str] | None = None,
    tests: Sequence[str | os.PathLike[str]] = (),
    licence: str = "",
    training_data: str = "",
    training_licenses: Sequence[str] = (),
    force: bool = False,
) -> Report:
    """Export a network of your own to files that `srsdk.Upscaler` opens.

    What is not said is found by running the network, and reported. Every file is compared with the
    network before it is written; none is written unless all pass.

    Args:
        network: maps (N, C, H, W) floats 0..1, RGB, to (N, C, H * scale, W * scale). It is copied
            and exported in float32, on the CPU, in evaluation mode.
        output: a folder, which is created, or the name of a file, such as `"out/mine.onnx"`.
        scale: output size over input size, 1 to 16; None: found by a run.
        name: of the model; default: the name of its class.
        example: a float tensor (N, C, H, W), 0..1, of a size that works; None: sizes are tried.
        channels: of the picture: 1, 3 or 4; None: those of the example or the first convolution.
        multiple: input sizes are multiples of this; None: probed.
        result: name or position of the picture, if the network returns several results; None: the
            first that is a picture.
        precisions: some of `"fp32"`, `"fp16"`, `"int8"`.
        targets: some of `"onnx"`, `"openvino-int8"`, and `"rtx"` or `"tensorrt"`.
        boundary: type of input and output of the files: `"uint8"` or `"float32"`.
        data: folder of pictures for INT8.
        tests: folders of ground truth to report PSNR on.
        licence: license of the weights, for the manifest.
        training_data: what the network was trained on, for the manifest.
        training_licenses: SPDX identifiers of the licenses of that data, for the manifest.
        force: replace existing files.

    Returns:
        The report: files with their manifests, how the network was exported, what was assumed.

    Raises:
        UsageError: options are wrong or contradict each other.
        GateError: a file differs too much from the network.
        ExportError: the network maps no picture to a picture, branches on values of the picture,
            holds NaN, or cannot be exported; the message says where, and the fix.
    """
    # torch is imported with these, which takes seconds
    from export.options import Options
    from export.pipeline import export_source
    from export.sources.user_module import Form, open_module

    options = Options(
        precisions=tuple(precisions),
        targets=tuple(targets),
        boundary=boundary,
        data=None if data is None else Path(data),
        tests=tuple(Path(folder) for folder in tests),
        licence=licence,
        training_data=training_data,
        training_licenses=tuple(training_licenses),
    )
    form = Form(
        name=name,
        scale=scale,
        channels=channels,
        multiple_px=multiple,
        output=result,
        example=example,
    )
    source = open_module(network, form)
    return export_source(
        source,
        type(network).__name__,
        os.fspath(output),
        options,
        force=force,
        notes=form.notes,
    )


def __getattr__(name: str) -> Any:
    if name == "Report":
        from export.record import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
