"""IOC and database killed at random moments over runs under way, and what has to be true afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import caproto
from attpc_plugins.run_history.embedded.processes import servers_in
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import Run, RunFilter, Stage
from attpc_plugins.run_history.store.model.puts import PutFilter, PutPage

from attpc_ioc.eventlog.log import RECORD_LIMIT_S
from attpc_ioc.model.states import State
from tests.ca.raw import NORMAL, Raw, raw_client
from tests.support.forked import Forked, forked
from tests.support.patience import PATIENCE_S
from tests.support.postgres import DATABASE, ROLE, url_of
from tests.support.puts import INT, RawPut, as_chars, packed
from tests.support.rig import EXPERIMENT, Rig
from tests.support.state_dir import query


@dataclass
class Seen:
    """What the clients saw completed, and what was done to the system."""

    titles: list[str] = field(default_factory=list)
    """Those whose puts were on record before they were answered, and not given up by the limit of that."""
    started: list[int] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    starts_tried: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    during: Counter[str] = field(default_factory=Counter)
    """In which state of the run the kills came."""


class Client:
    """A Channel Access client over one connection, which ends with the IOC."""

    def __init__(self, raw: Raw, prefix: str) -> None:
        self._raw = raw
        self._prefix = prefix
        self._sids: dict[str, int] = {}
        self._ioid = 0

    async def _sid(self, name: str) -> int:
        if name not in self._sids:
            self._sids[name] = (await self._raw.channel(self._prefix + name)).sid
        return self._sids[name]

    async def put(self, put: RawPut, limit_s: float = PATIENCE_S) -> bool:
        """Put and wait for completion; tells whether it succeeded. `ConnectionError` when the IOC is gone."""
        sid = await self._sid(put.name)
        self._ioid += 1
        self._raw.send(put.message(sid, self._ioid))
        answer = await self._raw.until(caproto.WriteNotifyResponse, limit_s)
        return int(answer.header.parameter1) == NORMAL

    async def get(self, name: str) -> int:
        """Read a number."""
        sid = await self._sid(name)
        self._ioid += 1
        self._raw.send(caproto.ReadNotifyRequest(caproto.ChannelType.LONG, 1, sid, self._ioid))
        answer: Any = await self._raw.until(caproto.ReadNotifyResponse)
        return int(answer.data[0])

    async def get_text(self, name: str) -> str:
        """Read a long text."""
        sid = await self._sid(name)
        self._ioid += 1
        self._raw.send(caproto.ReadNotifyRequest(caproto.ChannelType.CHAR, 0, sid, self._ioid))
        answer: Any = await self._raw.until(caproto.ReadNotifyResponse)
        return bytes(answer.data).rstrip(b"\0").decode()


class Torture:
    """One rig's fleet, an IOC process with an embedded database, and its killer."""

    def __init__(self, it: Rig, data: Path, rng: random.Random) -> None:
        self.it = it
        self.seen = Seen()
        self._data = data
        self._rng = rng
        self._ioc: Forked | None = None
        self._log = (it.settings_file.parent / "ioc.log").open("ab")
        self._titles = 0

    # ------------------------------------------------------------------ processes

    async def start_ioc(self) -> None:
        self._ioc = await forked(
            "tests.support.history_ioc", self.it.settings_file, env=self.it.place.env, stderr=self._log
        )

    def kill_database(self) -> None:
        """SIGKILL to every process of the server; each is known by the folder that it works in."""
        for process in servers_in(self._data / "data", self._data / "server.lock"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    async def end_ioc(self, number: signal.Signals) -> None:
        assert self._ioc is not None
        if self._ioc.returncode is None:
            self._ioc.send_signal(number)
        await self._ioc.wait()

    async def close(self) -> None:
        if self._ioc is not None and self._ioc.returncode is None:
            await self.end_ioc(signal.SIGKILL)
        self.kill_database()
        self._log.close()

    # ------------------------------------------------------------------ clients

    @contextlib.asynccontextmanager
    async def client(self) -> Any:
        """Connect as soon as the IOC answers; `ConnectionError` when it does not for long."""
        end_s = time.monotonic() + 30
        while True:
            try:
                async with raw_client(self.it.place.port) as raw:
                    yield Client(raw, self.it.prefix)
                    return
            except ConnectionRefusedError as error:
                if time.monotonic() > end_s:
                    raise ConnectionError("the IOC does not answer") from error
                await asyncio.sleep(0.02)

    async def _for_ever(self, one: Any) -> None:
        """Do something over one connection after the other."""
        while True:
            with contextlib.suppress(ConnectionError, TimeoutError, OSError):
                async with self.client() as client:
                    await one(client)

    async def _put_titles(self, client: Client) -> None:
        while True:
            self._titles += 1
            title = f"title {self._titles}"
            begun_s = time.monotonic()
            if await client.put(as_chars("Run:Title", title)) and time.monotonic() - begun_s < RECORD_LIMIT_S:
                self.seen.titles.append(title)
            await asyncio.sleep(0.01)

    async def _run_runs(self, client: Client) -> None:
        while True:
            await client.put(packed("Run:Stop", INT, 1))
            await client.put(packed("GoTo", INT, State.READY))
            self.seen.starts_tried += 1
            if not await client.put(packed("Run:Start", INT, 1)):
                await asyncio.sleep(0.05)
                continue
            number = await client.get("Run:Number_RBV")
            self.seen.started.append(number)
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))
            if await client.put(packed("Run:Stop", INT, 1)):
                self.seen.stopped.append(number)

    # ------------------------------------------------------------------ the whole

    async def prepare(self) -> None:
        """Start for the first time, give the experiment and select the configs."""
        await self.start_ioc()
        async with self.client() as client:
            end_s = time.monotonic() + 30
            while not await client.put(as_chars("Config", EXPERIMENT)):
                assert time.monotonic() < end_s, "the configs cannot be selected"
                await asyncio.sleep(0.05)
            assert await client.put(as_chars("Run:Experiment", EXPERIMENT))
        await self._until_recording()

    async def _until_recording(self, limit_s: float = PATIENCE_S) -> None:
        """Wait until the history is well, or at least does not stand in the way any more."""
        end_s = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(ConnectionError, TimeoutError, OSError):
                async with self.client() as client:
                    while "database" in (said := await client.get_text("Plugin:run_history:Message_RBV")):
                        assert time.monotonic() < end_s, f"the history does not come back: {said}"
                        await asyncio.sleep(0.02)
                    return
            assert time.monotonic() < end_s, "the IOC does not come back"

    async def _until_started(self, limit_s: float = 5.0) -> bool:
        """Wait until runs are started and stopped again, for some seconds at most; tells whether they are."""
        before, end_s = len(self.seen.started), time.monotonic() + limit_s
        while len(self.seen.started) == before and time.monotonic() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return len(self.seen.started) > before

    async def run(self, kills: int) -> None:
        """Kill so often, each time at a random moment of work under way."""
        clients = [asyncio.create_task(self._for_ever(one)) for one in (self._put_titles, self._run_runs)]
        try:
            for _ in range(kills):
                await self._until_recording()
                if self._rng.random() < 0.8:
                    await self._until_started()
                await asyncio.sleep(self._rng.uniform(0.0, 0.6))
                kind = self._rng.choice(("IOC", "database", "both"))
                self.seen.kills[kind] += 1
                boards = [s.state.label for s in self.it.fleet.servers.values()]
                self.seen.during["/".join(sorted(set(boards)))] += 1
                if kind != "IOC":
                    self.kill_database()
                if kind != "database":
                    await self.end_ioc(signal.SIGKILL)
                    await self.start_ioc()
            await self._until_recording()
            assert await self._until_started(60), "after all that no run can be started"
        finally:
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        async with self.client() as client:
            # What a client that has gone had begun may still be at work.
            end_s = time.monotonic() + 20
            while not await client.put(packed("Run:Stop", INT, 1)):
                assert time.monotonic() < end_s, await client.get_text("Run:Message_RBV")
                await asyncio.sleep(0.05)
        await self._until_recording()
        await self._until_recorded()
        await self.end_ioc(signal.SIGTERM)

    async def _until_recorded(self, limit_s: float = PATIENCE_S) -> None:
        """Wait until the database has the event log; what comes later it gets at the next start."""
        newest = "SELECT max(position) FROM event WHERE kind = 'put' OR kind LIKE 'run.%'"
        ((position,),) = query(self.it.settings_file.parent / "state", newest)
        end_s = time.monotonic() + limit_s
        connection = await self._connected(end_s)
        try:
            while (
                found := await connection.fetchval(
                    "SELECT coalesce(max(position), 0) FROM attpc.log_positions"
                )
            ) < position:
                assert time.monotonic() < end_s, f"the database has events up to {found} of {position} only"
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async def _connected(self, end_s: float) -> asyncpg.Connection:
        """Connect to the database as soon as it answers: after the last kill it may be starting still."""
        while True:
            socket = EmbeddedServer(self._data, purpose="the test").found_socket()
            try:
                return await asyncpg.connect(f"postgresql://{ROLE}@/{DATABASE}?host={socket}")
            except (OSError, asyncpg.CannotConnectNowError):
                if time.monotonic() > end_s:
                    raise
            await asyncio.sleep(0.05)

    async def check(self) -> str:
        """See that all is true that has to be; returns what there is in a line."""
        server = EmbeddedServer(self._data, purpose="the test")
        await server.start_soon()
        try:
            store = await Store.connect(url_of(server))
            try:
                runs = await _runs(store)
                titles = await _titles(store, f"{self.it.prefix}Run:Title")
            finally:
                await store.close()
        finally:
            await server.stop_soon()
        self._check_runs(runs)
        missing = {title: titles[title] for title in self.seen.titles if titles[title] != 1}
        assert not missing, f"puts that a client saw completed and the database has not once, but: {missing}"
        seen = self.seen
        return (
            f"{sum(seen.kills.values())} kills {dict(seen.kills)} in {dict(seen.during)}; "
            f"{seen.starts_tried} starts tried, {len(seen.started)} seen, {len(runs)} runs recorded "
            f"{Counter(str(run.outcome) for run in runs)}, numbers 0 to {max(run.number for run in runs)}; "
            f"{len(seen.titles)} puts seen, {titles.total()} recorded"
        )

    def _check_runs(self, runs: list[Run]) -> None:
        by_number = {run.number: run for run in runs}
        assert len(by_number) == len(runs), "a number was given twice"
        assert len(set(self.seen.started)) == len(self.seen.started), "two starts had one number"
        for number in self.seen.started:
            assert number in by_number, f"run {number} was seen started and is not recorded"
            assert by_number[number].started_at is not None, f"run {number} is recorded as never started"
        for number in self.seen.stopped:
            assert by_number[number].stage is Stage.ENDED, f"run {number} was seen stopped"
        started = [run for run in runs if run.started_at is not None]
        starts = self.it.fleet.log.sequence().count("mutant.Start")
        assert len(started) <= starts, f"{len(started)} runs recorded, the MuTAnT was started {starts} times"
        still_open = [run.number for run in runs if run.stage is not Stage.ENDED]
        assert not still_open, f"runs that nobody closed: {still_open}"
        for run in started:
            assert run.stopped_at is not None
            assert run.started_at is not None
            assert run.stopped_at >= run.started_at


async def _runs(store: Store) -> list[Run]:
    found: list[Run] = []
    page = await store.runs(RunFilter(experiment=EXPERIMENT), limit=500)
    found += page.runs
    while page.next is not None:
        page = await store.runs(RunFilter(experiment=EXPERIMENT), limit=500, after=page.next)
        found += page.runs
    return found


async def _titles(store: Store, pv: str) -> Counter[str]:
    found: Counter[str] = Counter()
    page: PutPage = await store.puts(PutFilter(pv=pv), limit=1000)
    while True:
        found.update(put.new for put in page.puts)
        if page.next is None:
            return found
        page = await store.puts(PutFilter(pv=pv), limit=1000, after=page.next)
