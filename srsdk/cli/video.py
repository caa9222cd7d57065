"""`srsdk video`: upscale a video file."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from srsdk import models
from srsdk.cli.arguments import add_model_arguments, model_name, open_model
from srsdk.cli.terminal import progress, say
from srsdk.errors import UsageError


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk video`."""
    command.add_argument(
        "source", type=Path, metavar="IN", help="input video, in any format that FFmpeg reads"
    )
    command.add_argument(
        "target", type=Path, metavar="OUT", help="output file; .mkv holds streams of every kind"
    )
    add_model_arguments(command, scale="2, with --kind 4")
    command.add_argument(
        "--quality",
        choices=tuple(models.VIDEO),
        help="realtime: the fastest model, x2; balanced or best: sharper and slower "
        "(default: realtime, for --scale 4 balanced)",
    )
    command.add_argument("--codec", help="FFmpeg encoder, such as libx265")
    command.add_argument("--crf", type=int, help="encoder quality (CRF); lower is better")
    command.add_argument("--preset", help="encoder speed preset, such as veryfast")
    command.add_argument(
        "--force", action="store_true", help="overwrite OUT and discard an interrupted run"
    )
    command.add_argument("--resume", action="store_true", help="continue an interrupted run")


def run(arguments: argparse.Namespace) -> int:
    """Upscale the frames of a video and keep everything else."""
    from srsdk.video import transcode
    from srsdk.video.run_files import can_resume
    from srsdk.video.targets import partial_name

    target: Path = arguments.target
    name, others = _model(arguments)
    with open_model(arguments, name, "throughput") as up, ExitStack() as stack:
        model = f"{up.manifest.name} {up.manifest.precision}"
        show = stack.enter_context(progress(f"{arguments.source.name}, {model}", "frame"))
        try:
            done = transcode.upscale(
                up,
                arguments.source,
                target,
                codec=arguments.codec,
                crf=arguments.crf,
                preset=arguments.preset,
                overwrite=arguments.force,
                resume=arguments.resume,
                progress=show,
            )
        except KeyboardInterrupt:
            if can_resume(target):
                partial = partial_name(target)
                kept = f"{partial} holds the finished part; " if partial.exists() else ""
                say(f"{kept}--resume continues the run")
            raise
    rate = (done.computed + done.repeated) / max(done.seconds, 1e-9)
    say(
        f"wrote {target}: {done.frames} frames, {done.repeated} of them repeated, "
        f"{rate:.1f} frames/s with {model}{others}"
    )
    return 0


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
    if scale == 4:
        return models.for_video("balanced", 4), ""
    sharper = "; sharper and slower: --quality balanced or best"
    return models.for_video("realtime", 2), sharper
