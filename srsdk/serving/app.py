"""HTTP service of one process, as an ASGI application: `srsdk serve`, or any server.

uvicorn --factory srsdk.serving.app:make_app

POST /            upscale one picture: the raw body, or the file of a form
GET  /healthz     200 if pictures can be upscaled, otherwise 503 (liveness)
GET  /readyz      200 if the next picture would be accepted, otherwise 503 (readiness)
GET  /info        metadata of the model, and the limits
GET  /metrics     counts for Prometheus
GET  /docs        the interface, to read and to try; /openapi.json for programs
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Any

import srsdk
from srsdk.errors import BackendError, SrsdkError
from srsdk.serving.answers import Work, default_budget
from srsdk.serving.asgi import Answer, json_answer, refusal
from srsdk.serving.limits import Limits

try:
    import fastapi
    from fastapi.exceptions import RequestValidationError
    from fastapi_offline import FastAPIOffline
    from starlette.exceptions import HTTPException
    from starlette.responses import RedirectResponse, Response

    from srsdk.serving.http import openapi
    from srsdk.serving.http.door import Door
    from srsdk.serving.http.metrics import Metrics
    from srsdk.serving.http.queries import Query, sentence_of
    from srsdk.serving.service import Service
except ImportError as failure:
    raise BackendError(f"the server needs {failure.name}: pip install 'srsdk[http]'") from failure


def make_app(
    model: str | os.PathLike[str] = "gan_x4",
    *,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    limits: Limits | None = None,
    **options: Any,
) -> Door:
    """Build the ASGI application; it closes its Upscaler when the server shuts down.

    Args:
        model: as for `Upscaler`.
        hosts: names in the `Host` header that are served, with `:PORT` or for any port; None: all,
            for a server behind a proxy that checks them.
        origins: web pages of other hosts that may use the service, such as `https://example.com`;
            requests from all others are refused.
        limits: of each request and of all together.
        options: passed to `Upscaler`; `budget` replaces the limits on pictures.

    Raises:
        SrsdkError: as for `Upscaler`.
    """
    limits = limits or Limits()
    up = srsdk.Upscaler(model, **open_options(options, limits))
    try:
        return application(up, hosts=hosts, origins=origins, limits=limits, metrics=Metrics())
    except SrsdkError:
        up.close()
        raise


def open_options(options: dict[str, Any], limits: Limits | None = None) -> dict[str, Any]:
    """Return the arguments of a service's Upscaler."""
    limits = limits or Limits()
    budget = default_budget(limits.pixels, limits.seconds)
    return {"optimize": "throughput", "budget": budget, **options}


def application(
    up: Any,
    *,
    hosts: Collection[str] | None = None,
    origins: Collection[str] = (),
    limits: Limits | None = None,
    metrics: Metrics | None = None,
    submit: Callable[[Work], Awaitable[Answer]] | None = None,
) -> Door:
    """Build the application around an open Upscaler.

    Args:
        up: the Upscaler.
        hosts: see `make_app`.
        origins: see `make_app`.
        limits: see `make_app`.
        metrics: counts requests and is served at `/metrics`; None: neither.
        submit: see `Service`.
    """
    service = Service(up, limits=limits, submit=submit)
    app = FastAPIOffline(
        title="srsdk",
        version=srsdk.__version__,
        description=openapi.DESCRIPTION.format(model=up.manifest.name, scale=up.scale),
        redoc_url=None,
        # the validator's badge would send the address of this service to another one
        swagger_ui_parameters={"validatorUrl": None, "defaultModelsExpandDepth": -1},
    )
    _add_errors(app)
    _add_picture(app, service, metrics)
    _add_state(app, service)
    if metrics is not None:
        _add_metrics(app, service, metrics)
    return Door(app, service, hosts=hosts, origins=origins, metrics=metrics)


def _add_picture(app: fastapi.FastAPI, service: Service, metrics: Metrics | None) -> None:
    @app.post("/", response_class=Response, **openapi.PICTURE)
    async def upscale(
        request: fastapi.Request, query: Annotated[Query, fastapi.Query()]
    ) -> Response:
        """Upscale one picture: the body of the request, or the one file of a form."""
        answer = await service.respond(request.scope, request.receive, query)
        if metrics is not None and answer.pixels is not None:
            metrics.add_pixels(*answer.pixels)
        return _response(answer)

    @app.get("/", include_in_schema=False)
    async def start(request: fastapi.Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")


def _add_state(app: fastapi.FastAPI, service: Service) -> None:
    @app.get("/healthz", **openapi.probe("Whether pictures can be upscaled (liveness)"))
    async def health() -> Response:
        """Upscale a small picture, unless one was upscaled in the last seconds."""
        return _response(await service.health())

    @app.get("/readyz", **openapi.probe("Whether a picture would be accepted (readiness)"))
    async def ready() -> Response:
        """Answer 503 while as many pictures are in work as the queue holds."""
        return _response(service.readiness())

    @app.get("/info", **openapi.told("Metadata of the model, and limits", openapi.JSON))
    async def info() -> Response:
        """Return what the model file says of itself, where it runs, and the limits."""
        up = service.up
        found = {"backend": up.backend, "device": up.device, "srsdk": srsdk.__version__}
        limits = {"limits": dataclasses.asdict(service.limits)}
        return _response(json_answer({**up.manifest.to_dict(), **found, **limits}))


def _add_metrics(app: fastapi.FastAPI, service: Service, metrics: Metrics) -> None:
    in_flight = "Pictures that are received, wait, are in work or are sent"
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "srsdk_in_flight": (in_flight, lambda: service.ongoing),
        "srsdk_queue_length": ("Pictures that wait for a thread", lambda: service.waiting),
        "srsdk_queue_limit": ("Largest srsdk_in_flight", lambda: service.limits.queue),
    }
    metrics.watch(service.up.manifest.name, service.up.backend, gauges)

    @app.get("/metrics", **openapi.told("Counts for Prometheus", openapi.TEXT))
    async def scrape() -> Response:
        """Return counters in the text format of Prometheus."""
        return _response(metrics.answer())


def _add_errors(app: fastapi.FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def known(request: fastapi.Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        sentence = f"{request.method} {request.scope['path'][:200]}: {error.detail}"
        if error.status_code == 405 and request.scope["path"] == "/":
            headers["Allow"], sentence = "GET, POST", "POST a picture file; GET shows how"
        return _response(refusal(error.status_code, sentence, **headers, connection="close"))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: fastapi.Request, error: RequestValidationError) -> Response:
        return _response(refusal(422, sentence_of(error.errors()), connection="close"))

    @app.exception_handler(Exception)
    async def unknown(_: fastapi.Request, __: Exception) -> Response:
        # the server logs it with its traceback
        return _response(refusal(500, "an error of the server; its log says more"))


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, headers=answer.all_headers)
