"""The account that the server falls back on is many programs': none of the others gets at the database."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import psutil
import pytest
from attpc_plugins.run_history.embedded import binaries
from attpc_plugins.run_history.embedded.binaries import Account, account_for
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.errors import EmbeddedError

from tests.db.test_embedded_places import interpreter_for
from tests.support.embedded import Place, running, tell
from tests.support.needs import as_root

pytestmark = as_root()

PROBE = """
import os, socket, sys
for path in sys.argv[1:]:
    try:
        if path.endswith(".s.PGSQL.5432"):
            socket.socket(socket.AF_UNIX).connect(path)
        else:
            os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
    except OSError:
        print("closed")
    else:
        print("OPEN")
"""


@pytest.fixture(autouse=True)
def fallen_back(monkeypatch: pytest.MonkeyPatch) -> Account:
    """Have a computer without the account `postgres`."""
    monkeypatch.setattr(binaries, "ACCOUNTS", ("no-such-account", "nobody"))
    return account_for()


def seen_by_nobody(*paths: Path) -> set[str]:
    """Try paths as an ordinary process of `nobody`."""
    entry = pwd.getpwnam("nobody")
    plain = Account("nobody", entry.pw_uid, entry.pw_gid, other=True)
    ran = subprocess.run(
        [interpreter_for(plain), "-c", PROBE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        user=plain.uid,
        group=plain.gid,
        extra_groups=[],
    )
    return set(ran.stdout.split())


async def check(server: EmbeddedServer) -> None:
    """See that root gets at the database, and a process of `nobody` at nothing of it."""
    assert server.pid is not None
    process = psutil.Process(server.pid)
    assert process.username() == "nobody"
    assert await tell(server, "SELECT 1")
    assert seen_by_nobody(
        server.data,
        server.data / "PG_VERSION",
        server.data / "base",
        server.socket,
        server.socket / ".s.PGSQL.5432",
        server.folder / "pg_ident.conf",
        Path(f"/proc/{server.pid}/environ"),
        Path(f"/proc/{server.pid}/cwd/PG_VERSION"),
        Path(f"/proc/{server.pid}/mem"),
    ) == {"closed"}
    assert "nobody" not in (server.folder / "pg_ident.conf").read_text()


async def test_no_other_program_of_the_account_reads_the_database(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder) as server:
        await check(server)
    with running(folder) as server:
        await check(server)


async def test_nor_where_the_socket_is_elsewhere(postgres_place: Place) -> None:
    folder = postgres_place() / ("a" * 60) / ("b" * 60)
    folder.parent.mkdir(parents=True, mode=0o755)
    with running(folder) as server:
        assert not server.socket.is_relative_to(folder)
        await check(server)
    server.socket.rmdir()
    server.socket.parent.rmdir()


async def test_a_database_of_before_is_closed_at_the_next_start(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder, account="nobody") as server:
        assert await tell(server, "CREATE TABLE kept AS SELECT 7 AS number") is not None
        assert "OPEN" in seen_by_nobody(server.data / "PG_VERSION")
    with running(folder) as server:
        assert (await tell(server, "SELECT number FROM kept"))[0][0] == 7
        await check(server)


def test_a_folder_that_is_the_accounts_own_cannot_be_closed(
    postgres_place: Place, fallen_back: Account
) -> None:
    folder = postgres_place()
    folder.mkdir(mode=0o700)
    os.chown(folder, fallen_back.uid, -1)
    with pytest.raises(EmbeddedError, match=r"belongs to nobody.*plugins\.run_history\.server_account"):
        EmbeddedServer(folder).start()


def test_the_group_is_nobodys(fallen_back: Account) -> None:
    assert fallen_back.shared
    assert fallen_back.gid not in {entry.pw_gid for entry in pwd.getpwall()}
    assert not account_for("nobody").shared, "who names it in the settings gets it as it is"
