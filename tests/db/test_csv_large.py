"""Long exports and imports: memory stays flat, and standard error tells how far they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.support.history_shell import IOC
from tests.support.thorough import examples

COMMAND = """
import atexit, sys, typer
from attpc_plugins.run_history.commands import transfer
from attpc_plugins.run_history.commands.lazy import add_commands

@atexit.register
def tell():
    # What the kernel tells of a child begins with the memory of its parent; this does not.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
    print(line.split()[1], file=sys.stderr)

transfer.LINE_EVERY_S = 0.05
app = typer.Typer()
add_commands(app)
app()
"""

FEW = 600
"""More than are read at a time."""
MANY = examples(2_000, 15_000)
COMMENT = "comment " * 1000
GROWTH_MB = 9.0
"""What so many runs may take more: 8 kB a run, no more than its comment, would be 12 MB."""

FILL = """
INSERT INTO attpc.experiments (name) VALUES ('e1') ON CONFLICT DO NOTHING;
INSERT INTO attpc.runs (experiment_id, number, state, outcome, title, comment, started_at, stopped_at)
SELECT (SELECT id FROM attpc.experiments WHERE name = 'e1'), n, 'ended', 'stopped', 'run ' || n,
       repeat('comment ', 1000), now() - n * interval '1 hour',
       now() - n * interval '1 hour' + interval '50 min'
FROM generate_series({first}, {last}) AS n;
INSERT INTO attpc.run_modules (run_id, name, position, kind, url, describe, prepare, configure)
SELECT r.id, 'cobo' || m, m, 'cobo', 'http://192.168.41.60:8083', 'cobo' || m, 'e1', 'e1'
FROM attpc.runs r, generate_series(0, 3) AS m WHERE r.number BETWEEN {first} AND {last};
"""


async def fill(dsn: str, first: int, last: int) -> None:
    """Add runs straight to the database."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(FILL.format(first=first, last=last))
    finally:
        await connection.close()


def measured(*words: object) -> tuple[float, str]:
    """Run a command in a process of its own; returns its largest resident set in MB, and what it said."""
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said, _, peak = ran.stderr.rstrip("\n").rpartition("\n")
    return int(peak) / 1024, said + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_memory_stays_flat_in_exports(dsn: str, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f'dsn = "{dsn}"\n')
    words = ("history", "export", "--format", kind, "--settings", file, "--output")
    await fill(dsn, 1, FEW)
    small_mb, said = measured(*words, tmp_path / "small")
    assert said.endswith(f"{FEW} runs exported\n")
    await fill(dsn, FEW + 1, MANY)
    large_mb, said = measured(*words, tmp_path / "large")
    assert said.endswith(f"{MANY} runs exported\n")
    assert "exporting: " in said
    assert f" of {MANY}\n" in said
    assert large_mb - small_mb < GROWTH_MB, (small_mb, large_mb)
    with (tmp_path / "large").open() as stream:
        assert sum(1 for _ in stream) == MANY + (kind == "csv")


@pytest.mark.slow
async def test_memory_stays_flat_in_imports(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f'dsn = "{dsn}"\n')
    runs = tmp_path / "runs.csv"

    def write(first: int, count: int) -> None:
        rows = (f"e1,{n},run {n},{COMMENT}\n" for n in range(first, first + count))
        runs.write_text("experiment,number,title,comment\n" + "".join(rows))

    words = ("history", "import", "--settings", file, runs)
    write(0, FEW)
    small_mb, _ = measured(*words)
    write(FEW, MANY - FEW)
    large_mb, said = measured(*words)
    assert said.endswith(f"{MANY - FEW} runs imported\n")
    assert large_mb - small_mb < GROWTH_MB, (small_mb, large_mb)
