"""Data hosts behind a jump host: whose keys are believed, and which host a message names."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import HostRefused, HostTimeout, HostUnreachable
from attpc_plugins.data_routers.hosts.ssh.dial import Target
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.settings import Access, RouterSettings

from tests.data_routers.test_hosts_ssh import command_in, run
from tests.support.ca import free_port
from tests.support.datahosts import LIMITS, until, write_files
from tests.support.slowwire import wire
from tests.support.sshd import Sshd, sshd


@dataclass
class Way:
    """A data host `mm3`, behind the jump host `gate`; the files are those that the settings name."""

    folder: Path
    gate: Sshd
    data: Sshd

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known"

    def write(
        self,
        *,
        gate_port: int | None = None,
        data_port: int | None = None,
        jump: str = "ProxyJump gate",
        more: str = "",
    ) -> None:
        """Write the configuration; nothing of it is in the user's own files."""
        (self.folder / "config").write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {gate_port or self.gate.port}\n"
            f"  IdentityFile {self.gate.folder / 'key'}\n"
            f"Host mm3\n  HostName 127.0.0.1\n  Port {data_port or self.data.port}\n"
            f"  IdentityFile {self.data.folder / 'key'}\n  {jump}\n{more}"
        )

    def know(self, *servers: Sshd) -> None:
        self.known_hosts.write_text("".join(one.known_hosts.read_text() for one in servers))

    @contextlib.asynccontextmanager
    async def host(self, name: str = "mm3", connect_s: float = 30.0) -> AsyncIterator[SshHost]:
        target = Target(name, None, "", str(self.folder / "config"), str(self.known_hosts), connect_s)
        router = RouterSettings(
            access=Access.SSH, host=name, sources=("CoBo3",), staging=str(self.folder), process=""
        )
        host = SshHost(router, target, LIMITS, Stations())
        try:
            yield host
        finally:
            await host.disconnect()


@contextlib.asynccontextmanager
async def way(folder: Path, gate_config: str = "") -> AsyncIterator[Way]:
    async with sshd(folder / "gate", start=False) as gate, sshd(folder / "data") as data:
        with (gate.folder / "sshd_config").open("a") as file:
            file.write(gate_config)
        gate.start()
        made = Way(folder, gate, data)
        made.write()
        made.know(gate, data)
        yield made


async def test_the_known_hosts_of_the_settings_hold_for_every_hop(tmp_path: Path) -> None:
    async with way(tmp_path) as to:
        write_files(tmp_path, ["a.graw"])
        async with to.host() as host:
            assert (await host.poll(None)).files == 1
            assert len(await host.list_staging()) == 1
        await until(lambda: not to.gate.offspring() and not to.data.offspring())


async def test_a_hop_whose_key_is_unknown_is_named_with_the_command_that_adds_it(tmp_path: Path) -> None:
    async with way(tmp_path) as to, to.host() as host:
        to.know()
        with pytest.raises(HostRefused, match=r"key of the jump host gate on the way to mm3 is not known"):
            await host.poll(None)
        with pytest.raises(HostRefused) as refused:
            await host.poll(None)
        await run(command_in(str(refused.value)))
        # What is behind it cannot be asked by ssh-keyscan.
        with pytest.raises(HostRefused, match=r"host key of mm3 is not known") as refused:
            await host.poll(None)
        assert "ssh-keyscan" not in str(refused.value)
        await run(command_in(str(refused.value)))
        assert (await host.poll(None)).files == 0


async def test_the_hop_that_fails_is_named(tmp_path: Path) -> None:
    async with way(tmp_path) as to:
        async with to.host() as host:
            to.write(gate_port=free_port())
            with pytest.raises(
                HostUnreachable, match=r"^the jump host gate on the way to mm3: Connection refused"
            ):
                await host.poll(None)
        async with to.host() as host:
            to.write(data_port=free_port())
            with pytest.raises(HostUnreachable, match=r"^mm3: the jump host gate cannot reach it: Conn"):
                await host.poll(None)
        to.write()
        to.gate.authorized_keys.write_text("")
        async with to.host() as host:
            with pytest.raises(HostRefused, match=r"^the jump host gate on the way to mm3 accepts none"):
                await host.poll(None)
        to.gate.authorized_keys.write_text((to.gate.folder / "key.pub").read_text())
        to.data.authorized_keys.write_text("")
        async with to.host() as host:
            with pytest.raises(HostRefused, match=r"^mm3 accepts none of our SSH keys"):
                await host.poll(None)
        await until(lambda: not to.gate.offspring() and not to.data.offspring())


