"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from srsdk.serving.asgi import Answer

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of Prometheus' text format."""


class Metrics:
    """Counts of one service; each has a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._requests = Counter(
            "srsdk_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "srsdk_request_seconds",
            "Time from the headers of a request to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._pixels = Counter(
            "srsdk_pixels", "Pixels of upscaled pictures", ["direction"], registry=registry
        )
        self._bytes = Counter(
            "srsdk_bytes", "Bytes of request and answer bodies", ["direction"], registry=registry
        )
        self._model = Info("srsdk_model", "The model in use", registry=registry)

    def watch(
        self, name: str, backend: str, gauges: dict[str, tuple[str, Callable[[], float]]]
    ) -> None:
        """Show the model, and values that are read when Prometheus asks.

        Args:
            name: of the model.
            backend: that runs it.
            gauges: description and reader by name.
        """
        self._model.info({"name": name, "backend": backend})
        for gauge, (text, reader) in gauges.items():
            Gauge(gauge, text, registry=self._registry).set_function(reader)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one request; `route` is one of a few, never what a client invents."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def add_pixels(self, source_px: int, result_px: int) -> None:
        """Count the pixels of one picture and of its result."""
        self._pixels.labels("in").inc(source_px)
        self._pixels.labels("out").inc(result_px)

    def add_bytes(self, received: int, sent: int) -> None:
        """Count what one request and its answer held."""
        self._bytes.labels("in").inc(received)
        self._bytes.labels("out").inc(sent)

    def answer(self) -> Answer:
        """Return all of it in the text format of Prometheus."""
        return Answer(200, generate_latest(self._registry), TEXT)
