"""What is read of a host: the ends of logs, configuration files, whether a program runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.local.folders import last_lines
from attpc_plugins.data_routers.hosts.local.host import LocalHost
from attpc_plugins.data_routers.hosts.local.processes import is_named
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.settings import Access, RouterSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ca import eventually
from tests.support.datahosts import Place

MIB = 1 << 20


async def test_the_end_of_a_log(at: Place) -> None:
    log = at.staging / "a log; $(x).txt"
    host = at.host(log=str(log))
    for content, lines, expected in (
        (b"", 5, b""),
        (b"one", 5, b"one"),
        (b"one\ntwo\n", 1, b"two\n"),
        (b"one\ntwo", 1, b"two"),
        (b"one\ntwo\nthree", 2, b"two\nthree"),
        (b"one\n\n\n", 2, b"\n\n"),
        (b"one\ntwo\n", 0, b""),
        (b"one\ntwo\n", -3, b""),
        (b"\xff\x00\xe9\n\x80\n", 2, b"\xff\x00\xe9\n\x80\n"),
        ("für\r\nZeile\r\n".encode("utf-16"), 100, "für\r\nZeile\r\n".encode("utf-16")),
    ):
        log.write_bytes(content)
        assert await host.tail(lines) == expected
    log.write_bytes(b"before\n")
    log.rename(log.with_suffix(".1"))
    with pytest.raises(HostFault, match="there is no "):
        await host.tail(3)
    log.write_bytes(b"after\n")  # rotated
    assert await host.tail(3) == b"after\n"


async def test_a_log_of_many_gigabytes_is_read_from_its_end(at: Place) -> None:
    log = at.staging / "huge.log"
    with log.open("wb") as file:
        file.truncate(64 << 30)  # sparse: it takes no disk
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe last but one\nthe last\n")
    began = time.monotonic()
    assert await at.host(log=str(log)).tail(2) == b"the last but one\nthe last\n"
    assert time.monotonic() - began < 10
    log.write_bytes(b"x" * (3 * MIB))
    assert await at.host(log=str(log)).tail(1) == b"x" * MIB


async def test_what_is_no_log(at: Place) -> None:
    os.mkfifo(at.staging / "pipe")
    with pytest.raises(HostFault, match="not a regular file"):
        await at.host(log=str(at.staging / "pipe")).tail(1)
    with pytest.raises(HostFault, match="not a regular file"):
        await at.host(log=str(at.staging)).tail(1)
    with pytest.raises(HostFault, match="name no log of CoBo0"):
        await at.host().tail(1)


@given(
    st.lists(st.binary(max_size=6).map(lambda raw: raw.replace(b"\n", b"")), max_size=12), st.integers(0, 14)
)
def test_last_lines_are_the_last_lines(lines: list[bytes], count: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    assert last_lines(data, count) == b"".join(line + b"\n" for line in (lines[-count:] if count else []))


async def test_configuration_files(at: Place) -> None:
    folder = at.staging / "xcfg $(x)"
    folder.mkdir()
    (folder / "configure-a b'c.xcfg").write_bytes(b"\x00<Setup/>\xff\n")
    (folder / "large").write_bytes(b"x" * (16 * MIB))
    (folder / "link").symlink_to(folder / "large")
    (folder / "ecc.log").write_text("one\ntwo\n")
    host = at.config_host(folder, log=str(folder / "ecc.log"))
    assert await host.read("configure-a b'c.xcfg") == b"\x00<Setup/>\xff\n"
    assert await host.read("large") == b"x" * (16 * MIB)
    with pytest.raises(HostFault, match="link' is not a regular file but a symbolic link"):
        await host.read("link")
    assert await host.tail(1) == b"two\n"
    with (folder / "large").open("ab") as file:
        file.write(b"x")
    with pytest.raises(HostFault, match="larger than is allowed"):
        await host.read("large")
    with pytest.raises(HostFault, match=r"there is no '.*/describe-cobo0.xcfg'"):
        await host.read("describe-cobo0.xcfg")
    for name in ("", ".", "..", "../staging", "/etc/passwd", "a\0b"):
        with pytest.raises(HostFault, match="cannot be the name"):
            await host.read(name)
    with pytest.raises(HostFault, match="name no log of the ECC server"):
        await at.config_host(folder).tail(1)


@asynccontextmanager
async def program(folder: Path, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program of this name: a copy of `sleep`."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    path = folder / name
    await asyncio.to_thread(shutil.copy, sleep, path)
    process = await asyncio.create_subprocess_exec(path, "600", stdin=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_seen(host: LocalHost | SshHost, runs: bool) -> None:
    """Wait until a look at the host says whether the router runs."""

    async def seen() -> bool:
        return (await host.poll(None)).process is runs

    await eventually(seen, f"process {runs}")


@pytest.mark.parametrize(
    "name",
    ["dataRouterT", "dataRouter of the very long name", "data router", "dataRouter  cut short at a blank"],
)
async def test_whether_the_router_runs(at: Place, tmp_path: Path, name: str) -> None:
    # The tests of other workers have names of their own.
    name = f"{os.getpid() % 1000:03}{name}"
    host, other = at.host(process=name), at.host(process=name[:8])
    assert (await host.poll(None)).process is False
    async with program(tmp_path, name) as process:
        await until_seen(host, True)
        assert (await host.poll(None)).process is True
        assert (await other.poll(None)).process is False
        process.kill()
        await process.wait()
        await until_seen(host, False)
    assert (await at.host(process="").poll(None)).process is True


@pytest.mark.parametrize("which", [0, 1])
async def test_the_default_is_whichever_of_the_two_programs_runs(
    at: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    assert RouterSettings(access=Access.LOCAL, sources=("CoBo0",), staging="/data").processes == (
        "DataExporter",
        "dataRouter",
    )
    # Other workers, or other people, may run those.
    names = tuple(f"{os.getpid() % 1000:03}{which}{name}" for name in ("Exporter", "Router"))
    monkeypatch.setattr("attpc_plugins.data_routers.settings.PROCESSES", names)
    host = at.host(process=None)
    assert (await host.poll(None)).process is False
    async with program(tmp_path, names[which]):
        await until_seen(host, True)
    await until_seen(host, False)


async def test_a_router_that_has_ended_but_is_not_buried_does_not_run(at: Place, tmp_path: Path) -> None:
    name = f"router{os.getpid()}"
    shutil.copy(shutil.which("true") or "/bin/true", tmp_path / name)
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys; p = subprocess.Popen(sys.argv[1]); "
        "import os; os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT); print('dead', flush=True); "
        "sys.stdin.read(); p.wait()",
        str(tmp_path / name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"dead\n"
    assert (await at.host(process=name).poll(None)).process is False
    await parent.communicate(b"")


def test_names_of_processes() -> None:
    assert is_named("dataRouter", "dataRouter")
    assert is_named("/Applications/GET 2/dataRouter", "dataRouter")
    assert is_named("a-very-long-nam", "a-very-long-name")
    assert not is_named("a-very-long-na", "a-very-long-name")
    assert not is_named("dataRouter2", "dataRouter")
    assert not is_named("/dataRouter/sh", "dataRouter")
