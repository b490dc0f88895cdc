"""The shell commands of the run history on a test's database, and runs for them."""

from __future__ import annotations

import csv
import functools
import io
import re
from pathlib import Path

import pytest
import typer
from attpc_plugins.run_history.commands.lazy import add_commands
from attpc_plugins.run_history.commands.support.common import VARIABLE
from typer.testing import CliRunner, Result

from attpc_ioc.errors import AttpcError

IOC = """
[ioc]
state_dir = "{state}"
[[ecc]]
name = "cobo0"
host = "127.0.0.1"
kind = "cobo"
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
[plugins.run_history]
"""

RUNS = '''\
experiment,number,class,title,operator,comment,quality,started_at,stopped_at
e1,1,Testing,pulser test,anna,,Bad,2026-03-01T10:00:00+00:00,2026-03-01T10:10:00+00:00
e1,2,Production,beam on target,bert,nice beam,Good,2026-03-02T10:00:00+00:00,2026-03-03T11:00:00+00:00
e1,3,Production,"beam, ""again""",anna,,Unknown,2026-03-03T10:00:00+00:00,
e2,1,Beam,Größe µ ☢,anna,,Good,2026-04-01T10:00:00+00:00,2026-04-01T10:10:00+00:00
'''


@functools.cache
def _commands() -> typer.Typer:
    app = typer.Typer()
    add_commands(app)
    return app


class Shell:
    """The commands on one database; `run` expects success, `fails` the opposite."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.app = _commands()

    def call(self, *args: object, stdin: str | None = None) -> Result:
        env = {VARIABLE: str(self.file), "COLUMNS": "220", "TZ": "UTC"}
        return CliRunner().invoke(self.app, [str(arg) for arg in args], env=env, input=stdin)

    def run(self, *args: object, stdin: str | None = None) -> str:
        result = self.call(*args, stdin=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def fails(self, *args: object) -> str:
        result = self.call(*args)
        assert result.exit_code != 0, result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, AttpcError), result.exception
            return str(result.exception)
        return re.sub(r"[│╭╰─╮╯\s]+", " ", result.output)


@pytest.fixture
def shell(dsn: str, tmp_path: Path) -> Shell:
    file = tmp_path / "ioc.toml"
    file.write_text(IOC.format(state=tmp_path / "state") + f'dsn = "{dsn}"\n')
    return Shell(file)


@pytest.fixture
def full(shell: Shell, tmp_path: Path) -> Shell:
    """A database with four runs in two experiments."""
    runs = tmp_path / "runs.csv"
    runs.write_text(RUNS)
    shell.run("history", "import", runs)
    return shell


def numbers(text: str) -> list[tuple[str, int]]:
    """Return experiment and number of each run of a CSV."""
    return [(row["experiment"], int(row["number"])) for row in csv.DictReader(io.StringIO(text))]
