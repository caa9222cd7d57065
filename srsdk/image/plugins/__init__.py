"""Formats that Pillow reads with the help of another library: HEIC and JPEG XL.

A library is imported when the first picture of its format comes. Sizes are known before any pixel
is decoded, so that the limits of a `Budget` hold.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from srsdk.errors import PictureError
from srsdk.image.plugins import heif, jxl

HEAD_BYTES = 64
"""What `prepare` reads of a file."""


@dataclass(frozen=True)
class Plugin:
    """A format and what reads it."""

    title: str
    """What users call the format."""
    libraries: tuple[str, ...]
    """Modules that read it; one is enough."""
    extra: str
    """The extra that installs one of them."""
    suffixes: tuple[str, ...]
    is_one: Callable[[bytes], bool]
    """Whether a file with these first bytes has this format."""
    register: Callable[[str], None]
    """Teach Pillow the format, with the library of this name."""

    @property
    def library(self) -> str | None:
        """The library that is installed, or None."""
        found = (name for name in self.libraries if importlib.util.find_spec(name) is not None)
        return next(found, None)

    @property
    def advice(self) -> str:
        """What to install."""
        return f'pip install "srsdk[{self.extra}]"'


PLUGINS: Mapping[str, Plugin] = {
    "HEIF": Plugin(
        "HEIC", ("pillow_heif", "pi_heif"), "heif", heif.SUFFIXES, heif.is_heif, heif.register
    ),
    "JXL": Plugin("JPEG XL", ("pylibjxl",), "jxl", jxl.SUFFIXES, jxl.is_jxl, jxl.register),
}
"""By Pillow's names, as in `Budget.formats`."""


def prepare(file: BinaryIO, formats: Sequence[str]) -> None:
    """Teach Pillow the format of a file, if it is one of these; the file is rewound.

    Args:
        file: open for reading, at its start.
        formats: those to decode; for others nothing is imported.

    Raises:
        PictureError: no library for the format is installed.
    """
    head = file.read(HEAD_BYTES)
    file.seek(-len(head), os.SEEK_CUR)
    for name, plugin in PLUGINS.items():
        if name in formats and plugin.is_one(head):
            library = plugin.library
            if library is None:
                raise PictureError(f"a {plugin.title} file; to read it: {plugin.advice}")
            plugin.register(library)


def by_suffix(suffix: str) -> Plugin | None:
    """Return the plugin for files with a suffix such as `.heic`, or None."""
    found = (plugin for plugin in PLUGINS.values() if suffix.lower() in plugin.suffixes)
    return next(found, None)
