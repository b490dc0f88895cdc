"""The way to a host over SSH: who is let in, whom we believe, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import HostRefused, HostUnreachable
from attpc_plugins.data_routers.hosts.ssh.agent import Agent
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Target
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.hosts.ssh.wire import script
from attpc_plugins.data_routers.model import MoveOutcome
from attpc_plugins.data_routers.settings import Access, RouterSettings

from tests.support.datahosts import LIMITS, RUN, Place, place, until, write_files
from tests.support.pace import Stopwatch
from tests.support.sshd import Sshd, make_key, sshd


def ssh_host(staging: Path, target: Target, stations: Stations | None = None) -> SshHost:
    router = RouterSettings(
        access=Access.SSH, host="of-the-target", sources=("CoBo0",), staging=str(staging), process=""
    )
    return SshHost(router, target, LIMITS, stations or Stations())


def command_in(text: str) -> str:
    """Return the command that an error text ends with."""
    return text.rsplit("and then run: ", 1)[1]


async def run(command: str) -> None:
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def fingerprint(key: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        "ssh-keygen", "-lf", str(key), stdout=asyncio.subprocess.PIPE
    )
    out, _errors = await process.communicate()
    return out.decode().split()[1]


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


async def test_an_unknown_host_key_is_refused_with_the_command_that_adds_it(
    staging: Path, tmp_path: Path
) -> None:
    async with sshd(tmp_path / "ssh") as server:
        server.known_hosts.write_text("# nobody\n")
        at = Place(staging, server)
        host = at.host()
        with pytest.raises(HostRefused, match=r"ssh-ed25519 host key .* is not known") as refused:
            await host.poll(None)
        text = str(refused.value)
        assert await fingerprint(server.host_key) in text
        command = command_in(text)
        assert command == f"ssh-keyscan -t ed25519 -p {server.port} 127.0.0.1 >> {server.known_hosts}"
        await run(command)
        assert (await host.poll(None)).files == 0
        await host.disconnect()


async def test_a_changed_host_key_is_refused_and_said_to_be_changed(staging: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh it's") as server:
        host = Place(staging, server).host()
        await host.poll(None)
        server.stop()
        server.host_key.unlink()
        make_key(server.host_key)
        server.start()
        with contextlib.suppress(HostUnreachable):  # the end of the old connection may be seen first
            await host.poll(None)
        with server.known_hosts.open("a") as known:  # as it is where a host has a line for each of its names
            known.write(server.known_hosts.read_text())
        with pytest.raises(HostRefused, match=r"has CHANGED from SHA256:[^ ,]+: ") as refused:
            await host.poll(None)
        await run(command_in(str(refused.value)))
        assert (await host.poll(None)).files == 0
        await host.disconnect()


async def test_a_host_key_of_another_kind_is_refused(staging: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh", start=False) as server:
        server.host_key.unlink()
        make_key(server.host_key, "ecdsa")
        server.start()
        host = Place(staging, server).host()
        with pytest.raises(HostRefused, match=r"ecdsa-sha2-nistp256 host key .* has CHANGED"):
            await host.poll(None)
        server.known_hosts.write_text("")
        with pytest.raises(HostRefused, match="is not known") as refused:
            await host.poll(None)
        await run(command_in(str(refused.value)))
        assert (await host.poll(None)).files == 0
        await host.disconnect()


@pytest.mark.parametrize(
    "lines", ["StrictHostKeyChecking no\nUserKnownHostsFile none\n", "UserKnownHostsFile /dev/null\n"]
)
async def test_no_configuration_switches_the_check_off(
    staging: Path, shared_sshd: Sshd, tmp_path: Path, lines: str
) -> None:
    config = tmp_path / "config"
    config.write_text(lines + shared_sshd.config.read_text())
    for known_hosts in (None, str(tmp_path / "missing")):
        host = ssh_host(staging, Target("127.0.0.1", shared_sshd.port, "", str(config), known_hosts))
        with pytest.raises(HostRefused, match="is not known"):
            await host.poll(None)
        await host.disconnect()


async def test_the_users_configuration_says_who_and_where(
    staging: Path, shared_sshd: Sshd, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"""Host data*
  HostName 127.0.0.1
  Port {shared_sshd.port}
  User {shared_sshd.user}
  IdentityFile {shared_sshd.folder / "key"}
  UserKnownHostsFile {shared_sshd.known_hosts}
  RequestTTY force
  RemoteCommand echo no
Host *
  IdentityFile /nonexistent/key
