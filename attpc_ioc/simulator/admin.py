"""The administration of a running simulator: a small HTTP endpoint with JSON.

`GET /` returns the state of everything, `GET /calls?last=20` the last calls; `POST /fault` switches a fault.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attpc_ioc.errors import Refused

from .calls import Call
from .data.host import DataHost
from .data.orders import Amounts, HostFault, clear, faults_on, has, switch
from .faults import Faults
from .fleet import SimulatedFleet
from .messages import OPERATIONS
from .server import EccServer

_BY_OPERATION = ("slow", "hang", "fail", "lie", "fail-but-move", "lose-reply")
_BY_HOST = tuple(HostFault)
_BY_BOARD = ("board-dead", "router-down", *_BY_HOST)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FaultOrder(_Model):
    """An order to switch a fault of one server (or of `all`) on or off; see `Faults` for the values.

    Beside the faults there are `router-down` (the data routers of a server), those of `HostFault` (the hosts
    of those routers) and `clear` (all off).
    """

    server: str
    fault: Literal[
        "slow",
        "hang",
        "stall",
        "refuse",
        "fail",
        "lie",
        "fail-but-move",
        "lose-reply",
        "die",
        "board-dead",
        "off",
        "router-down",
        "host-down",
        "host-hung",
        "host-slow",
        "disk-full",
        "data-stop",
        "data-slow",
        "data-endless",
        "data-late",
        "data-behind",
        "data-lose",
        "data-reset",
        "data-shift",
        "data-clock",
        "data-torn",
        "data-full",
        "sentry-old",
        "sentry-disk",
        "sentry-deaf",
        "sentry-kill",
        "sentry-term",
        "clear",
    ]
    on: bool = True
    operation: str | None = None
    board: str | None = None
    factor: Annotated[float, Field(gt=0)] = 1.0
    extra_s: Annotated[float, Field(ge=0)] = 0.0
    events: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    nth: Annotated[int, Field(ge=1)] = 1
    # None: until switched off
    times: Annotated[int | None, Field(ge=1)] = None
    code: int | None = None
    message: str = "Exception: simulated failure."


class ServerStatus(_Model):
    """One ECC server, with the faults that are on."""

    name: str
    url: str
    alive: bool
    state: str
    transition: str
    polls: int
    faults: tuple[str, ...]


class BoardStatus(_Model):
    """One board and its data router."""

    id: str
    alive: bool
    state: str
    owner: str
    clock_stale: bool
    router: str
    router_running: bool
    connections: int


class HostStatus(_Model):
    """The host of a data router, with the faults that are on; `address` is empty where it is a folder."""

    name: str
    board: str
    access: str
    address: str
    staging: str
    writing: str
    files: int
    bytes: int
    faults: tuple[str, ...]


class FleetStatus(_Model):
    """The state of everything."""

    servers: tuple[ServerStatus, ...]
    boards: tuple[BoardStatus, ...]
    hosts: tuple[HostStatus, ...] = ()


class CallStatus(_Model):
    """One call; times are the machine's monotonic clock in seconds, `line` is for people."""

    server: str
    operation: str
    begin_s: float
    end_s: float | None
    outcome: str
    code: int | None
    state_after: int | None
    line: str


class Calls(_Model):
    """The last calls, newest last."""

    calls: tuple[CallStatus, ...]


class Said(_Model):
    """What was done, or why not."""

    message: str


def status(fleet: SimulatedFleet) -> FleetStatus:
    """Return the state of everything."""
    servers = tuple(
        ServerStatus(
            name=server.name,
            url=server.url,
            alive=server.alive,
            state=server.state.label,
            transition=server.transition.label,
            polls=server.polls,
            faults=tuple(f"{fault.name} {fault.operation or ''}".strip() for fault in server.faults),
        )
        for server in fleet
    )
    boards = tuple(
        BoardStatus(
            id=board.id,
            alive=board.alive,
            state=board.state.label,
            owner=board.owner,
            clock_stale=board.clock_stale,
            router=f"{fleet.routers[board.id].host}:{fleet.routers[board.id].port}",
            router_running=fleet.routers[board.id].running,
            connections=fleet.routers[board.id].connections,
        )
        for board in fleet.boards.values()
    )
    hosts = tuple(_host_status(host) for host in fleet.data) if fleet.has_data else ()
    return FleetStatus(servers=servers, boards=boards, hosts=hosts)


def _host_status(host: DataHost) -> HostStatus:
    sizes = host.sizes()
    return HostStatus(
        name=host.name,
        board=host.board.id,
        access=host.access,
        address="" if host.gate is None else f"{host.gate.host}:{host.gate.port}",
        staging=str(host.staging),
        writing=host.writing,
        files=len(sizes),
        bytes=sum(sizes),
        faults=tuple(faults_on(host)),
    )


