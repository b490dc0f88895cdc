"""A hostile or broken PostgreSQL server: no client of the IOC notices, runs stop, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.store.model.history import Stage
from attpc_plugins.run_history.store.model.puts import PutFilter

from tests.support.ca import eventually, free_port
from tests.support.child import Child, child, echo_ms, forget_peak, high, peak_kb
from tests.support.history import EXPERIMENT, reading
from tests.support.iocprocess import IocProcess, ioc_process
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, rig

from .hostile_postgres import GOOD, all_ways
from .ways import each_once

MOST_ECHO_MS = 50.0
MOST_MORE_KB = 32 * 1024
STATUS = "Plugin:run_history:Status_RBV"
MESSAGE = "Plugin:run_history:Message_RBV"


@dataclass
class Place:
    """An IOC whose database is behind a server that may misbehave."""

    it: Rig
    ioc: IocProcess
    hostile: Child
    dsn: str

    async def says(self, of_the_database: bool) -> None:
        """Wait until the plugin speaks of the database, or no more; it may say that its own disk is slow."""

        async def said() -> bool:
            return ("atabase" in await self.it.get_text(MESSAGE)) == of_the_database

        await eventually(said, f"{MESSAGE} with{'' if of_the_database else 'out'} the database", PATIENCE_S)


@contextlib.asynccontextmanager
async def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: EmbeddedServer, dsn: str
) -> AsyncIterator[Place]:
    port = free_port()
    behind = f'dsn = "{dsn.replace("@/", f"@127.0.0.1:{port}/").partition("?")[0]}"'
    async with (
        rig(
            tmp_path, monkeypatch, cobos=1, mutant=False, start=False, **{"plugins.run_history": behind}
        ) as it,
        contextlib.AsyncExitStack() as stack,
    ):
        socket = f"{server.socket}/.s.PGSQL.5432"
        module = "tests.security.hostile_postgres"
        hostile = await stack.enter_async_context(child(module, str(port), socket, env=it.place.env))
        program = ("tests.support.history_ioc", "--eager")
        ioc = await stack.enter_async_context(ioc_process(it, program))
        its = Place(it, ioc, hostile, dsn)
        await its.says(of_the_database=False)
        yield its


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_nobody_notices_a_hostile_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedServer, dsn: str
) -> None:
    async with (
        place(tmp_path, monkeypatch, postgres_server, dsn) as its,
        contextlib.AsyncExitStack() as stack,
    ):
        it, ioc, hostile = its.it, its.ioc, its.hostile
        pv = f"{it.prefix}Ecc:cobo0:State_RBV"
        echo = await stack.enter_async_context(
            child("tests.security.echo", str(ioc.pid), pv, env=it.place.env)
        )
        usual = high(json.loads(await echo.ask("200")))
        most_ms = max(MOST_ECHO_MS, 3 * usual)
        forget_peak(ioc.pid)
        before_kb = peak_kb(ioc.pid)
        slow, large, quiet, titles = {}, {}, {}, []
        for number, way in enumerate(each_once(all_ways(), "LOGIN", "QUERY")):
            took_ms = await echo_ms(way, hostile, echo, most_ms)
            if took_ms > most_ms:
                slow[way] = round(took_ms)
            if (more_kb := peak_kb(ioc.pid) - before_kb) > MOST_MORE_KB:
                large[way] = more_kb
                forget_peak(ioc.pid)
            await its.says(of_the_database=True)
            said = await it.get_text(MESSAGE)
            # `caget` escapes what its terminal would obey.
            if "\\x" in said or len(said) > 1000:
                quiet[way] = said
            titles.append(f"{number} {way}"[:39])
            await it.ok("Run:Title", titles[-1])
        assert (slow, large, quiet) == ({}, {}, {}), f"usual {usual:.1f} ms, {before_kb} kB"
        await hostile.ask(GOOD)
        await its.says(of_the_database=False)
        async with reading(dsn) as store:

            async def arrived() -> bool:
                puts = await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"), limit=1000)
                return [put.new for put in puts.puts] == titles[::-1]

            await eventually(arrived, "every title in the history, in order")
        # asyncpg's connection to a server that names no version is not made, and its end trips over that.
        ignored = {at + 1 for at, line in enumerate(ioc.log) if line.startswith("Exception ignored in")}
        faults = [line for at, line in enumerate(ioc.log) if "Traceback" in line and at not in ignored]
        assert not [line for line in ioc.log if "unexpectedly" in line] + faults
        assert max(map(len, ioc.log)) < 20_000


WHILE_A_RUN_IS_ON = ("CONNECT:silence", "LOGIN:notices", "QUERY:types of zero", "QUERY:drip", "ROWS:rows")


async def test_a_run_is_stopped_and_recorded_whatever_the_database_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: EmbeddedServer, dsn: str
) -> None:
    async with place(tmp_path, monkeypatch, postgres_server, dsn) as its:
        it = its.it
        await it.ok("Run:Experiment", EXPERIMENT)
        await it.ok("Config", EXPERIMENT)
        await it.ok("GoTo", "Ready")
        for number, way in enumerate(WHILE_A_RUN_IS_ON):
            await its.says(of_the_database=False)
            await it.ok("Run:Start")
            await its.hostile.ask(way)
            await its.says(of_the_database=True)
            assert await it.get(STATUS) == "Degraded"
            await it.ok("Run:Stop")
            await it.refused("Run:Start", because="database")
            await its.hostile.ask(GOOD)
            async with reading(dsn) as store:

                async def ended(store=store, number=number) -> bool:
                    run = (await store.run(EXPERIMENT, number)).run
                    return run.stage is Stage.ENDED and run.stopped_at is not None

                await eventually(ended, f"run {number} in the history")
