"""Files of the IOC's own: for its account alone, and where root writes nobody else can lead it elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.cluster import data_major

from attpc_ioc.errors import StateDirError
from attpc_ioc.eventlog import EventLog
from attpc_ioc.export.screens.files import write_screens
from attpc_ioc.files import (
    as_owner,
    make_private,
    not_roots_own,
    private,
    read_theirs,
    refusal_for_root,
    write_text,
    writing,
)
from tests.support.needs import as_root
from tests.support.postgres import place
from tests.support.state_dir import opened

NOBODY = 65534


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    assert tmp_path.is_dir(), "made before, so that the test can enter it"
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Return a folder that any account may pass."""
    with place() as folder:
        yield folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
async def test_the_state_is_its_accounts_alone_whatever_the_umask(tmp_path: Path) -> None:
    async with opened(tmp_path / "state") as event_log:
        event_log.keep("numbers", "a", "1")
        await event_log.flush()
        made = {path.name: mode(path) for path in (tmp_path / "state").iterdir()}
        assert made == dict.fromkeys(("lock", "state.db", "state.db-wal", "state.db-shm"), 0o600)
    assert mode(tmp_path / "state") == (0o711 if os.geteuid() == 0 else 0o700)
    made = list((tmp_path / "state").iterdir())
    assert {path.name for path in made} == {"lock", "state.db"}
    assert {mode(path) for path in made} == {0o600}


@pytest.mark.usefixtures("umask")
def test_folders_on_the_way_are_its_accounts_alone_too(tmp_path: Path) -> None:
    make_private(tmp_path / "state" / "plugins" / "one")
    made = [tmp_path / "state", tmp_path / "state" / "plugins", tmp_path / "state" / "plugins" / "one"]
    assert {mode(path) for path in made} == {0o711 if os.geteuid() == 0 else 0o700}


@pytest.mark.usefixtures("umask")
def test_a_file_for_its_account_alone_is_made_so(tmp_path: Path) -> None:
    with writing(tmp_path / "runs.csv", mode=0o600) as stream:
        stream.write("a")
    assert mode(tmp_path / "runs.csv") & 0o177 == 0


def test_a_file_that_an_older_version_made_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "old"
    file.write_text("a")
    file.chmod(0o644)
    with open(file, "a", opener=private) as stream:
        stream.write("b")
    assert (file.read_text(), mode(file)) == ("ab", 0o600)


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("as it was")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="symbolic links"), open(tmp_path / "link", "w", opener=private):
        pass
    assert (tmp_path / "target").read_text() == "as it was"


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o750)
    make_private(tmp_path / "there")
    assert mode(tmp_path / "there") == 0o750


@as_root()
def test_whose_folders_root_may_write_into(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    os.chown(other, NOBODY, NOBODY)
    (other / "roots").mkdir()
    assert not_roots_own(own / "not" / "yet") is None
    assert not_roots_own(other) == other
    assert not_roots_own(other / "roots") == other
    (own / "link").symlink_to(other)
    assert not_roots_own(own / "link" / "roots") is not None
    (other / "link").symlink_to(own)
    assert not_roots_own(other / "link") == other
    own.chmod(0o777)
    assert not_roots_own(own) == own
    own.chmod(0o1777)
    assert not_roots_own(own / "state") is None
    own.chmod(0o770)
    os.chown(own, 0, NOBODY)
    assert not_roots_own(own) == own


@as_root()
def test_root_takes_no_state_directory_of_another(tmp_path: Path) -> None:
    folder, target = tmp_path / "state", tmp_path / "target"
    target.write_text("root's")
    folder.mkdir()
    (folder / "lock").symlink_to(target)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(StateDirError, match=rf"{folder} can be changed by others than root.*sudo -u nobody"):
        EventLog(folder).open()
    with pytest.raises(StateDirError, match=f"{folder} can be changed by others than root"):
        EventLog(folder / "below").open()
    assert target.read_text() == "root's"
    assert not (folder / "below").exists()


@as_root()
def test_root_does_as_the_owner_what_it_does_in_anothers_folder(open_place: Path) -> None:
    folder, target = open_place / "theirs", open_place / "target"
    target.write_text("root's")
    target.chmod(0o600)
    folder.mkdir()
    (folder / "link").symlink_to(target)
    os.chown(folder, NOBODY, NOBODY)
    with as_owner(folder / "below"):
        with pytest.raises(PermissionError):
            (folder / "link").write_text("theirs")
        (folder / "below").mkdir()
    assert (folder / "below").stat().st_uid == NOBODY
    assert target.read_text() == "root's"
    target.write_text("root again")
    folder.chmod(0o777)
    os.chown(folder, 0, 0)
    with pytest.raises(PermissionError, match="others than root"), as_owner(folder):
        pass


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "nothing"])
def test_only_regular_files_in_a_folder_of_another_account_are_read(tmp_path: Path, what: str) -> None:
    (tmp_path / "secret").write_text("17\n")
    file = tmp_path / "PG_VERSION"
    if what == "link":
        file.symlink_to(tmp_path / "secret")
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - each kind has a number of its own
        read_theirs(file, 100)
    assert data_major(tmp_path) is None