"""
    )
    write_files(staging, ["a.graw"])
    host = ssh_host(staging, Target("data3", None, "", str(config), None))
    assert (await host.poll(None)).files == 1
    await host.disconnect()


async def test_a_host_key_by_another_name(staging: Path, shared_sshd: Sshd, tmp_path: Path) -> None:
    config, known = tmp_path / "config", tmp_path / "known"
    config.write_text(f"HostKeyAlias cobo-3\n{shared_sshd.config.read_text()}")
    known.write_text("")
    host = ssh_host(staging, Target("127.0.0.1", shared_sshd.port, "", str(config), str(known)))
    with pytest.raises(HostRefused, match="is not known") as refused:
        await host.poll(None)
    await run(command_in(str(refused.value)))
    assert "cobo-3" in known.read_text()
    assert (await host.poll(None)).files == 0
    await host.disconnect()


async def test_a_key_that_is_not_let_in(staging: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server:
        server.authorized_keys.write_text("")
        host = Place(staging, server).host()
        with pytest.raises(HostRefused, match="accepts none of our SSH keys"):
            await host.poll(None)
        shutil.copy(server.folder / "key.pub", server.authorized_keys)
        assert (await host.poll(None)).files == 0
        await host.disconnect()


@contextlib.contextmanager
def key_agent(socket: Path) -> Iterator[None]:
    """Run an `ssh-agent` for the length of a block."""
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def test_a_key_with_a_passphrase_is_used_from_the_agent_and_nobody_is_asked(
    staging: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("k")  # a socket's path must be short
    async with sshd(folder / "ssh") as server:
        locked = make_key(folder / "locked", passphrase="open sesame")
        shutil.copy(locked.with_suffix(".pub"), server.authorized_keys)
        socket = folder / "agent"
        server.config.write_text(f"IdentityFile {locked}\nIdentityAgent {socket}\n")
        host = Place(staging, server).host()
        with pytest.raises(HostRefused, match="passphrase must be in the SSH agent"):
            await host.poll(None)
        with key_agent(socket):
            await until(socket.exists)
            plain = folder / "plain"
            await asyncio.to_thread(shutil.copy, locked, plain)
            await run(f"ssh-keygen -q -p -P 'open sesame' -N '' -f {plain}")
            await run(f"SSH_AUTH_SOCK={socket} ssh-add -q {plain}")
            assert (await host.poll(None)).files == 0
        await host.disconnect()


@pytest.mark.parametrize("text", ["Port none\n", "Host\n", "Match nonsense\n"])
async def test_a_configuration_that_cannot_be_read(
    staging: Path, shared_sshd: Sshd, tmp_path: Path, text: str
) -> None:
    config = tmp_path / "config"
    config.write_text(text)
    host = ssh_host(staging, Target("127.0.0.1", shared_sshd.port, "", str(config), None))
    with pytest.raises(HostRefused, match="SSH configuration"):
        await host.poll(None)
    await host.disconnect()


async def test_one_connection_for_all_routers_of_a_host(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server:
        stations = Stations()
        places = [Place(tmp_path / f"data{number}", server, stations=stations) for number in range(12)]
        for at in places:
            at.staging.mkdir()
            write_files(at.staging, [f"{number}.graw" for number in range(20)])
        hosts = [at.host() for at in places]
        looks = await asyncio.gather(*(host.poll(RUN) for host in hosts))
        assert {polled.files for polled in looks} == {20}
        listed = await asyncio.gather(*(host.list_staging() for host in hosts))
        await asyncio.gather(*(host.begin(RUN) for host in hosts))
        moved = await asyncio.gather(
            *(host.move(RUN, files) for host, files in zip(hosts, listed, strict=True))
        )
        assert {one.outcome for some in moved for one in some} == {MoveOutcome.MOVED}
        assert (server.folder / "sshd.log").read_text().count("Accepted publickey") == 1
        assert len(server.agents()) <= 10
        for host in hosts[1:]:
            await host.disconnect()
        assert (await hosts[0].poll(RUN)).files == 0
        await hosts[0].disconnect()
        await until(lambda: not server.agents())


async def test_letting_go_is_quick_and_can_be_undone(at: Place) -> None:
    host = at.host()
    await host.disconnect()
    for _ in range(2):
        assert (await host.poll(None)).files == 0
        taking = Stopwatch(programs=True)
        await host.disconnect()
        await host.disconnect()
        assert taking.s < 2.0


async def test_what_a_login_shell_prints_does_no_harm(staging: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh", start=False) as server:
        with (server.folder / "sshd_config").open("a") as file:
            file.write(
                "ForceCommand printf 'Welcome!\\nx6f6b\\nok x31\\nno end of line'; printf noise >&2; "
                'exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
            )
        server.start()
        async with place(staging, server) as at:
            write_files(staging, ["a.graw"])
            assert (await at.host().poll(None)).files == 1


def test_a_login_shell_may_print_before_anybody_waits_for_the_agent() -> None:
    agent = Agent("a host")
    agent.data_received(b"Welcome!\n", None)
    assert (agent.ended, agent.fault) == (False, None)


async def test_a_host_without_perl(staging: Path, tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh", start=False) as server:
        with (server.folder / "sshd_config").open("a") as file:
            file.write("ForceCommand echo 'perl: not found' >&2; exit 127\n")
        server.start()
        async with place(staging, server) as at:
            with pytest.raises(
                Exception, match=r"perl does not run on .* \(exit code 127\): perl: not found"
            ):
                await at.host().poll(None)


async def test_the_agent_needs_nothing_of_the_system_but_perl(shared_sshd: Sshd) -> None:
    checked = await asyncio.create_subprocess_exec(
        "perl",
        "-wc",
        "-",
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    _out, errors = await checked.communicate(script())
    assert errors.decode().strip().endswith("syntax OK")
    assert len(errors.splitlines()) == 1
