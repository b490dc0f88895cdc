"""The simulated hosts' SSH servers, with asyncssh and, where it is installed, OpenSSH's client."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.data.ssh import SshKeys
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.needs import needs
from tests.support.simfleet import wait_until

DATA = DataOptions(access=(Access.SSH,), tick_s=0.02)
PROGRAM = b'$| = 1; while (<DATA>) { print "$ENV{HOME} $_"; }\n__END__\n'


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    async with SimulatedFleet(1, durations=INSTANT, data=DATA) as made:
        yield made


@pytest.fixture
def host(fleet: SimulatedFleet) -> DataHost:
    return fleet.data["CoBo[0]"]


def keys(fleet: SimulatedFleet) -> SshKeys:
    assert fleet.data.ssh_keys is not None
    return fleet.data.ssh_keys


def connecting(fleet: SimulatedFleet, host: DataHost, **more: object) -> object:
    assert host.gate is not None
    found = keys(fleet)
    options = {"known_hosts": str(found.known_hosts), "config": [str(found.config)]}
    return asyncssh.connect(host.gate.host, host.gate.port, **(options | more))  # type: ignore[arg-type]


async def run(
    connection: asyncssh.SSHClientConnection, command: str, text: bytes = b""
) -> tuple[int | None, bytes]:
    done = await connection.run(command, input=text, encoding=None)
    assert isinstance(done.stdout, bytes)
    assert isinstance(done.stderr, bytes)
    return done.exit_status, done.stdout + done.stderr


async def test_perl_and_nothing_else_runs_in_the_hosts_folder(fleet: SimulatedFleet, host: DataHost) -> None:
    async with connecting(fleet, host) as connection:  # type: ignore[attr-defined]
        code, out = await run(connection, "perl -", PROGRAM + b"one\ntwo\n")
        assert (code, out) == (0, f"{host.folder} one\n{host.folder} two\n".encode())
        code, out = await run(connection, "perl -", b'use Cwd; print getcwd; print STDERR "!"; exit 3')
        assert (code, out) == (3, f"{host.folder}!".encode())
        for command in ("touch x", "perl - x", "perl -e 1", "", "sh"):
            code, out = await run(connection, command)
            assert code == 126
            assert b"runs 'perl -' and nothing else" in out
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.start_sftp_client()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", fleet["cobo0"].port)


async def test_only_the_key_lets_in_and_the_server_is_who_it_was(
    fleet: SimulatedFleet, host: DataHost
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(asyncssh.PermissionDenied):
        async with connecting(fleet, host, config=None, client_keys=[other], username="attpc"):  # type: ignore[attr-defined]
            pass
    other_known = asyncssh.import_known_hosts(
        f"* {other.export_public_key('openssh').decode()}",
    )
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with connecting(fleet, host, known_hosts=other_known):  # type: ignore[attr-defined]
            pass


async def test_ps_and_df_tell_of_the_simulated_host(fleet: SimulatedFleet, host: DataHost) -> None:
    ask = b"print `ps -A -o pid= -o stat= -o comm=`; print `df -Pk .`;"
    async with connecting(fleet, host) as connection:  # type: ignore[attr-defined]
        _, out = await run(connection, "perl -", ask)
        assert b"  401 S    dataRouter\n" in out
        assert b" 976562500 488281250 488281250 50% /" in out
        await fleet.routers["CoBo[0]"].stop()
        host.faults.disk_full = True
        async with asyncio.timeout(5):
            while b"dataRouter" in out:
                _, out = await run(connection, "perl -", ask)
        assert b" 976562500 976562500 0 100% /" in out


async def test_a_command_ends_with_its_connection(fleet: SimulatedFleet, host: DataHost) -> None:
    server = fleet.data.ssh_servers[host.name]
    async with connecting(fleet, host) as connection:  # type: ignore[attr-defined]
        for program in (PROGRAM, b"sleep 100;"):
            process = await connection.create_process("perl -", encoding=None)
            process.stdin.write(program)
        process.stdin.write_eof()
        await wait_until(lambda: len(server.children) == 2)
        pids = server.children
        assert all(os.getsid(pid) == pid for pid in pids)
    await wait_until(lambda: not server.children)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_command_ends_with_the_fleet() -> None:
    async with SimulatedFleet(1, durations=INSTANT, data=DATA) as fleet:
        host = fleet.data["CoBo[0]"]
        server = fleet.data.ssh_servers[host.name]
        connection = await connecting(fleet, host)  # type: ignore[misc]
        await connection.create_process("perl -", encoding=None)
        await wait_until(lambda: bool(server.children))
        pids = server.children
    await connection.wait_closed()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_host_that_goes_down_and_comes_back(fleet: SimulatedFleet, host: DataHost) -> None:
    assert host.gate is not None
    connection = await connecting(fleet, host)  # type: ignore[misc]
    await host.gate.close()
    await asyncio.wait_for(connection.wait_closed(), 5)
    with pytest.raises(ConnectionRefusedError):
        await connecting(fleet, host)  # type: ignore[misc]
    await host.gate.open()
    async with connecting(fleet, host) as connection:  # type: ignore[attr-defined]
        assert (await run(connection, "perl -", b"print 1"))[1] == b"1"


async def test_a_host_that_hangs_goes_on_where_it_was(fleet: SimulatedFleet, host: DataHost) -> None:
    assert host.gate is not None
    async with connecting(fleet, host) as connection:  # type: ignore[attr-defined]
        host.gate.hung = True
        asked = asyncio.create_task(run(connection, "perl -", b"print 2"))
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        host.gate.hung = False
        assert (await asyncio.wait_for(asked, 5))[1] == b"2"


@needs("ssh")
async def test_the_ssh_command_gets_in_with_the_files(fleet: SimulatedFleet, host: DataHost) -> None:
    assert host.gate is not None
    found = keys(fleet)
    process = await asyncio.create_subprocess_exec(
        *(
            "ssh",
            "-F",
            str(found.config),
            "-o",
            f"UserKnownHostsFile={found.known_hosts}",
            "-o",
            "BatchMode=yes",
        ),
        *("-p", str(host.gate.port), host.gate.host, "perl", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(b"print 6 * 7"), 20)
    assert (process.returncode, out) == (0, b"42"), errors.decode()


async def test_keys_stay_over_a_restart_and_known_hosts_follows(tmp_path) -> None:
    seen = []
    for _ in range(2):
        data = DataOptions(folder=tmp_path / "it's 100% \N{BANANA}\x7f", access=(Access.SSH,))
        async with SimulatedFleet(1, durations=INSTANT, data=data) as fleet:
            host = fleet.data["CoBo[0]"]
            async with connecting(fleet, host) as connection:  # type: ignore[attr-defined]
                assert (await run(connection, "perl -", b"print `ps`"))[1].startswith(b"    1 S    init\n")
            told = tomllib.loads(fleet.settings_toml(data_routers=True))["plugins"]["data_routers"]
            assert told["router"][0]["staging"] == str(host.staging)
            assert told["known_hosts"] == str(keys(fleet).known_hosts)
            seen.append(keys(fleet).client_key.read_bytes())
            assert keys(fleet).client_key.stat().st_mode & 0o777 == 0o600
    assert seen[0] == seen[1]


async def test_a_folder_that_no_ssh_configuration_can_name(tmp_path: Path) -> None:
    data = replace(DATA, folder=tmp_path / 'the "new" disk')
    with pytest.raises(OSError, match="cannot name a folder with a double quote"):
        async with SimulatedFleet(1, durations=INSTANT, data=data):
            pass
    async with (
        SimulatedFleet(1, durations=INSTANT, data=replace(data, folder=tmp_path / "50% of it's")) as fleet,
        connecting(fleet, fleet.data["CoBo[0]"]) as connection,
    ):  # type: ignore[attr-defined]
        assert (await run(connection, "perl -", PROGRAM + b"one\n"))[0] == 0
