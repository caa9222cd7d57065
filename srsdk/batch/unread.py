"""What to say about the files of a folder that are not upscaled, by suffix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from srsdk.image import plugins

RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
)
VIDEO = (
    *(".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".webm", ".wmv", ".y4m"),
)
PICTURES: Mapping[str, str] = {
    **dict.fromkeys(RAW, "camera raw: develop it to TIFF or PNG first"),
    **dict.fromkeys((".svg", ".svgz"), "vector graphics: render it at the size you want"),
    **dict.fromkeys((".pdf", ".eps", ".ps", ".ai"), "a document: render it to PNG first"),
    **dict.fromkeys((".exr", ".hdr", ".xcf", ".kra"), "convert it to TIFF or PNG first"),
}
"""Kinds of pictures that srsdk does not read, and what to do instead."""


def advice(suffix: str) -> str:
    """Return what to do with a file of a kind that is not read even if it is named, or ""."""
    if suffix.lower() in VIDEO:
        return "a video: `srsdk video` upscales it"
    return PICTURES.get(suffix.lower(), "")


def picture_files(unread: Counter[str]) -> Iterator[tuple[int, str]]:
    """Yield the number of pictures that cannot be read, with a sentence, for each suffix."""
    for suffix, count in sorted(unread.items()):
        plugin = plugins.by_suffix(suffix)
        advice = f"{plugin.advice} reads them" if plugin else PICTURES.get(suffix)
        if advice:
            yield count, f"{_files(count, suffix)} not read: {advice}"


def other_files(unread: Counter[str]) -> str:
    """Return a sentence about all files that are no pictures, or "" if there are none."""
    others = {
        suffix: count
        for suffix, count in sorted(unread.items())
        if suffix not in PICTURES and plugins.by_suffix(suffix) is None
    }
    if not others:
        return ""
    total = sum(others.values())
    named = ", ".join(suffix or "no suffix" for suffix in list(others)[:6])
    more = ", ..." if len(others) > 6 else ""
    videos = "; `srsdk video` takes videos" if others.keys() & set(VIDEO) else ""
    return f"{total} other file{'s' * (total > 1)} ignored ({named}{more}){videos}"


def _files(count: int, suffix: str) -> str:
    return f"{count} {suffix} file{'s' * (count > 1)}"
