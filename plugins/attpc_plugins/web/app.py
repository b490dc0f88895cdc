"""The web application: what every request passes, and the operations of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import CommandName
from attpc_ioc.plugin import PluginContext
from attpc_ioc.pvs.table import PvEntry

from . import metrics
from .client import client_of
from .door import Requests, guard_of
from .live import Live
from .operations import Operation, Parameter, document, packed
from .page import Page
from .plots import Plots
from .problems import Problem
from .proving import retry_after
from .puts import PutBody, Puts
from .repeats import Repeats
from .rights import CALLER, CSRF_HEADER, Rights, caller_of
from .runs import RunPages
from .settings import WebSettings
from .shown import PvRow, PvValue, row_of, value_of
from .signin import Signing
from .streaming import Streams
from .tokens import Tokens

log = get_logger(__name__)

API = "/api/v1"
MAX_BODY = 64 * 1024
"""Bytes of the body of a request."""

STOPS = frozenset((CommandName.STOP, CommandName.ABORT))

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

    def __init__(self, ctx: PluginContext, settings: WebSettings, tokens: Tokens) -> None:
        self._ctx = ctx
        self._pvs = ctx.pvs
        self._settings = settings
        self._requests = Requests(settings.requests_per_s)
        self._rows = [row_of(entry) for entry in self._pvs.table.values()]
        self._metrics = metrics.Metrics(self._pvs)
        self._page = Page()
        self.live = Live(self._pvs)
        self._rights = Rights(self._pvs, settings, ctx, tokens)
        self._runs = RunPages(ctx, self._rights)
        self.plots = Plots(self._pvs, self._rights)
        self._repeats = Repeats(ctx)
        self._puts = Puts(self._pvs, self._rights, self._repeats)
        self._signing = Signing(self._rights)
        self._streams = Streams(self.live, self._rights)
        self.operations = self._operations()
        self._document = document(self.operations, settings.url)
        self._public = frozenset(
            (*(operation.path for operation in self.operations if operation.public), *self._page.paths)
        )

    def application(self) -> web.Application:
        """Return aiohttp's application."""
        app = web.Application(middlewares=[self._around], client_max_size=MAX_BODY)
        for operation in self.operations:
            app.router.add_route(operation.method, operation.path, operation.handler)
        for path in self._page.paths:
            app.router.add_get(path, self._page.file)
        app.on_response_prepare.append(self._add_headers)
        return app

    async def close(self) -> None:
        """End the live streams and the requests that wait."""
        self.live.close()
        self._rights.close()
        await self._repeats.close()

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
            Operation(
                "PUT",
                f"{API}/pvs/{{name}}",
                self.put,
                "Write a PV: set something, or give a command",
                {200: PvValue, 202: PvValue},
                body=PutBody,
                parameters=(
                    name,
                    Parameter(
                        "wait",
                        "Answer when what that began has ended.",
                        schema={"type": "boolean", "default": False},
                    ),
                    Parameter(
                        "Idempotency-Key",
                        "Another request with the same key gets the answer of the first and begins nothing.",
                        "header",
                        {"type": "string", "maxLength": 100},
                    ),
                    Parameter(CSRF_HEADER, "For a session's cookie: csrf of the session.", "header"),
                ),
                problems=(401, 403, 404, 408, 409, 413, 415, 422),
            ),
            Operation("GET", f"{API}/snapshot", self.snapshot, "What every PV shows now", {200: Snapshot}),
            Operation(
                "GET",
                f"{API}/stream",
                self._streams.stream,
                "What changes: first an event `snapshot`, then `change`; each is a `Snapshot`, and at least "
                "one comes each second; `session`, without `csrf`, when rights have changed",
                {200: "text/event-stream"},
            ),
            *self._runs.operations(API),
            *self.plots.operations(API),
            *self._signing.operations(API),
            Operation(
                "GET",
                f"{API}/openapi.json",
                self.openapi,
                "This document",
                {200: "application/json"},
                public=True,
            ),
            Operation("GET", "/metrics", self.metrics, "PVs that are numbers, for Prometheus", {200: text}),
            Operation("GET", "/healthz", self.healthz, "Whether the IOC is alive", {200: text}, public=True),
            Operation(
                "GET", "/readyz", self.readyz, "Whether EPICS clients are answered", {200: text}, public=True
            ),
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
            await self._check(request)
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

    async def _check(self, request: web.Request) -> None:
        if not self._is_known(request.host):
            raise Problem(
                421,
                f"this page is not known as {request.host!r}; its names: names in [plugins.web]",
            )
        host = client_of(request, self._settings.proxy).host
        if not self._is_stop(request) and (wait_s := self._requests.wait_s(host)):
            raise Problem(
                429,
                f"more than {self._settings.requests_per_s:g} requests a second from {host}",
                headers=retry_after(wait_s),
            )
        caller = request[CALLER] = await self._rights.caller(request)
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical not in self._public:
            self._rights.check_view(caller)

    def _is_stop(self, request: web.Request) -> bool:
        """Return whether somebody stops something, which never waits for how many requests there are."""
        entry = self._pvs.table.get(request.match_info.get("name", ""))
        return request.method == hdrs.METH_PUT and entry is not None and entry.row.command in STOPS

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

    def _named(self, request: web.Request) -> PvEntry:
        name = request.match_info["name"]
        if name not in self._pvs.table:
            raise Problem(404, f"there is no PV {name!r}; {API}/pvs lists all")
        if not self._pvs.may_read(name, caller_of(request).who):
            raise Problem(403, f"{name}: no read access")
        return self._pvs.table[name]

    # ------------------------------------------------------------------ PVs

    async def pvs(self, _request: web.Request) -> web.Response:
        """Return the rows."""
        return packed(self._rows)

    async def pv(self, request: web.Request) -> web.Response:
        """Return what a PV shows."""
        entry = self._named(request)
        return web.json_response(value_of(entry, self._pvs.read(entry.name)))

    async def put(self, request: web.Request) -> web.Response:
        """Write a PV."""
        return await self._puts.put(request, self._named(request))

    async def snapshot(self, request: web.Request) -> web.Response:
        """Return what every PV shows."""
        return packed(self.live.content(self._rights.hidden(caller_of(request))))

    # ------------------------------------------------------------------ the rest

    async def openapi(self, _request: web.Request) -> web.Response:
        """Return the OpenAPI document."""
        return web.json_response(self._document)

    async def metrics(self, request: web.Request) -> web.Response:
        """Return Prometheus text."""
        text = self._metrics.text(self._rights.hidden(caller_of(request)))
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