def test_of_a_long_file_in_a_folder_of_anothers_the_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "server.log"
    with file.open("wb") as stream:
        stream.seek(1 << 36)
        stream.write(b"\xff\nthe end\n")
    assert read_theirs(file, 10) == "\ufffd\nthe end\n"


@as_root()
def test_root_reads_in_a_folder_of_anothers_what_that_account_can_read(open_place: Path) -> None:
    theirs, secret = open_place / "data", open_place / "root"
    for folder, of in ((theirs, NOBODY), (secret, 0)):
        folder.mkdir(mode=0o700)
        os.chown(folder, of, of)
    (secret / "a.log").write_text("FATAL: a secret of root's")
    (theirs / "log").symlink_to(secret)
    with pytest.raises(PermissionError), as_owner(theirs):
        read_theirs(theirs / "log" / "a.log", 100)
    (theirs / "log").unlink()
    (theirs / "log").mkdir()
    (theirs / "log" / "a.log").write_text("FATAL: no space")
    with as_owner(theirs):
        assert read_theirs(theirs / "log" / "a.log", 100) == "FATAL: no space"


@as_root()
def test_root_writes_through_no_link_of_anothers_folder(open_place: Path) -> None:
    theirs, roots = open_place / "theirs", open_place / "roots"
    for folder, of in ((theirs, NOBODY), (roots, 0)):
        folder.mkdir(mode=0o755)
        os.chown(folder, of, of)
    (roots / "there").write_text("as it was")
    for name in ("there", "new"):
        (theirs / name).symlink_to(roots / name)
        with pytest.raises(PermissionError):
            write_text(theirs / name, "led elsewhere")
    (theirs / "screens").symlink_to(roots)
    with pytest.raises(PermissionError):
        write_screens(theirs / "screens", {"main.bob": "led elsewhere"})
    assert [path.name for path in roots.iterdir()] == ["there"]
    assert (roots / "there").read_text() == "as it was"
    write_text(theirs / "file", "root's")
    assert ((theirs / "file").stat().st_uid, (theirs / "file").read_text()) == (0, "root's")
    assert {path.name for path in theirs.iterdir()} == {"there", "new", "screens", "file"}


@as_root()
def test_root_follows_no_link_of_another_in_a_folder_for_all(open_place: Path) -> None:
    public, roots = open_place / "tmp", open_place / "roots"
    for folder in (public, roots):
        folder.mkdir()
    public.chmod(0o1777)
    for name, target in (("file", roots / "new"), ("folder", roots)):
        (public / name).symlink_to(target)
        os.chown(public / name, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(PermissionError, match="a link that another account made"):
        write_text(public / "file", "led elsewhere")
    with pytest.raises(PermissionError):
        write_text(public / "folder" / "new", "led elsewhere")
    assert "can be changed by others than root" in refusal_for_root(public / "folder" / "state")
    assert list(roots.iterdir()) == []
    (public / "own").symlink_to(roots / "own")
    write_text(public / "own", "root's")
    assert (roots / "own").read_text() == "root's"
