"""Names of sources that can be read, and of results: beside the source or in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from srsdk.budget import FORMATS
from srsdk.errors import UsageError
from srsdk.image import plugins

KEPT = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "TGA")
"""Formats of sources that a result keeps; for others, such as HEIC and ICO, it is PNG."""


@dataclass(frozen=True)
class Naming:
    """How results are named."""

    tag: str = "upscaled"
    """Of results beside their source: `photo_TAG.png`, or the folder `photos_TAG`."""
    suffix: str | None = None
    """Suffix of all results; None: see `suffix_for`."""

    def in_folder(self, folder: Path, relative: Path) -> Path:
        """Return the result in an output folder, by the path below the source folder."""
        return folder / relative.with_name(self._renamed(relative, relative.stem))

    def beside(self, source: Path) -> Path:
        """Return the result of a file, or the folder for the results of a folder, beside it.

        Raises:
            UsageError: the source has no name, as the root folder.
        """
        place = source if source.name not in ("", "..") else source.resolve()
        if not place.name:
            raise UsageError(f"{source} has no name to derive an output from; name it with output=")
        if place.is_dir():
            return place.with_name(f"{place.name}_{self.tag}")
        return place.with_name(self._renamed(place, f"{place.stem}_{self.tag}"))

    def _renamed(self, source: Path, stem: str) -> str:
        return f"{stem}{self.suffix or suffix_for(source)}"


def suffix_for(source: Path) -> str:
    """Return the suffix for the result of a source: its own, or `.png` if few programs write it."""
    kind = format_of(source)
    if kind == "MPO":  # a JPEG file with previews, as some cameras write it
        return ".jpg"
    return source.suffix if kind in KEPT and kind in Image.SAVE else ".png"


def format_of(path: Path) -> str | None:
    """Return the format that a suffix names, by Pillow's name, or None."""
    Image.init()
    return Image.EXTENSION.get(path.suffix.lower())


def is_readable(path: Path) -> bool:
    """Return whether the suffix names a format that is read here, with the plugins installed."""
    plugin = plugins.by_suffix(path.suffix)
    if plugin is not None:
        return plugin.library is not None
    kind = format_of(path)
    # an MPO file opens as JPEG
    return kind == "MPO" or (kind in FORMATS and kind in Image.OPEN)
