"""Translate messages of the API for the command line: `tile=` becomes `--tile`."""

from __future__ import annotations

import re

FLAGS = {
    "alpha": "--alpha",
    "backend": "--backend",
    "codec": "--codec",
    "compare": "--compare",
    "crf": "--crf",
    "device": "--device",
    "drop": "--drop",
    "fit": "--fit",
    "force": "--force",
    "format": "--format",
    "height": "--height",
    "max_memory_bytes": "--max-memory",
    "model": "--model",
    "output": "-o",
    "overwrite": "--force",
    "precision": "--precision",
    "preset": "--preset",
    "provider": "--provider",
    "quality": "--quality",
    "report": "--report",
    "resume": "--resume",
    "scale": "--scale",
    "subsampling": "--subsampling",
    "texture": "--texture",
    "threads": "--threads",
    "tile": "--tile",
    "tune": "--tune",
    "width": "--width",
}
"""The option for each argument of the API that messages name."""

# `tile=`, `tile=256`, `backend='openvino'`; a name inside of a longer word or path is none
_VALUE = r"""(?:(['"])(.*?)\2|([\w:.]*\w))?(?![=\w])"""
_ARGUMENT = re.compile(rf"(?<![\w./?&-])({'|'.join(FLAGS)})={_VALUE}")
_WRAPPED = re.compile(r"options=PictureOptions\(([^()]*)\)")
_FORM = re.compile(r"io=srsdk\.IO\((\w+)=\.\.\.\)")
_FORM_FLAGS = {"input": "input-name", "output": "output-name", "inputs": "set"}
_PIXELS = re.compile(r"(?:PIL\.)?Image\.MAX_IMAGE_PIXELS")


def for_command_line(text: str) -> str:
    """Return a message with the command line's options instead of the API's arguments."""
    text = _WRAPPED.sub(r"\1", text)
    text = _FORM.sub(lambda found: f"srsdk adopt --{_FORM_FLAGS.get(found[1], found[1])}", text)
    text = _PIXELS.sub("--max-pixels", text)
    return _ARGUMENT.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    flag, value = FLAGS[found[1]], found[3] or found[4] or ""
    # a switch has no value
    return flag if value in ("", "True") else f"{flag} {value}"
