"""The web application: what every request passes, and the operations of the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Who
from attpc_ioc.plugin import PluginContext

from . import metrics
from .door import Requests, guard_of
from .live import Live
from .operations import Operation, Parameter, document, packed
from .page import Page
from .plots import Plots
from .problems import Problem
from .runs import RunPages
from .settings import WebSettings
from .shown import PvRow, PvValue, row_of, value_of

log = get_logger(__name__)

API = "/api/v1"
MAX_BODY = 64 * 1024
"""Bytes of the body of a request."""

STALLED_S = 10.0
"""A page that has taken nothing for so long is dropped."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Of every answer."""


class Snapshot(BaseModel):
    """What every PV shows, as of one moment."""

    model_config = ConfigDict(extra="forbid")

    number: int
    """Of the last message of the live stream that it includes."""
    time: str
    pvs: dict[str, PvValue]


class WebApp:
    """The operations, for one IOC."""

    def __init__(self, ctx: PluginContext, settings: WebSettings) -> None:
        self._ctx = ctx
        self._pvs = ctx.pvs
        self._settings = settings
        self._requests = Requests(settings.requests_per_s)
        self._rows = [row_of(entry) for entry in self._pvs.table.values()]
        self._metrics = metrics.Metrics(self._pvs)
        self._page = Page()
        self._runs = RunPages(ctx)
        self.plots = Plots(self._pvs)
        self._streams: set[asyncio.Task[Any]] = set()
        self.live = Live(self._pvs)
        self.operations = self._operations()
        self._document = document(self.operations, settings.url)

    def application(self) -> web.Application:
        """Return aiohttp's application."""
        app = web.Application(middlewares=[self._around], client_max_size=MAX_BODY)
        for operation in self.operations:
            app.router.add_route(operation.method, operation.path, operation.handler)
        for path in self._page.paths:
            app.router.add_get(path, self._page.file)
        app.on_response_prepare.append(self._add_headers)
        return app

    def close(self) -> None:
        """End the live streams."""
        self.live.close()

    def _operations(self) -> tuple[Operation, ...]:
        name = Parameter("name", "The full name of a PV.", "path")
        text = "text/plain"
        return (
            Operation("GET", f"{API}/pvs", self.pvs, "The row of every PV", {200: [PvRow]}),
            Operation(
                "GET",
                f"{API}/pvs/{{name}}",
                self.pv,
                "What a PV shows now",
                {200: PvValue},
                parameters=(name,),
                problems=(403, 404),
            ),
            Operation("GET", f"{API}/snapshot", self.snapshot, "What every PV shows now", {200: Snapshot}),
            Operation(
                "GET",
                f"{API}/stream",
                self.stream,
                "What changes: first an event `snapshot`, then `change`; each is a `Snapshot`, and at least "
                "one comes each second",
                {200: "text/event-stream"},
            ),
            *self._runs.operations(API),
            *self.plots.operations(API),
            Operation("GET", f"{API}/openapi.json", self.openapi, "This document", {200: "application/json"}),
            Operation("GET", "/metrics", self.metrics, "PVs that are numbers, for Prometheus", {200: text}),
            Operation("GET", "/healthz", self.healthz, "Whether the IOC is alive", {200: text}),
            Operation("GET", "/readyz", self.readyz, "Whether EPICS clients are answered", {200: text}),
        )

    # ------------------------------------------------------------------ every request

    @web.middleware
    async def _around(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        guard = guard_of(request.transport)
        if guard is not None:
            guard.taken_up()
        try:
            self._check(request)
            return await handler(request)
        except Problem as problem:
            return problem.answer()
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            kept = {k: v for k, v in error.headers.items() if k in (hdrs.ALLOW,)}
            return Problem(error.status, _what(error, request), headers=kept).answer()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("request failed unexpectedly", path=request.path, method=request.method)
            return Problem(500, "a fault of the program; its log has the details").answer()
        finally:
            if guard is not None:
                guard.answered()

    def _check(self, request: web.Request) -> None:
        wait_s = self._requests.wait_s(request.remote or "")
        if wait_s:
            raise Problem(
                429,
                f"more than {self._settings.requests_per_s:g} requests a second from {request.remote}",
                headers={"Retry-After": str(max(1, round(wait_s)))},
            )
        if not self._is_known(request.host):
            raise Problem(
                421,
                f"this page is not known as {request.host!r}; its names: names in [plugins.web]",
            )

    def _is_known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.removeprefix("[").removesuffix("]").removesuffix(".").lower()
        if name in self._settings.known_names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers[hdrs.SERVER] = "attpc-ioc"

    def _who(self, request: web.Request) -> Who:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        host, port = (peer[0], peer[1]) if isinstance(peer, tuple) else ("", 0)
        return Who("", host, f"{host}:{port}", via="web")

    def _hidden(self, request: web.Request) -> frozenset[str]:
        who = self._who(request)
        return frozenset(name for name in self._pvs.table if not self._pvs.may_read(name, who))

    def _named(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self._pvs.table:
            raise Problem(404, f"there is no PV {name!r}; {API}/pvs lists all")
        if not self._pvs.may_read(name, self._who(request)):
            raise Problem(403, f"{name}: no read access")
        return name

    # ------------------------------------------------------------------ PVs

    async def pvs(self, _request: web.Request) -> web.Response:
        """Return the rows."""
        return packed(self._rows)

    async def pv(self, request: web.Request) -> web.Response:
        """Return what a PV shows."""
        name = self._named(request)
        return web.json_response(value_of(self._pvs.table[name], self._pvs.read(name)))

    async def snapshot(self, request: web.Request) -> web.Response:
        """Return what every PV shows."""
        return packed(self.live.content(self._hidden(request)))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send what changes until the client goes, or takes nothing any more."""
        hidden = self._hidden(request)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        number, news = self.live.number, self.live.everything(hidden)
        try:
            while True:
                async with asyncio.timeout(STALLED_S):
                    await response.write(news)
                number, news = await self.live.after(number, hidden)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return response

    # ------------------------------------------------------------------ the rest

    async def openapi(self, _request: web.Request) -> web.Response:
        """Return the OpenAPI document."""
        return web.json_response(self._document)

    async def metrics(self, request: web.Request) -> web.Response:
        """Return Prometheus text."""
        text = self._metrics.text(self._hidden(request))
        return web.Response(text=text, headers={hdrs.CONTENT_TYPE: f"{metrics.MEDIA}; charset=utf-8"})

    async def healthz(self, _request: web.Request) -> web.Response:
        """Answer, which only a living event loop does."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """Tell whether EPICS clients are answered."""
        if not self._ctx.ca_addresses:
            raise Problem(503, "the IOC is starting: EPICS clients are not answered yet")
        return web.Response(text="ok\n")


def _what(error: web.HTTPException, request: web.Request) -> str:
    match error.status:
        case 404:
            return f"there is no {request.path!r}; {API}/openapi.json lists what there is"
        case 405:
            allowed = error.headers.get(hdrs.ALLOW, "")
            return f"{request.path} has no {request.method}; it has {allowed}"
        case 413:
            return f"the body of a request has {MAX_BODY} bytes at most"
    return error.text or error.reason


async def json_body(request: web.Request) -> Any:
    """Return the body of a request, which is JSON; raises `Problem`."""
    if request.content_type != "application/json":
        raise Problem(415, f"the body must be application/json, not {request.content_type}")
    try:
        async with asyncio.timeout(10.0):
            return json.loads(await request.read())
    except TimeoutError:
        raise Problem(408, "the body did not arrive within 10 s") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
