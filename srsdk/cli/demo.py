"""`srsdk demo`: open a local demo page in the browser."""

from __future__ import annotations

import argparse
import threading

from srsdk.cli.arguments import add_model_arguments, model_name, positive
from srsdk.cli.terminal import say
from srsdk.scheduling.waiting import TICK_S


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk demo`."""
    add_model_arguments(command, "2, 3 and 4, to choose on the page")
    command.add_argument(
        "--port", type=positive, help="port of the page (default: the first free one from 7860)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve the page on this machine until Ctrl-C."""
    from srsdk.serving import demo

    chosen = any(getattr(arguments, name) is not None for name in ("model", "kind", "scale"))
    model = model_name(arguments) if chosen else None
    names = ("device", "backend", "provider", "tile", "threads", "precision", "tune")
    options = {name: getattr(arguments, name) for name in names}
    ended = threading.Event()
    with demo.serve(model, port=arguments.port, **options) as address:
        say(f"{address} (press Ctrl-C to stop)")
        # wait with a timeout, repeatedly: on Windows Ctrl-C interrupts no other wait
        while not ended.wait(TICK_S):
            pass
    return 0
