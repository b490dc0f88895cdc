"""A real `sshd` on loopback, with keys and files of its own; runs as root and as an ordinary user."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.ca import free_port
from tests.support.needs import found, skip

SSHD = found("sshd")
PRIVILEGE_FOLDER = Path("/run/sshd")
"""Of an sshd that root starts; packages leave it to the system's start, which containers have none of."""


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair; return the private key's path."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@dataclass
class Sshd:
    """One server. `config` is a client's configuration that has the key; `known_hosts` has the host key."""

    folder: Path
    port: int
    user: str
    config: Path
    known_hosts: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def host_key(self) -> Path:
        """The server's private key."""
        return self.folder / "host_key"

    @property
    def authorized_keys(self) -> Path:
        """Whom it lets in."""
        return self.folder / "authorized_keys"

    def know(self) -> None:
        """Have the host key known."""
        key = self.host_key.with_suffix(".pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}")

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert SSHD is not None
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 20
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < end, "sshd does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def offspring(self) -> list[psutil.Process]:
        """Return all processes below the server."""
        assert self.process is not None
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def agents(self) -> list[psutil.Process]:
        """Return the perl processes below the server."""
        found = []
        for process in self.offspring():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "perl":
                    found.append(process)
        return found

    def stop(self) -> None:
        """End it and all that it started."""
        if self.process is None:
            return
        below = self.offspring()
        self.process.kill()
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(below, 10)
        self.process = None


def _is_locked(user: str) -> bool:
    """Tell whether an account has no password, as root on some systems: `sshd` lets it in by PAM only."""
    shadow = Path("/etc/shadow")
    if os.geteuid() != 0 or not shadow.exists():
        return False
    fields = [line.split(":") for line in shadow.read_text().splitlines()]
    return any(field[0] == user and field[1].startswith("!") for field in fields)


def _prepared(folder: Path) -> Sshd:
    """Write the files of a server and of its client."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        PRIVILEGE_FOLDER.mkdir(mode=0o755, exist_ok=True)
    server = Sshd(folder, free_port(), getpass.getuser(), folder / "config", folder / "known_hosts")
    make_key(server.host_key)
    key = make_key(folder / "key")
    shutil.copy(key.with_suffix(".pub"), server.authorized_keys)
    server.know()
    (folder / "sshd_config").write_text(
        f"""ListenAddress 127.0.0.1
Port {server.port}
HostKey "{server.host_key}"
AuthorizedKeysFile "{server.authorized_keys}"
PidFile none
StrictModes no
UsePAM {"yes" if _is_locked(server.user) else "no"}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel INFO
"""
    )
    server.config.write_text(f'IdentityFile "{key}"\nIdentitiesOnly yes\n')
    return server


@contextlib.contextmanager
def sshd_server(folder: Path, *, start: bool = True) -> Iterator[Sshd]:
    """Run a server for the length of a block; its known host key and a key that it accepts are in files."""
    if SSHD is None:
        skip("sshd")
    server = _prepared(folder)
    try:
        if start:
            server.start()
        yield server
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def sshd(folder: Path, *, start: bool = True) -> AsyncIterator[Sshd]:
    """Run a server for the length of a block of a coroutine."""
    server = sshd_server(folder, start=start)
    started = await asyncio.to_thread(server.__enter__)
    try:
        yield started
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
