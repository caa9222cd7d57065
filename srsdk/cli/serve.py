"""`srsdk serve`: upscale pictures over HTTP."""

from __future__ import annotations

import argparse
import socket
import sys
from contextlib import closing, suppress
from typing import Any

from srsdk.cli.arguments import EXIT_FAILED, add_model_arguments, model_name, positive
from srsdk.cli.terminal import is_quiet, say
from srsdk.errors import UsageError
from srsdk.inference.planner import parse_bytes
from srsdk.serving import server
from srsdk.serving.answers import MAX_PIXELS, TIMEOUT_S
from srsdk.serving.bodies import MAX_BYTES
from srsdk.serving.guard import LOOPBACK
from srsdk.serving.limits import MAX_ONGOING, Limits

ANY = "*"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk serve`."""
    add_model_arguments(command)
    _add_network(command.add_argument_group("network"))
    _add_limits(command.add_argument_group("limits"))


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--host",
        default=server.LOOPBACK,
        help="address to listen on; 0.0.0.0: all of this machine, for a container or behind a "
        "proxy (default: this machine only, %(default)s)",
    )
    group.add_argument("--port", type=_port, default=8000, help="0: any (default: %(default)s)")
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer requests that name the server NAME or NAME:PORT in their Host header; "
        "*: all, behind a proxy that checks them (repeatable)",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="also answer web pages of URL, such as https://example.com (repeatable)",
    )
    group.add_argument(
        "--no-access-log", action="store_true", help="do not write a line for each request"
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-body",
        type=_bytes,
        default=MAX_BYTES,
        metavar="SIZE",
        help="largest request body, such as 16MiB (default: 64MiB)",
    )
    group.add_argument(
        "--max-pixels",
        type=positive,
        default=MAX_PIXELS,
        metavar="N",
        help="largest picture before upscaling, in pixels (default: %(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help="longest time for one picture, with waiting (default: %(default)g)",
    )
    group.add_argument(
        "--queue",
        type=positive,
        default=MAX_ONGOING,
        metavar="N",
        help="pictures that wait or are in work at a time; more get status 503 (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--grace",
        type=_seconds,
        default=server.GRACE_S,
        metavar="SECONDS",
        help="time to finish what is in work after SIGTERM or Ctrl-C (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; return 0, or 1 if pictures in work were cut off."""
    server.check_installed()
    from srsdk.serving.app import make_app

    model = model_name(arguments)
    names = ("device", "backend", "provider", "tile", "threads", "precision", "tune")
    options = {name: getattr(arguments, name) for name in names}
    limits = Limits(
        body_bytes=arguments.max_body,
        pixels=arguments.max_pixels,
        seconds=arguments.timeout,
        queue=arguments.queue,
    )
    # a port that is taken is known before the model is opened
    with server.listen(arguments.host, arguments.port) as bound:
        options |= {"hosts": _hosts(arguments), "origins": arguments.allow_origin}
        with closing(make_app(model, limits=limits, **options)) as app:
            finished = _serve(app, bound, arguments)
    say("stopped" if finished else "stopped; pictures in work were cut off")
    return 0 if finished else EXIT_FAILED


def _serve(app: Any, bound: socket.socket, arguments: argparse.Namespace) -> bool:
    if not (arguments.no_access_log or is_quiet()):
        server.log_requests(sys.stderr)
    up, address = app.service.up, server.address_of(bound)

    def ready() -> None:
        where = f"{up.manifest.name} x{up.scale} {up.manifest.precision}, {up.backend}"
        say(f"ready at {address} ({where} on {up.device}); {address}docs shows how to use it")

    return server.run(app, bound, grace_s=arguments.grace, ready=ready)


def _hosts(arguments: argparse.Namespace) -> list[str] | None:
    """Return the names that are served; None: all."""
    if ANY in arguments.allow_host:
        return None
    host = arguments.host
    own = [] if host in ("0.0.0.0", "::") else [f"[{host}]" if ":" in host else host]
    return [*LOOPBACK, *own, *arguments.allow_host]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port, 0 to 65535")
    return int(text)


def _bytes(text: str) -> int:
    try:
        size = parse_bytes(text)
    except UsageError:
        size = None
    if not size:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes, or a size such as 16MiB")
    return size


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 1e9:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected seconds above 0")
