"""Times of the queries of screens and shell with a million runs, and their plans.

Run it as `python -m benchmarks.history_queries` (about a minute, 2 GB of disk in a temporary folder); the
goal is 20 ms for each. `--plans` prints the plans, `--runs` changes the number of runs, `--dsn` uses an EMPTY
database of a server instead of one made for this.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from attpc_plugins.run_history.embedded.server import DATABASE, ROLE, EmbeddedServer
from attpc_plugins.run_history.store import Store, prepare_schema
from attpc_plugins.run_history.store.model.history import Quality, RunFilter
from attpc_plugins.run_history.store.model.leases import Holder
from attpc_plugins.run_history.store.model.puts import PutFilter

from attpc_ioc.model.run import RunClass

GOAL_MS = 20.0
REPEATS = 15
FIRST = datetime(2015, 1, 1, tzinfo=UTC)
"""The first run's start; the others follow every five minutes."""

GENERATE = (
    (
        "experiments",
        """
        INSERT INTO attpc.experiments (name, is_current, chosen_at)
        SELECT 'e' || n, n = 0, CASE WHEN n = 0 THEN now() END FROM generate_series(0, 10) n
        """,
    ),
    (
        "runs",
        # One experiment has half of all runs, one in a hundred is Junk, one in a thousand Bad, none Partial.
        """
        INSERT INTO attpc.runs
            (experiment_id, number, state, run_class, title, operator, comment, quality, fleet, ioc,
             attempt, start_commanded_at, started_at, last_running_at, stopped_at, outcome)
        SELECT e.id, CASE WHEN n % 20 < 10 THEN n / 20 * 10 + n % 20 ELSE n / 20 END,
               'ended', CASE WHEN n % 100 = 7 THEN 'Junk' WHEN n % 3 = 0 THEN 'Beam' ELSE 'Production' END,
               'Ar46 on target ' || n % 997, 'shift ' || n % 31,
               CASE WHEN n % 10000 = 5 THEN 'sparking near pad ' || n ELSE 'all well' END,
               CASE WHEN n % 1000 = 3 THEN 'Bad' WHEN n % 4 = 0 THEN 'Good' ELSE 'Unknown' END,
               'fleet', 'ATTPC:', 'a' || n, t, t + interval '3 seconds', t + interval '4 minutes',
               t + interval '4 minutes', CASE WHEN n % 500 = 0 THEN 'interrupted' ELSE 'stopped' END
        FROM generate_series(0, $1::integer - 1) n
        CROSS JOIN LATERAL (SELECT timestamptz '2015-01-01Z' + n * interval '5 minutes' AS t) times
        JOIN attpc.experiments e ON e.name = 'e' || CASE WHEN n % 20 < 10 THEN 0 ELSE n % 20 - 9 END
        """,
    ),
    (
        "run_modules",
        """
        INSERT INTO attpc.run_modules (run_id, name, position, kind, url, describe, prepare, configure)
        SELECT r.id, 'cobo' || m, m, 'cobo', 'http://192.168.41.' || 60 + m || ':8083', 'd', 'p', 'c'
        FROM attpc.runs r CROSS JOIN generate_series(0, 10) m WHERE r.id % 20 = 5
        """,
    ),
    (
        "observables",
        """
        INSERT INTO attpc.observables (experiment_id, name, kind, position)
        SELECT e.id, 'o' || n, 'float', n FROM attpc.experiments e CROSS JOIN generate_series(0, 19) n
        """,
    ),
    (
        "measurements",
        """
        INSERT INTO attpc.measurements
            (run_id, observable_id, moment, number, kind, float_value, measured_at)
        SELECT r.id, o.id, 'start', r.number, 'float', r.number, r.started_at
        FROM attpc.runs r JOIN attpc.observables o ON o.experiment_id = r.experiment_id AND o.position < 10
        WHERE r.id % 20 = 5
        """,
    ),
    (
        "events",
        """
        INSERT INTO attpc.events (run_id, happened_at, kind)
        SELECT r.id, r.started_at, k FROM attpc.runs r CROSS JOIN unnest(ARRAY['started', 'stopped']) k
        WHERE r.id % 5 = 0
        """,
    ),
    (
        "puts",
        """
        INSERT INTO attpc.puts (put_at, pv, by_user, ok)
        SELECT timestamptz '2015-01-01Z' + n * interval '5 minutes', 'ATTPC:PV' || n % 300, 'u' || n % 9,
               n % 50 > 0
        FROM generate_series(0, $1::integer - 1) n
        """,
    ),
    (
        "log_entries",
        """
        INSERT INTO attpc.log_entries (logged_at, level, text)
        SELECT timestamptz '2015-01-01Z' + n * interval '1 hour',
               CASE n % 3 WHEN 0 THEN 'warning' ELSE 'info' END,
               'entry ' || n
        FROM generate_series(0, $1::integer / 10) n
        """,
    ),
)

INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'attpc' AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE conindid = ('attpc.' || indexname)::regclass)
"""


class Recording(Store):
    """A store that records its statements, so that they can be explained."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[Any] = []

    @contextlib.asynccontextmanager
    async def _use(self, limit_s: float | None = None) -> AsyncIterator[Any]:
        async with super()._use(limit_s) as connection:
            with connection.query_logger(self.seen.append):
                yield connection


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a screen or a command."""

    name: str
    ask: Callable[[Store], Awaitable[object]]


def queries(count: int) -> Iterator[Query]:
    """Yield the queries of screens and shell."""
    middle = FIRST + count // 2 * timedelta(minutes=5)
    deep = count // 4
    first_page = RunFilter(experiment="e0")

    async def second_page(store: Store) -> object:
        page = await store.runs(first_page)
        return await store.runs(first_page, after=page.next)

    def runs(name: str, **which: Any) -> Query:
        return Query(name, lambda store: store.runs(RunFilter(**which)))

    yield Query("last 50 runs, all experiments", lambda store: store.last_runs(50))
    yield Query("last 50 runs, one experiment", lambda store: store.last_runs(50, experiment="e0"))
    yield Query("a page and the next", second_page)
    yield runs("numbers 200000 to 200100", experiment="e0", number_from=200_000, number_to=200_100)
    yield runs("numbers up to a quarter", experiment="e0", number_to=deep)
    yield runs("a day in the middle", since=middle, until=middle + timedelta(days=1))
    year = {"since": middle, "until": middle + timedelta(days=365)}
    yield runs("a year in the middle, one experiment", experiment="e3", **year)
    yield runs("everything before the middle, one experiment", experiment="e0", until=middle)
    yield runs("class Beam", experiment="e0", run_class=RunClass.BEAM)
    yield runs("class Junk (one in a hundred)", experiment="e0", run_class=RunClass.JUNK)
    yield runs("class Pulser (none)", run_class=RunClass.PULSER)
    yield runs("class Junk in a year", run_class=RunClass.JUNK, **year)
    yield runs("quality Bad (one in a thousand)", experiment="e0", quality=Quality.BAD)
    yield runs("quality Partial (none)", experiment="e0", quality=Quality.PARTIAL)
    yield runs("class Junk and quality Bad (none)", run_class=RunClass.JUNK, quality=Quality.BAD)
    yield runs("a common word", experiment="e0", text="target")
    yield runs("a common word, all experiments", text="well")
    yield runs("a rare word", text="sparking")
    yield runs("a rare word in one experiment", experiment="e0", text="sparking")
    yield runs("two words, one begun", text="sparking pa")
    yield runs("a word that nobody used", text="unheard")
    yield runs("common and rare class", experiment="e0", text="target", run_class=RunClass.JUNK)
    yield Query("one run with all its details", lambda store: store.run("e0", deep // 10 * 10 + 4))
    yield Query("the open run of a fleet (none)", lambda store: store.open_run("fleet"))
    yield Query("the next number", lambda store: store.next_number("e0"))
    yield Query("all experiments", lambda store: store.experiments())
    yield Query("the run sheet as in the run before", lambda store: store.previous_values("e0", deep))
    yield Query("the newest 100 puts", lambda store: store.puts())
    yield Query("puts of one PV", lambda store: store.puts(PutFilter(pv="ATTPC:PV17")))
    yield Query("puts of one user that failed", lambda store: store.puts(PutFilter(user="u3", failed=True)))
    yield Query("the last 20 warnings", lambda store: store.log_entries())
    yield Query("renew the lease", lambda store: store.acquire_lease("fleet", Holder("A:", "h", "b")))


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run a server in a temporary folder and yield its URL."""
    folder = Path(tempfile.mkdtemp(prefix="attpc-bench-"))
    folder.chmod(0o711)
    quick = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
    server = EmbeddedServer(folder / "db", options=quick, purpose="the benchmark")
    try:
        server.start()
        yield f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(server.socket), safe='')}"
    finally:
        server.stop()
        shutil.rmtree(folder)


async def generate(dsn: str, count: int) -> None:
    """Make the schema and fill it."""
    await prepare_schema(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        # Rows first, indexes and checks of references after: in a tenth of the time, and the same in the end.
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET session_replication_role = replica")
        await connection.execute("SET maintenance_work_mem = '256MB'")
        indexes = await connection.fetch(INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX attpc.{index['indexname']}")
        for name, statement in GENERATE:
            began = time.monotonic()
            done = await connection.execute(statement, *((count,) if "$1" in statement else ()))
            print(f"{name}: {done.split()[-1]} rows in {time.monotonic() - began:.1f} s", flush=True)
        began = time.monotonic()
        for index in indexes:
            await connection.execute(index["indexdef"])
        await connection.execute("VACUUM ANALYZE")
        print(f"indexes: {len(indexes)} in {time.monotonic() - began:.1f} s", flush=True)
    finally:
        await connection.close()


async def measure(dsn: str, count: int, plans: bool) -> bool:
    """Time every query and print a table; return whether all met the goal."""
    store = await Recording.connect(dsn)
    good = True
    try:
        print(f"\n{'query':<48}{'median ms':>10}{'worst ms':>10}")
        for query in queries(count):
            times: list[float] = []
            for _ in range(REPEATS):
                store.seen.clear()
                began = time.perf_counter()
                await query.ask(store)
                times.append((time.perf_counter() - began) * 1000)
            median = statistics.median(times)
            good = good and median < GOAL_MS
            verdict = "" if median < GOAL_MS else "  TOO SLOW"
            print(f"{query.name:<48}{median:>10.2f}{max(times):>10.2f}{verdict}")
            if plans:
                await explain(dsn, store.seen)
    finally:
        await store.close()
    return good


async def explain(dsn: str, seen: list[Any]) -> None:
    """Print the plans of a query's statements."""
    connection = await asyncpg.connect(dsn, server_settings={"plan_cache_mode": "force_custom_plan"})
    try:
        for logged in seen:
            if not logged.query.lstrip().startswith("SELECT"):
                continue
            lines = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) {logged.query}", *logged.args)
            print("\n".join(f"    {line[0]}" for line in lines))
    finally:
        await connection.close()


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--dsn", default="")
    options = parser.parse_args()

    async def everything(dsn: str) -> bool:
        await generate(dsn, options.runs)
        return await measure(dsn, options.runs, options.plans)

    with contextlib.nullcontext(options.dsn) if options.dsn else own_server() as dsn:
        return 0 if asyncio.run(everything(dsn)) else 1


if __name__ == "__main__":
    sys.exit(main())
