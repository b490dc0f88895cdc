"""Hosts that are gone, hang, are slow, refuse, or are killed: every call ends, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from attpc_plugins.data_routers.closing.steps import state_of
from attpc_plugins.data_routers.hosts.host import (
    HostError,
    HostFault,
    HostTimeout,
    HostUnreachable,
)
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.worker import Deadline, Worker
from attpc_plugins.data_routers.model import CloseState, FileEntry, MoveOutcome

from tests.support.ca import free_port
from tests.support.datahosts import LIMITS, RUN, Place, place, sums_of, until, write_files
from tests.support.patience import PATIENCE_S
from tests.support.slowwire import wire
from tests.support.sshd import Sshd, sshd

SHORT = CallLimits(poll_s=1.0, read_s=1.0, files_s=1.0, checksums_s=1.0)
MARGIN_S = 15.0
"""What a busy machine may add to a limit."""


async def known_at(server: Sshd, port: int) -> Sshd:
    """Return the same server as it is reached at another port, its host key known there, too."""
    key = server.host_key.with_suffix(".pub").read_text()
    with server.known_hosts.open("a") as file:
        file.write(f"[127.0.0.1]:{port} {key}")
    return replace(server, port=port)


async def test_a_host_that_is_gone(tmp_path: Path, shared_sshd: Sshd) -> None:
    async with place(tmp_path / "staging", replace(shared_sshd, port=free_port())) as at:
        host = at.host()
        for call in (lambda: host.poll(RUN), host.list_staging, lambda: host.begin(RUN)):
            with pytest.raises(HostUnreachable, match="Connection refused"):
                await call()


async def test_a_host_that_accepts_and_never_answers(tmp_path: Path, shared_sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with place(tmp_path / "staging", replace(shared_sshd, port=silent.getsockname()[1])) as at:
            host = at.host(limits=SHORT)
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(HostTimeout):
                    await host.poll(RUN)
                assert time.monotonic() - began < 1 + MARGIN_S


async def test_what_is_no_ssh_server(tmp_path: Path, shared_sshd: Sshd) -> None:
    async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
        writer.close()

    server = await asyncio.start_server(answer_http, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with place(tmp_path / "staging", replace(shared_sshd, port=port)) as at:
            with pytest.raises(HostError, match=r"127\.0\.0\.1"):
                await at.host().poll(RUN)


async def test_a_host_that_goes_and_comes_back(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server, place(tmp_path / "staging", server) as at:
        write_files(at.staging, ["a.graw"])
        host = at.host()
        assert (await host.poll(RUN)).files == 1
        server.stop()
        for _ in range(2):
            with pytest.raises(HostUnreachable):
                await host.poll(RUN)
        server.start()
        assert (await host.poll(RUN)).files == 1


async def test_a_connection_that_is_cut_is_made_anew(tmp_path: Path, shared_sshd: Sshd) -> None:
    async with wire(shared_sshd.port) as relay:
        server = await known_at(shared_sshd, relay.port)
        async with place(tmp_path / "staging", server) as at:
            host = at.host()
            await host.poll(RUN)
            relay.open.clear()
            pending = asyncio.create_task(host.poll(RUN))
            await asyncio.sleep(0)
            relay.cut()
            relay.open.set()
            with pytest.raises(HostUnreachable, match="broke"):
                await pending
            assert (await host.poll(RUN)).files == 0


async def test_a_slow_host_is_waited_for_up_to_the_limit(tmp_path: Path, shared_sshd: Sshd) -> None:
    async with wire(shared_sshd.port) as relay:
        server = await known_at(shared_sshd, relay.port)
        async with place(tmp_path / "staging", server) as at:
            patient, hasty = at.host(), at.host(limits=SHORT)
            await patient.poll(RUN)
            await eventually(lambda: hasty.poll(RUN))
            relay.delay_s = 1.5
            began = time.monotonic()
            with pytest.raises(HostTimeout, match="within 1 s"):
                await hasty.poll(RUN)
            assert time.monotonic() - began < 1 + MARGIN_S
            assert (await patient.poll(RUN)).files == 0
            relay.delay_s = 0.0
            await eventually(lambda: hasty.poll(RUN))


async def eventually(call: object, limit_s: float = PATIENCE_S) -> object:
    """Return what a call returns as soon as it does; it may fail for want of an answer until then."""
    assert callable(call)
    async with asyncio.timeout(limit_s):
        while True:
            try:
                return await call()
            except (HostTimeout, HostUnreachable):
                await asyncio.sleep(0.01)


async def test_a_silent_line_is_given_up_and_made_anew(tmp_path: Path, shared_sshd: Sshd) -> None:
    async with wire(shared_sshd.port) as relay:
        server = await known_at(shared_sshd, relay.port)
        async with place(tmp_path / "staging", server) as at:
            host = at.host(limits=SHORT)
            await eventually(lambda: host.poll(RUN))
            relay.open.clear()
            for _ in range(2):
                with pytest.raises(HostTimeout):
                    await host.poll(RUN)
            relay.open.set()
            await eventually(lambda: host.poll(RUN))


async def test_what_others_give_up_is_no_fault_of_the_host(tmp_path: Path, shared_sshd: Sshd) -> None:
    """Looks that have no answer end the connection; a closing on it was not answered either."""
    async with wire(shared_sshd.port) as relay:
        server = await known_at(shared_sshd, relay.port)
        async with place(tmp_path / "staging", server) as at:
            host = at.host(limits=replace(SHORT, files_s=60.0))
            await eventually(lambda: host.poll(RUN))
            assert await host.list_staging() == ()
            relay.open.clear()
            listing = asyncio.create_task(host.list_staging())
            for _ in range(2):
                with pytest.raises(HostTimeout, match="did not answer within 1 s"):
                    await host.poll(RUN)
            with pytest.raises((HostTimeout, HostUnreachable)) as given_up:
                await asyncio.wait_for(listing, MARGIN_S)
            assert "perl" not in str(given_up.value)
            assert state_of(given_up.value) is CloseState.UNREACHABLE
            relay.open.set()
            await eventually(lambda: host.poll(RUN))


async def test_an_agent_that_hangs_is_killed_and_made_anew(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server, place(tmp_path / "staging", server) as at:
        host = at.host(limits=SHORT)
        await eventually(lambda: host.poll(RUN))
        (agent,) = server.agents()
        agent.suspend()
        began = time.monotonic()
        with pytest.raises(HostTimeout, match="within 1 s"):
            await host.poll(RUN)
        assert time.monotonic() - began < 1 + MARGIN_S
        await eventually(lambda: host.poll(RUN))
        await until(lambda: agent.pid not in {one.pid for one in server.agents()})
        assert len(server.agents()) == 1


async def test_a_host_that_is_stopped_and_goes_on(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server, place(tmp_path / "staging", server) as at:
        host = at.host(limits=SHORT)
        await eventually(lambda: host.poll(RUN))
        assert server.process is not None
        stopped = [psutil.Process(server.process.pid), *server.offspring()]
        for process in stopped:
            process.suspend()
        for _ in range(4):
            began = time.monotonic()
            with pytest.raises((HostTimeout, HostUnreachable)):
                await host.poll(RUN)
            assert time.monotonic() - began < 1 + MARGIN_S
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        await eventually(lambda: host.poll(RUN))


async def test_one_that_hangs_disturbs_no_other_of_the_same_host(tmp_path: Path) -> None:
    async with (
        sshd(tmp_path / "ssh") as server,
        place(tmp_path / "a", server) as at,
        place(tmp_path / "b", server) as other,
    ):
        other.stations = at.stations
        host, neighbour = at.host(limits=SHORT), other.host()
        await eventually(lambda: host.poll(RUN))
        (agent,) = server.agents()
        await neighbour.poll(RUN)
        agent.suspend()
        hung = asyncio.create_task(host.poll(RUN))
        await asyncio.sleep(0)
        assert (await neighbour.poll(RUN)).files == 0
        with pytest.raises(HostTimeout):
            await hung
        # An sshd that does not pass on signals would leave it until the next poll.
        with contextlib.suppress(psutil.NoSuchProcess):
            agent.kill()


async def test_polls_go_on_while_files_are_checked(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server, place(tmp_path / "staging", server) as at:
        with (at.staging / "large.graw").open("wb") as file:
            file.truncate(256 << 20)
        host = at.host()
        await host.begin(RUN)
        await host.move(RUN, await host.list_staging())
        checking = asyncio.create_task(host.gathered(RUN, closed=False, checksums=True))
        looks = 0
        while not checking.done():
            await host.poll(RUN)
            looks += 1
        assert looks > 1
        assert len((await checking)[0].sha256) == 64


async def test_checksums_stop_at_their_limit(at: Place) -> None:
    with (at.staging / "huge.graw").open("wb") as file:
        file.truncate(1 << 40)
    host = at.host(limits=replace(LIMITS, checksums_s=1.0))
    await host.begin(RUN)
    await host.move(RUN, await host.list_staging())
    began = time.monotonic()
    with pytest.raises(HostTimeout):
        await host.gathered(RUN, closed=False, checksums=True)
    assert time.monotonic() - began < 1 + MARGIN_S
    if at.server is not None:
        server = at.server
        await until(lambda: all(agent.cpu_times().user < 10 for agent in server.agents()))
    assert [file.size for file in await host.gathered(RUN, closed=False, checksums=False)] == [1 << 40]


async def test_a_call_that_is_given_up_leaves_no_answer_for_the_next(at: Place) -> None:
    write_files(at.staging, ["a.graw"])
    host = at.host(log=str(at.staging / "a.graw"))
    await host.poll(RUN)
    for _ in range(5):
        given_up = asyncio.create_task(host.poll(RUN))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert (await host.poll(RUN)).files == 1
        assert [file.name for file in await host.list_staging()] == ["a.graw"]


async def test_work_that_hangs_in_the_system_is_left_alone_and_not_repeated() -> None:
    worker = Worker("the folder")
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(_deadline: Deadline) -> str:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        return "done"

    with pytest.raises(HostTimeout, match=r"did not answer within 0\.05 s"):
        await worker.run(0.05, work)
    with pytest.raises(HostTimeout, match="still hangs in an earlier call"):
        await worker.run(5, lambda _deadline: "never")
    release.set()
    assert await eventually(lambda: worker.run(5, lambda _deadline: "again")) == "again"


KILLED = """
import sys
from attpc_plugins.data_routers.closing.steps import state_of
from attpc_plugins.data_routers.hosts.local import folders
from attpc_plugins.data_routers.hosts.local.folders import RunFolders
from attpc_ioc.model.run import RunRef
where = RunFolders(sys.argv[1].encode(), RunRef("e20009", 42))
folders.begin(where)
files = folders.listing(where.staging)
folders.move(where, files, lambda: None)
folders.finish(where, b"{}")
"""


@pytest.mark.parametrize("after", [0, 1, 500, 1500])
async def test_killed_in_the_middle_and_repeated_it_ends_the_same(at: Place, after: int) -> None:
    sums = await asyncio.to_thread(write_files, at.staging, [f"{number:04d}.graw" for number in range(2000)])

    def moved() -> int:
        return len(os.listdir(at.closing)) if at.closing.is_dir() else -1

    host = at.host()
    if at.server is None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(at.staging))
        await until(lambda: moved() >= after or at.closed.exists())
        process.kill()
        await process.wait()
    else:
        files = await host.list_staging()
        await host.begin(RUN)
        before = {one.pid for one in at.server.agents()}
        moving = asyncio.create_task(host.move(RUN, files))
        await until(lambda: moved() >= after or moving.done())
        for agent in at.server.agents():
            if agent.pid in before:
                with contextlib.suppress(psutil.NoSuchProcess):
                    agent.send_signal(signal.SIGKILL)
        with contextlib.suppress(HostFault, HostUnreachable):
            await moving
            await host.list_staging()  # finds the agent gone, where all was moved before it was killed
    if not at.closed.exists():
        listed = {os.fsencode(name) for folder in (at.staging, at.closing) for name in names_in(folder)}
        assert listed == set(sums)
        await host.begin(RUN)
        everything = [
            FileEntry(os.fsdecode(name), (at.staging / os.fsdecode(name)).stat().st_size, 0.0)
            if (at.staging / os.fsdecode(name)).exists()
            else FileEntry(os.fsdecode(name), 100, 0.0)
            for name in sorted(sums)
        ]
        again = await host.move(RUN, everything)
        assert {one.outcome for one in again} == {MoveOutcome.MOVED}
    await host.finish(RUN, b"{}")
    assert await asyncio.to_thread(sums_of, at.closed) == sums
    assert names_in(at.staging) == []
    assert {path.stat().st_nlink for path in at.closed.iterdir()} == {1}


def names_in(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".graw")] if folder.is_dir() else []
