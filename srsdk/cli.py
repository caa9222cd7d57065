"""The command line: one function for each command, and what all of them share."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image

import srsdk
from srsdk import (
    cli_pictures,
    compare,
    doctor,
    folder,
    jobs,
    models,
    models_cli,
    pictures,
    scale_cli,
    tune_cli,
    verify,
)
from srsdk.arguments import make_parser
from srsdk.call import Progress
from srsdk.errors import SrsdkError, UsageError
from srsdk.terminal import progress, say

log = logging.getLogger("srsdk")

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 after a failure, 2 after a wrong call, 130 after Ctrl-C."""
    try:
        code = _run(argv)
    except UsageError as error:
        say(str(error))
        return EXIT_USAGE
    except SrsdkError as error:
        say(str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("stopped")
        return EXIT_INTERRUPTED
    except ImportError as error:
        if not _interrupted(error):
            raise
        say("stopped")
        return EXIT_INTERRUPTED
    except OSError as error:
        # where the reader of our output has left there is nothing to say
        if not isinstance(error, BrokenPipeError):
            say(str(error))
        _drop_output()
        return EXIT_FAILED
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = make_parser(COMMANDS).parse_args(argv)
    logging.basicConfig(format="srsdk: %(message)s", level=logging.WARNING)
    # Pillow warns at half of the size at which it refuses; the refusal is what counts
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.showwarning = _show_warning
    if argv is None:
        _prepare_process()
    if arguments.verbose:
        logging.getLogger("srsdk").setLevel(logging.INFO)
    code: int = arguments.run(arguments)
    sys.stdout.flush()
    return code


def _prepare_process() -> None:
    """Set up what belongs to the whole process, and so to the program alone."""
    # what stops a container, a service or (SIGBREAK) a console of Windows leaves as much behind as
    # Ctrl-C
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    # on Windows a pipe takes the characters of one code page; the error stream escapes by itself
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a library that is stopped as it loads raises its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def upscale(arguments: argparse.Namespace) -> int:
    """Upscale files and folders; a bad file costs one line, the others are still done."""
    options = cli_pictures.options(arguments)
    if arguments.ray is not None:
        cli_pictures.check_plain(arguments, options)
        return scale_cli.upscale(arguments, _model_name(arguments))
    for place in (*arguments.sources, arguments.output):
        if not isinstance(place, Path):
            raise UsageError(f"{place} is the address of a store: add --ray")
    plan = jobs.plan(arguments.sources, arguments.output, recursive=arguments.recursive)
    for problem in plan.problems:
        say(problem)
    single = len(plan.jobs) + len(plan.problems) == 1
    count = Counter(failed=len(plan.problems))
    with (
        folder.report_to(arguments.report) as report,
        cli_pictures.open_models(arguments, "latency" if single else "throughput") as up,
        progress(_title(plan), "tile" if single else "picture", lines=not single) as show,
    ):
        outcomes = folder.run(
            plan.jobs,
            partial(_upscale_one, up, arguments, options),
            threads=arguments.jobs or up.ahead,
            skip=plan.into_folder and not arguments.force,
            progress=show if single else None,
        )
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    count[outcome.status] += 1
                    report(outcome)
                    _tell(outcome, single)
                    if show is not None and not single:
                        show(count.total() - len(plan.problems), len(plan.jobs))
        finally:
            if not single:
                say(_summary(count))
    return EXIT_FAILED if count["failed"] else 0


def _upscale_one(
    up: srsdk.Chain,
    arguments: argparse.Namespace,
    options: srsdk.PictureOptions,
    job: jobs.Job,
    show: Progress | None,
) -> None:
    beside = job.target.with_name(f"{job.target.stem}_compare.png")
    if arguments.compare:
        pictures.check_target(beside, overwrite=arguments.force)
    up.upscale_file(
        job.source, job.target, options=options, overwrite=arguments.force, progress=show
    )
    if arguments.compare:
        compare.write(job.source, job.target, beside)
        say(f"wrote {beside} (bicubic left, {up.name} right)")


def _tell(outcome: folder.Outcome, single: bool) -> None:
    if outcome.status == "failed":
        say(outcome.error)
    elif outcome.status == "skipped" and single:
        say(f"{outcome.job.target} exists and is left as it is; --force replaces it")
    elif outcome.status == "done" and (single or log.isEnabledFor(logging.INFO)):
        say(f"wrote {outcome.job.target}")


def _summary(count: Counter[str]) -> str:
    skipped = f"{count['skipped']} skipped, " if count["skipped"] else ""
    return f"{count['done']} done, {skipped}{count['failed']} failed"


def _title(plan: jobs.Plan) -> str:
    return plan.jobs[0].source.name if len(plan.jobs) == 1 else "pictures"


def upscale_video(arguments: argparse.Namespace) -> int:
    """Upscale a video; all but its pixels stays as it is."""
    from srsdk import video

    target: Path = arguments.target
    with (
        _open(arguments, _model_name(arguments), "throughput") as up,
        progress(arguments.source.name, "frame") as show,
    ):
        try:
            done = video.upscale(
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
            partial_file = video.partial_name(target)
            plays = f"{partial_file} holds what is done; " if partial_file.exists() else ""
            say(f"{plays}--resume goes on from here")
            raise
    rate = (done.computed + done.repeated) / max(done.seconds, 1e-9)
    say(
        f"wrote {target}: {done.frames} frames, {done.repeated} of them repeated, "
        f"{rate:.1f} frames/s"
    )
    return 0


def compare_two(arguments: argparse.Namespace) -> int:
    """Put two pictures side by side, or under a slider."""
    compare.compare(arguments.a, arguments.b, arguments.output, overwrite=arguments.force)
    say(f"wrote {arguments.output}")
    return 0


def show_demo(arguments: argparse.Namespace) -> int:
    """Open a page on this machine until Ctrl-C."""
    return scale_cli.show_demo(arguments, _model_name(arguments))


def show_doctor(arguments: argparse.Namespace) -> int:
    """Show versions and devices, what works, and the command that mends what does not."""
    checks = doctor.examine()
    if arguments.json:
        sys.stdout.write(json.dumps([check.to_dict() for check in checks], indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(str(check) for check in checks) + "\n")
    return 0 if doctor.can_upscale(checks) else EXIT_FAILED


def _open(
    arguments: argparse.Namespace, model: str, optimize: Literal["latency", "throughput"]
) -> srsdk.Upscaler:
    up = srsdk.Upscaler(
        model,
        device=arguments.device,
        backend=arguments.backend,
        tile=arguments.tile,
        threads=arguments.threads,
        optimize=optimize,
        tune=arguments.tune,
    )
    log.info("%r", up)
    return up


def _model_name(arguments: argparse.Namespace) -> str:
    if arguments.model is None:
        return models.default(arguments.kind or "photo", int(arguments.scale or 4))
    for name in ("scale", "kind"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--model and --{name} exclude each other: that picks a model too")
    return str(arguments.model)


def _drop_output() -> None:
    """Throw away what Python would still flush when it ends, and fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Libraries' warnings, each once (Python's default), in one line."""
    say(f"warning: {message}")


COMMANDS = {
    "upscale": upscale,
    "video": upscale_video,
    "compare": compare_two,
    "demo": show_demo,
    "info": models_cli.info,
    "models": models_cli.show,
    "verify": verify.show,
    "tune": tune_cli.show,
    "doctor": show_doctor,
}