async def obey(fleet: SimulatedFleet, order: FaultOrder) -> str:
    """Carry out `order` and return what was done; raises `Refused` if it is invalid."""
    if order.server != "all" and order.server not in fleet.servers:
        raise Refused(f"there is no server {order.server!r}; there are {', '.join(fleet.servers)}, and all")
    if order.operation is not None and order.fault not in (*_BY_OPERATION, "clear"):
        raise Refused(f"{order.fault} is not about an operation")
    if order.operation is not None and order.operation not in OPERATIONS:
        raise Refused(f"there is no operation {order.operation!r}; there are {', '.join(OPERATIONS)}")
    if order.board is not None and order.fault not in _BY_BOARD:
        raise Refused(f"{order.fault} is not about a board")
    if order.board is not None and order.board not in fleet.boards:
        raise Refused(f"there is no board {order.board!r}; there are {', '.join(fleet.boards)}")
    if order.fault in _BY_HOST and not fleet.has_data:
        raise Refused(f"{order.fault} is about data hosts, and this simulator has none: start it with --data")
    for server in fleet if order.server == "all" else (fleet[order.server],):
        await _obey_one(fleet, server, order)
    about = order.operation or order.board
    done = "cleared" if order.fault == "clear" else f"{order.fault} is {'on' if order.on else 'off'}"
    return f"{order.server}: {done}" + (f" for {about}" if about else "")


async def _obey_one(fleet: SimulatedFleet, server: EccServer, order: FaultOrder) -> None:
    boards = server.home if order.board is None else (order.board,)
    if order.fault == "router-down":
        for board in boards:
            router = fleet.routers[board]
            await (router.stop() if order.on else router.start())
    elif order.fault in _BY_HOST:
        for board in boards:
            host = fleet.data[board]
            # `all` means every host that supports this fault.
            if order.server != "all" or order.board is not None or has(host, HostFault(order.fault)):
                await _switch_host(host, order)
    elif order.fault == "clear":
        server.faults.clear(operation=order.operation)
        if order.operation is None:
            for board in boards:
                await fleet.routers[board].start()
                if fleet.has_data:
                    await clear(fleet.data[board])
    elif not order.on:
        server.faults.clear(order.fault, order.operation or order.board)
    else:
        _switch_on(server.faults, order)


async def _switch_host(host: DataHost, order: FaultOrder) -> None:
    # Values that were not given have the fault's defaults, so that a bare `data-slow` has an effect.
    amounts = Amounts(
        factor=None if order.factor == 1.0 else order.factor,
        extra_s=None if order.extra_s == 0.0 else order.extra_s,
        events=order.events,
    )
    await switch(host, HostFault(order.fault), order.on, amounts)


def _switch_on(faults: Faults, order: FaultOrder) -> None:
    match order.fault:
        case "slow":
            faults.slow(order.operation, factor=order.factor, extra_s=order.extra_s)
        case "hang":
            faults.hang(order.operation)
        case "stall":
            faults.stall()
        case "refuse":
            faults.refuse()
        case "fail":
            faults.fail(
                order.operation, nth=order.nth, times=order.times, code=order.code, message=order.message
            )
        case "lie":
            faults.lie(order.operation)
        case "fail-but-move":
            faults.fail_but_move(order.operation, code=order.code, message=order.message)
        case "lose-reply":
            faults.lose_reply(order.operation)
        case "die":
            faults.die()
        case "board-dead":
            faults.board_dead(order.board)
        case "off":
            faults.off()


class Admin:
    """The endpoint of one fleet; `port` 0 means any free one."""

    def __init__(self, fleet: SimulatedFleet, host: str = "127.0.0.1", port: int = 0) -> None:
        self._fleet = fleet
        self.host = host
        self.port = port
        app = web.Application()
        app.router.add_get("/", self._status)
        app.router.add_get("/calls", self._calls)
        app.router.add_post("/fault", self._fault)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{self.host}:{self.port}/"

    async def start(self) -> None:
        """Listen; raises `OSError` if the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(status(self._fleet))

    async def _calls(self, request: web.Request) -> web.Response:
        last = request.query.get("last", "20")
        if not (last.isascii() and last.isdigit()):
            return _json(Said(message=f"last must be a number, not {last!r}"), 400)
        calls = list(self._fleet.log)[-int(last) :] if int(last) else []
        return _json(Calls(calls=tuple(_call_status(call) for call in calls)))

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            order = FaultOrder.model_validate_json(await request.read())
            return _json(Said(message=await obey(self._fleet, order)))
        except Refused as refusal:
            return _json(Said(message=str(refusal)), 400)
        except ValidationError as fault:
            where = [(".".join(map(str, error["loc"])), error["msg"]) for error in fault.errors()]
            lines = [": ".join(filter(None, words)) for words in where]
            return _json(Said(message="\n".join(lines)), 400)


@asynccontextmanager
async def taking_orders(fleet: SimulatedFleet, port: int) -> AsyncIterator[Admin]:
    """Take orders for `fleet` during a block, on `port` or, if that is taken, on any free one."""
    admin = Admin(fleet, port=port)
    try:
        await admin.start()
    except OSError:
        admin = Admin(fleet)
        await admin.start()
    try:
        yield admin
    finally:
        await admin.stop()


def _call_status(call: Call) -> CallStatus:
    return CallStatus(
        server=call.server,
        operation=call.operation,
        begin_s=call.begin_s,
        end_s=call.end_s,
        outcome=call.outcome,
        code=call.code,
        state_after=None if call.state_after is None else int(call.state_after),
        line=str(call),
    )


def _json(model: BaseModel, status_code: int = 200) -> web.Response:
    return web.Response(text=model.model_dump_json(), content_type="application/json", status=status_code)
