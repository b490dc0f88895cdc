"""A whole simulated fleet in one process: ECC servers, boards, data routers, configuration files.

async with SimulatedFleet(cobos=3) as fleet:
    fleet["cobo0"].faults.hang("Configure")
    ...
    calls = list(fleet.log)
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from attpc_ioc.model.states import Kind

from .boards import Board, Clock, Node
from .calls import CallLog
from .client import Answer, call_ecc
from .data.hosts import DataHosts
from .data.logfile import LogFile
from .data.options import DataOptions
from .data.settings_tables import data_routers_tables
from .documents import Link, config_id, link_table
from .durations import BRISK, Durations
from .routers import DataRouter
from .server import EccServer, ServerOptions
from .settings_text import settings_text, source_table
from .xcfg import XcfgFolder, write_default_folder

EXPERIMENTS = ("e20009", "pulser")
MUTANT = "Mutant[master]"


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """One ECC server of the fleet: its name, its boards by sender id, and the rule for its describe name."""

    name: str
    kind: Kind
    boards: tuple[str, ...]
    describe: str


class SimulatedFleet:
    """`cobos` CoBos and a MuTAnT, one ECC server each (`cobo0`…, `mutant`), or one server (`ecc`) for all.

    Arguments:
    - `durations`: how long transitions take (`BRISK`, `REAL`, `INSTANT`, or your own).
    - `xcfg`: the folder of configuration files. Where it has none, default ones are written (describe
      `cobo<i>` and, for the MuTAnT or for the one server, the names of `experiments`; configure the names of
      `experiments`); None takes a temporary directory.
    - `first_port`, `first_router_port`: ports in a row from there; 0 takes free ones.
    - `ports`: ports of ECC servers by name, taken where they are free.
    - `first_cobo`: number of the first CoBo.
    - `options`: further behaviour of all servers; its `durations` are replaced by `durations`.
    - `seed`: of the jitter.
    - `data`: the hosts on which the data routers write, and what they write; None: nothing is written.

    `boards`, `routers` and `data` are by sender id, such as `CoBo[0]` and `Mutant[master]`.
    """

    def __init__(
        self,
        cobos: int = 3,
        mutant: bool = True,
        *,
        durations: Durations = BRISK,
        one_server: bool = False,
        xcfg: Path | None = None,
        experiments: Sequence[str] = EXPERIMENTS,
        host: str = "127.0.0.1",
        first_port: int = 0,
        first_router_port: int = 0,
        ports: Mapping[str, int] | None = None,
        first_cobo: int = 0,
        options: ServerOptions | None = None,
        seed: int = 0,
        data: DataOptions | None = None,
    ) -> None:
        self.experiments = tuple(experiments)
        self.host = host
        self.clock = Clock()
        senders = [f"CoBo[{i}]" for i in range(first_cobo, first_cobo + cobos)] + [MUTANT] * mutant
        self.boards = {
            sender: Board(
                sender, self.clock, clock_master=sender == MUTANT, needs_clock=mutant and sender != MUTANT
            )
            for sender in senders
        }
        if one_server:
            self.plans = (ServerPlan("ecc", Kind.OTHER, tuple(senders), "{experiment}"),)
        else:
            self.plans = tuple(_plan(sender) for sender in senders)
        self.options = _with(options, durations)
        self._seed = seed
        self._first_port, self._first_router_port = first_port, first_router_port
        self._ports = dict(ports or {})
        self._given_xcfg = xcfg
        self._exit = contextlib.AsyncExitStack()
        self._log: CallLog | None = None
        self._xcfg: XcfgFolder | None = None
        self.servers: dict[str, EccServer] = {}
        self.routers: dict[str, DataRouter] = {}
        self._data = None if data is None else DataHosts(self.boards, self.routers, data, seed)

    @property
    def data(self) -> DataHosts:
        """The data hosts; raises `RuntimeError` if the fleet has none."""
        if self._data is None:
            raise RuntimeError("the simulated fleet was made without data hosts")
        return self._data

    @property
    def has_data(self) -> bool:
        """Whether there are data hosts."""
        return self._data is not None

    @property
    def ecc_logs(self) -> dict[str, Path]:
        """The log files of the ECC servers, by server name; only with data hosts."""
        return {server.name: server.journal.path for server in self if server.journal is not None}

    @property
    def log(self) -> CallLog:
        """Every call that any server received, except `GetState`."""
        if self._log is None:
            raise RuntimeError("the simulated fleet was not started")
        return self._log

    @property
    def xcfg(self) -> XcfgFolder:
        """The configuration files that all servers read."""
        if self._xcfg is None:
            raise RuntimeError("the simulated fleet was not started")
        return self._xcfg

    def __getitem__(self, name: str) -> EccServer:
        return self.servers[name]

    def __iter__(self) -> Iterator[EccServer]:
        return iter(self.servers.values())

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    async def _start(self) -> None:
        self._log = CallLog()
        self._xcfg = self._folder()
        for number, sender in enumerate(self.boards):
            port = self._first_router_port + number if self._first_router_port else 0
            router = self.routers[sender] = DataRouter(f"data{number}", self.host, port)
            await router.start()
            self._exit.push_async_callback(router.end)
        for board in self.boards.values():
            self._exit.callback(board.close_links)
        if self._data is not None:
            await self._data.start()
            self._exit.push_async_callback(self._data.stop)
        for number, plan in enumerate(self.plans):
            dice = random.Random(f"{self._seed} {plan.name}")
            server = EccServer(plan.name, self.boards, plan.boards, self.xcfg, self.log, self.options, dice)
            server.journal = self._journal(plan.boards[0])
            self._begin(server, self._first_port + number if self._first_port else 0)
            self.servers[plan.name] = server
            self._exit.push_async_callback(server.end)

    def _begin(self, server: EccServer, port: int) -> None:
        if wanted := self._ports.get(server.name):
            with contextlib.suppress(OSError):
                server.start(self.host, wanted)
                return
        server.start(self.host, port)

    def _journal(self, sender: str) -> LogFile | None:
        """Return the log of the ECC server whose first board is `sender`, on that board's data host."""
        return None if self._data is None else LogFile(self._data[sender].logs / "getEccSoapServer.log")

    def _folder(self) -> XcfgFolder:
        if self._given_xcfg is not None:
            if any(self._given_xcfg.glob("*.xcfg")):
                return XcfgFolder(self._given_xcfg)
            return write_default_folder(self._given_xcfg, self.default_describes(), self.experiments)
        path = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="attpc-xcfg-")))
        return write_default_folder(path, self.default_describes(), self.experiments)

    def default_describes(self) -> dict[str, tuple[Node, ...]]:
        """Return the default describe files: names and the boards in each."""
        found: dict[str, tuple[Node, ...]] = {}
        for plan in self.plans:
            nodes = tuple(self._node(sender) for sender in plan.boards)
            names = self.experiments if plan.describe == "{experiment}" else (plan.describe,)
            found |= dict.fromkeys(names, nodes)
        return found

    def _node(self, sender: str) -> Node:
        kind, _, rest = sender.partition("[")
        number = list(self.boards).index(sender)
        return Node(kind, rest.rstrip("]"), f"127.0.0.{2 + number % 250}", 46001)

    # What clients of the fleet need

    def links(self, name: str) -> tuple[Link, ...]:
        """Return the data links of the server `name`, to the fleet's own routers."""
        return tuple(
            Link(sender, self.routers[sender].name, self.host, self.routers[sender].port, _link_type(sender))
            for sender in self._plan(name).boards
        )

    def config(self, name: str, experiment: str | None = None) -> str:
        """Return the full config name (`describe/prepare/configure`) of a server for an experiment."""
        experiment = experiment or self.experiments[0]
        describe = self._plan(name).describe.replace("{experiment}", experiment)
        return f"{describe}/{experiment}/{experiment}"

    def _plan(self, name: str) -> ServerPlan:
        return next(plan for plan in self.plans if plan.name == name)

    async def call(
        self,
        name: str,
        operation: str,
        *,
        config: str | None = None,
        config_id_xml: str | None = None,
        table: str | None = None,
        command: str = "",
        timeout_s: float = 10.0,
    ) -> Answer:
        """Call an operation from outside, over real HTTP, with valid documents unless others are given.

        Raises what `call_ecc` raises.
        """
        server = self[name]
        document = config_id(config or self.config(name)) if config_id_xml is None else config_id_xml
        return await call_ecc(
            server.host,
            server.port,
            operation,
            config_id=document,
            table=link_table(self.links(name)) if table is None else table,
            command=command,
            timeout_s=timeout_s,
        )

    def settings_toml(
        self,
        prefix: str = "SIM:",
        state_dir: str | Path | None = None,
        *,
        data_routers: bool = False,
        **sections: str,
    ) -> str:
        """Return a settings file for an IOC of this fleet.

        `sections` are further lines by section, such as `poll="quiet_period_s = 0.1"`; `ioc` adds to `[ioc]`.
        `data_routers` writes the tables `[plugins.data_routers]` for the data hosts too.
        """
        ecc = [
            {
                "name": plan.name,
                "host": self[plan.name].host,
                "port": self[plan.name].port,
                "kind": plan.kind.value,
                "describe": plan.describe,
                "source": [source_table(link) for link in self.links(plan.name)],
            }
            for plan in self.plans
        ]
        routers = data_routers_tables(self.data, self.xcfg.path, self.ecc_logs) if data_routers else None
        return settings_text(prefix, state_dir, ecc, sections, routers)


def _plan(sender: str) -> ServerPlan:
    if sender == MUTANT:
        return ServerPlan("mutant", Kind.MUTANT, (sender,), "{experiment}")
    name = sender.replace("[", "").rstrip("]").lower()
    return ServerPlan(name, Kind.COBO, (sender,), name)


def _link_type(sender: str) -> str:
    return "FDT" if sender == MUTANT else "TCP"


def _with(options: ServerOptions | None, durations: Durations) -> ServerOptions:
    return replace(options or ServerOptions(), durations=durations)
