"""`srsdk video`: upscale a video file."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from srsdk import models
from srsdk.cli.arguments import STREAM, add_model_arguments, model_name, open_model
from srsdk.cli.terminal import progress, say
from srsdk.errors import PictureError, UsageError
from srsdk.manifest import read_manifest

EPILOG = """\
.mkv holds everything: sound, subtitles of every kind, fonts, chapters. Other formats hold less:
text subtitles are converted to the kind that OUT holds, and what OUT cannot hold is an error that
names it, or is left out with --drop. `-` reads standard input or writes y4m (uncompressed frames)
to standard output: srsdk video IN - | ffmpeg -i - OUT.mp4
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk video`."""
    command.epilog = EPILOG
    command.add_argument(
        "source", metavar="IN", help="input video, in any format that FFmpeg reads; -: stdin"
    )
    command.add_argument(
        "target",
        metavar="OUT",
        nargs="?",
        help="output file, .mkv holds everything; -: y4m to stdout (default: IN_x2.mkv beside IN)",
    )
    _add_output(command.add_argument_group("output"))
    model = command.add_argument_group("model and device")
    model.add_argument(
        "--quality",
        choices=tuple(models.VIDEO),
        help="realtime: the fastest model; balanced or best: sharper and slower "
        "(default: realtime)",
    )
    add_model_arguments(model, scale="2, with --kind 4")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-o", "--output", metavar="OUT", help="the same as OUT")
    group.add_argument(
        "--force", action="store_true", help="overwrite OUT and discard an interrupted run"
    )
    group.add_argument("--resume", action="store_true", help="continue an interrupted run")
    group.add_argument(
        "--drop", action="store_true", help="leave out what OUT cannot hold, and name it"
    )
    group.add_argument("--codec", help="FFmpeg encoder, such as libx265")
    group.add_argument("--crf", type=int, help="encoder quality (CRF); lower is better")
    group.add_argument("--preset", help="encoder speed preset, such as veryfast")


def run(arguments: argparse.Namespace) -> int:
    """Upscale the frames of a video and keep everything else."""
    from srsdk.video import transcode

    name, others = _model(arguments)
    source, target = _names(arguments, name)
    if source is not None:
        _check_source(source, arguments)
        if target is not None:
            transcode.check(source, target, overwrite=arguments.force)
    shown = str(source or "standard input")
    with open_model(arguments, name, "throughput") as up, ExitStack() as stack:
        model = f"{up.manifest.name} {up.manifest.precision} ({up.backend})"
        say(f"{shown} -> {target or 'standard output'} with {model}{others}")
        show = stack.enter_context(progress(shown, "frame"))
        stack.enter_context(_resumable(target))
        done = transcode.upscale(
            up,
            source or sys.stdin.buffer,
            target or sys.stdout.buffer,
            codec=arguments.codec,
            crf=arguments.crf,
            preset=arguments.preset,
            overwrite=arguments.force,
            resume=arguments.resume,
            drop=arguments.drop,
            progress=show,
        )
    rate = (done.computed + done.repeated) / max(done.seconds, 1e-9)
    say(
        f"wrote {target or 'standard output'}: {done.frames} frames, {done.repeated} of them "
        f"repeated, {rate:.1f} frames/s"
    )
    return 0


@contextmanager
def _resumable(target: Path | None) -> Iterator[None]:
    """After Ctrl-C, say what is left."""
    from srsdk.video.run_files import can_resume
    from srsdk.video.targets import partial_name

    try:
        yield
    except KeyboardInterrupt:
        if target is not None:
            partial = partial_name(target)
            kept = f"{partial} holds the finished part" if partial.exists() else ""
            more = "--resume continues the run" if can_resume(target) else ""
            if text := "; ".join(filter(None, (kept, more))):
                say(text)
        raise


def _names(arguments: argparse.Namespace, model: str) -> tuple[Path | None, Path | None]:
    """Return source and target; None: standard input or output."""
    if arguments.target is not None and arguments.output is not None:
        raise UsageError(f"OUT is given twice: {arguments.target} and -o {arguments.output}")
    source, target = arguments.source, arguments.output or arguments.target
    if source == STREAM and sys.stdin.isatty():
        raise UsageError(
            "standard input is a terminal; pipe a video into it: "
            "ffmpeg -i IN -f yuv4mpegpipe - | srsdk video - OUT.mkv"
        )
    if target == STREAM and sys.stdout.isatty():
        raise UsageError(
            f"standard output is a terminal; pipe it on: srsdk video {shlex.quote(source)} - | "
            "ffmpeg -i - OUT.mp4"
        )
    if target is None:
        if source == STREAM:
            raise UsageError(
                "standard input has no name to derive OUT from; add OUT, such as x.mkv"
            )
        target = _default_target(Path(source), model)
    return _path(source), _path(target)


def _default_target(source: Path, model: str) -> Path:
    """Return `film_x2.mkv` for `film.mp4`."""
    manifest = read_manifest(models.find(model))
    if manifest is None:
        raise UsageError(f"{model} does not say its scale, so OUT has no default; add OUT.mkv")
    return source.with_name(f"{source.stem}_x{manifest.scale}.mkv")


def _path(text: str) -> Path | None:
    return None if text == STREAM else Path(text)


def _check_source(source: Path, arguments: argparse.Namespace) -> None:
    """Send pictures, animated ones too, to the command that takes them."""
    from srsdk.video.targets import picture_kind

    if kind := picture_kind(source):
        suffix = ".png" if kind == "HEIC" else f".{kind.lower()}"
        target = source.with_name(f"{source.stem}_x{arguments.scale or 4}{suffix}")
        scale = f" --scale {arguments.scale}" if arguments.scale else ""
        raise PictureError(
            f"{source} is a {kind} picture; its frames, times and transparency are kept by: "
            f"srsdk upscale {shlex.quote(str(source))} -o {shlex.quote(str(target))}{scale}"
        )


def _model(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the model to use and, if the user did not choose it, what else there is."""
    quality, scale = arguments.quality, arguments.scale
    if arguments.model is not None or arguments.kind is not None:
        if quality is not None:
            named = "--model" if arguments.model is not None else "--kind"
            raise UsageError(f"{named} cannot be combined with --quality: each selects a model")
        return model_name(arguments), ""
    if quality is not None:
        return models.for_video(quality, scale or 2), ""
    sharper = "; sharper and slower: --quality balanced or best"
    return models.for_video("realtime", scale or 2), sharper
