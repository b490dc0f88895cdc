"""Two IOCs with a fleet each, on one database and one experiment, start runs at the same time.

    python -m benchmarks.history_two_iocs [starts of each]

Both are separate processes, commanded by Channel Access; the database is durable. The exit code is not
0 if a number was given twice, or a run differs in the database.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.store import prepare_schema

from tests.support.postgres import url_of
from tests.support.two_iocs import check, two_iocs


async def main(starts: int, folder: Path) -> None:
    """Race, check and print."""
    monkeypatch = pytest.MonkeyPatch()
    server = EmbeddedServer(folder / "db", purpose="the benchmark")
    await server.start_soon()
    try:
        dsn = url_of(server)
        await prepare_schema(dsn)
        first, second = await two_iocs(folder, monkeypatch, dsn, starts)
        await check(dsn, first, second)
    finally:
        monkeypatch.undo()
        await server.stop_soon()
    given = first.numbers + second.numbers
    changes = sum(a in first.numbers and a + 1 in second.numbers for a in given)
    took_s = max(first.ended_s, second.ended_s) - min(first.began_s, second.began_s)
    print(
        f"{len(first.numbers)} + {len(second.numbers)} starts at once in {took_s:.1f} s: "
        f"{len(set(given))} distinct numbers, {min(given)} to {max(given)}; "
        f"{changes} times the second IOC had the next number after the first"
    )


if __name__ == "__main__":
    # A folder that any account may pass, because the database is no server of root's.
    place = Path(tempfile.mkdtemp(prefix="attpc-two-"))
    place.chmod(0o711)
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, place))
    shutil.rmtree(place)
