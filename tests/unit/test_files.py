"""Writing a file that somebody has named: into what is there, and at once or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from attpc_ioc.files import write_text, writing
from tests.support.needs import as_root


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_text(pipe, "µ and more\n")
    reader.join(10)
    assert read == ["µ and more\n"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_behind_a_link_it_is_the_file_that_is_replaced(tmp_path: Path):
    (tmp_path / "there").mkdir()
    file, link, second = tmp_path / "there" / "file", tmp_path / "link", tmp_path / "second"
    file.write_text("old")
    link.symlink_to("there/file")
    second.symlink_to(link)
    write_text(second, "new")
    assert (link.is_symlink(), second.is_symlink(), file.is_symlink()) == (True, True, False)
    assert file.read_text() == "new"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_link_to_nothing_gets_its_file(tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to("file")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_links_in_a_circle_are_an_error_that_names_the_file(tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(OSError, match="link") as raised:
        write_text(link, "new")
    assert raised.value.filename == str(link)
    assert link.is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_keeps_its_mode_and_is_another_file(tmp_path: Path, mode: int):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(mode)
    with file.open() as reader:
        write_text(file, "new")
        assert reader.read() == "old", "who reads it has the whole old one"
    assert (file.read_text(), _mode(file)) == ("new", mode)


@as_root()
def test_a_file_keeps_its_owner(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("old")
    os.chown(file, 1234, 2345)
    write_text(file, "new")
    there = file.stat()
    assert (there.st_uid, there.st_gid, file.read_text()) == (1234, 2345, "new")


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path):
    code = (
        "import os, sys; from pathlib import Path; from attpc_ioc.files import write_text; "
        "os.umask(int(sys.argv[1], 8)); write_text(Path(sys.argv[2]), 'new')"
    )
    for umask, mode in (("022", 0o644), ("077", 0o600)):
        file = tmp_path / umask
        subprocess.run([sys.executable, "-c", code, umask, str(file)], check=True, timeout=60)
        assert _mode(file) == mode


def test_the_open_file_of_a_process_is_written_into(tmp_path: Path):
    """`/dev/stdout` and its like lead through `/proc`: the file is the one that is open, not its name."""
    file = tmp_path / "file"
    with file.open("w") as stream:
        write_text(Path(f"/proc/self/fd/{stream.fileno()}"), "new")
        assert os.fstat(stream.fileno()).st_nlink == 1
    assert file.read_text() == "new"


@pytest.mark.parametrize("there", [True, False])
def test_what_fails_on_the_way_leaves_all_as_it_was(tmp_path: Path, there: bool):
    file = tmp_path / "file"
    if there:
        file.write_text("old")

    with pytest.raises(UnicodeEncodeError), writing(file) as stream:
        stream.writelines(("half", "\udc80"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"file": "old"} if there else {})


def test_a_folder_and_a_folder_that_is_not_there_are_named(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(OSError, match="directory") as raised:
            write_text(path, "new")
        assert raised.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_a_long_name_has_room_for_the_passing_one(tmp_path: Path):
    file = tmp_path / ("n" * 255)
    write_text(file, "new")
    assert file.read_text() == "new"


def test_lines_end_as_asked(tmp_path: Path):
    file = tmp_path / "file"
    with writing(file, newline="") as stream:
        stream.write("a\r\nb\n")
    assert file.read_bytes() == b"a\r\nb\n"
