"""Fuzz target for video files. FFmpeg is native code: only its answers guide the search."""

from __future__ import annotations

import contextlib
import itertools
import logging

import numpy as np
from PIL import Image

from srsdk.errors import SrsdkError
from srsdk.scheduling.context import Call
from srsdk.video import source
from tests.fuzz.workplace import NEAREST, stored

MAX_PIXELS = 1 << 17
"""Half of the largest frame: small ones are fast, and the limit is tested elsewhere."""
MAX_FRAMES = 8

# FFmpeg's own lines would be the whole log
logging.getLogger("libav").setLevel(logging.CRITICAL)


def video(data: bytes) -> None:
    """Probe a video file, and decode and enlarge its first frames."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    path = stored("video/source", data)
    with contextlib.suppress(SrsdkError):
        about = source.probe(path)
        assert about.frames >= 0, "a negative number of frames"
        last = None
        with contextlib.closing(source.frames(about)) as decoded:
            for frame in itertools.islice(decoded, MAX_FRAMES):
                assert frame.pixels.shape == (about.height, about.width, 3)
                assert frame.pixels.dtype == (np.uint8 if about.bits == 8 else np.uint16)
                assert last is None or frame.pts > last, "time stamps do not increase"
                NEAREST.run(frame.pixels, Call())
                last = frame.pts