async def test_the_hop_that_is_silent_is_named(tmp_path: Path) -> None:
    async with way(tmp_path) as to, wire(to.gate.port) as gate_relay, wire(to.data.port) as data_relay:
        gate, data = (one.host_key.with_suffix(".pub").read_text() for one in (to.gate, to.data))
        to.known_hosts.write_text(f"[127.0.0.1]:{gate_relay.port} {gate}[127.0.0.1]:{data_relay.port} {data}")
        to.write(gate_port=gate_relay.port, data_port=data_relay.port)
        gate_relay.open.clear()
        async with to.host(connect_s=2.0) as host:
            with pytest.raises(HostTimeout, match=r"^the jump host gate on the way to mm3 did not answer"):
                await host.list_staging()
        gate_relay.open.set()
        data_relay.open.clear()
        async with to.host(connect_s=5.0) as host:
            with pytest.raises(HostTimeout, match=r"^mm3 did not answer within 5 s"):
                await host.list_staging()


async def test_a_jump_host_that_lets_nobody_through_is_named(tmp_path: Path) -> None:
    async with way(tmp_path, "AllowTcpForwarding no\n") as to, to.host() as host:
        with pytest.raises(HostRefused, match=r"^the jump host gate does not forward to mm3: see 'Allow"):
            await host.poll(None)


async def test_a_jump_host_that_is_reached_by_itself_is_refused(tmp_path: Path) -> None:
    async with way(tmp_path) as to, to.host() as host:
        to.write(more="Host *\n  ProxyJump gate\n")
        with pytest.raises(HostRefused, match=r"give it 'ProxyJump none'"):
            await host.poll(None)


@pytest.mark.parametrize("jump", ["{user}@127.0.0.1:{port}", "ssh://{user}@127.0.0.1:{port}", "gate,gate2"])
async def test_jump_hosts_are_named_in_every_way_of_openssh(tmp_path: Path, jump: str) -> None:
    async with way(tmp_path) as to, to.host() as host:
        named = jump.format(user=to.gate.user, port=to.gate.port)
        config = tmp_path / "config"
        again = config.read_text().split("Host mm3")[0].replace("Host gate", "Host gate2")
        config.write_text(
            f"{again}{config.read_text()}".replace("ProxyJump gate", f"ProxyJump {named} # the way in")
            + f"Host *\n  IdentityFile {to.gate.folder / 'key'}\n"
        )
        assert (await host.poll(None)).files == 0


async def test_a_proxy_command_is_run_by_a_shell_and_may_speak(tmp_path: Path) -> None:
    async with way(tmp_path) as to:
        relay = tmp_path / "relay.pl"
        relay.write_text(RELAY)
        for command in (f"=perl '{relay}' %h %p 2>/dev/null", f" perl '{relay}' %h %p # no comment"):
            to.write(jump=f"ProxyCommand{command}")
            async with to.host() as host:
                assert (await host.poll(None)).files == 0
        to.write(jump="ProxyCommand perl /nowhere %h")
        async with to.host() as host:
            ended = "(?:Connection lost|Broken pipe)"  # whether it ends before it is written to
            with pytest.raises(HostUnreachable, match=rf"^mm3 \(by its ProxyCommand\): {ended}"):
                await host.poll(None)


RELAY = r"""
print STDERR "a word of welcome\n";
use strict; use IO::Socket::INET; use IO::Select;
die 'words' if @ARGV < 2;
my $peer = IO::Socket::INET->new("$ARGV[0]:$ARGV[1]") or die;
my $both = IO::Select->new($peer, \*STDIN);
while (1) {
    for my $from ($both->can_read) {
        sysread($from, my $data, 65536) or exit;
        syswrite($from == $peer ? \*STDOUT : $peer, $data);
    }
}
"""
