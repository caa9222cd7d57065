"""JPEG XL files, by pylibjxl."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from PIL import ExifTags, Image, ImageFile

log = logging.getLogger("srsdk")

SUFFIXES = (".jxl",)
HEADER_BYTES = 1 << 16
LONGEST_HEADER_BYTES = 1 << 24
"""Where the size must have come: after metadata of any kind."""
_STREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_jxl(head: bytes) -> bool:
    """Return whether a file begins like JPEG XL (ISO/IEC 18181-2)."""
    return head.startswith((_STREAM, _CONTAINER))


def register(library: str) -> None:
    """Teach Pillow to read JPEG XL files.

    Other plugins decode all pixels to learn the size, so this one takes their place.
    """
    JxlFile.library = importlib.import_module(library)
    Image.register_open("JXL", JxlFile, is_jxl)


class JxlFile(ImageFile.ImageFile):
    """A JPEG XL picture: size and mode from its header, pixels when they are loaded."""

    format = "JXL"
    format_description = "JPEG XL"
    library: Any = None

    def _open(self) -> None:
        assert self.fp is not None
        found = self._probed()
        if found["have_animation"]:
            raise OSError("an animated JPEG XL file, expected a single picture")
        self._size = found["width"], found["height"]
        self._mode = _MODES[found["channels"]]
        self._bits = found["bits_per_sample"]
        self._is_loaded = False

    def _probed(self) -> dict[str, Any]:
        assert self.fp is not None
        head = self.fp.read(HEADER_BYTES)
        while True:
            try:
                facts: dict[str, Any] = self.library.probe(head)
            except (RuntimeError, ValueError) as error:
                more = self.fp.read(len(head))
                if not more or len(head) > LONGEST_HEADER_BYTES:
                    raise SyntaxError(f"its header is damaged or cut: {error}") from error
                head += more
            else:
                return facts

    def load(self) -> Any:
        """Decode the pixels, upright."""
        if not self._is_loaded:
            assert self.fp is not None
            if self._bits > 8:
                name = self.filename or "the picture"
                log.warning("%s has %d bits a channel, read as 8", name, self._bits)
            array, found = self.library.decode(self._content(), metadata=True)
            self.im = Image.fromarray(array, self.mode).im
            for ours, theirs in (("icc_profile", "icc"), ("xmp", "xmp")):
                if found.get(theirs):
                    self.info[ours] = found[theirs]
            if found.get("exif"):
                self.info["exif"] = _upright(found["exif"])
            self._is_loaded = True
        return super().load()

    def _content(self) -> bytes:
        assert self.fp is not None
        self.fp.seek(0)
        # a coded picture is smaller than its pixels, whose memory has been checked
        longest = 8 * self.width * self.height + LONGEST_HEADER_BYTES
        data: bytes = self.fp.read(longest + 1)
        if len(data) > longest:
            raise OSError(f"it is longer than {longest:,} bytes, too long for its pixels")
        return data


def _upright(data: bytes) -> bytes:
    """Return EXIF without an orientation: the decoder has applied that of the picture itself."""
    exif = Image.Exif()
    exif.load(data)
    exif.pop(ExifTags.Base.Orientation, None)
    return exif.tobytes()
