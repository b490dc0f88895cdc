"""`attpc-ioc check --online` asks the hosts of the data routers too."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.data_routers.test_commands import Shell
from tests.support.forked import SHELL, run_forked
from tests.support.sshd import Sshd, sshd_server

OTHERS = "configuration files of every other ECC server"


def online(shell: Shell, timeout: str = "5") -> subprocess.CompletedProcess[str]:
    """Check the file as a person does. The ECC servers of it are not there, so that 1 is the exit code."""
    return run_forked(SHELL, "check", shell.file, "--online", "--timeout", timeout)


def routers(tmp_path: Path, server: Sshd) -> list[dict]:
    return [
        {"access": "local", "sources": ["CoBo0"], "staging": str(tmp_path / "CoBo0"), "process": ""},
        {
            "access": "ssh",
            "host": "127.0.0.1",
            "port": server.port,
            "user": server.user,
            "sources": ["MuTAnT"],
            "staging": str(tmp_path / "MuTAnT"),
            "process": "no-such-router",
        },
    ]


def configs(tmp_path: Path, server: Sshd) -> str:
    """Return tables of configuration files; the folder of the second is not there."""
    return f'''
[[plugins.data_routers.ecc]]
names = ["mutant"]
access = "local"
xcfg = "{tmp_path}/xcfg"

[[plugins.data_routers.ecc]]
access = "ssh"
host = "127.0.0.1"
port = {server.port}
user = "{server.user}"
xcfg = "{tmp_path}/gone"
'''


def test_each_host_of_a_data_router_is_asked(tmp_path):
    with sshd_server(tmp_path / "ssh") as server:
        more = f'ssh_config = "{server.config}"\nknown_hosts = "{server.known_hosts}"'
        (tmp_path / "xcfg").mkdir()
        shell = Shell(tmp_path, routers(tmp_path, server), more + configs(tmp_path, server))
        (shell.staging["CoBo0"] / "a.graw").write_bytes(b"data")
        ran = online(shell)
        assert (
            f"data router CoBo0 at this machine: {tmp_path}/CoBo0 is there, with 1 file in it" in ran.stdout
        )
        assert f"data router MuTAnT at 127.0.0.1: {tmp_path}/MuTAnT is there, with 0 files" in ran.stdout
        assert "; no process no-such-router\n" in ran.stdout
        assert f"configuration files of mutant at this machine: {tmp_path}/xcfg is there\n" in ran.stdout
        assert f"{OTHERS} at 127.0.0.1: " in ran.stdout
        assert f"{tmp_path}/gone" in ran.stdout
        assert (ran.returncode, ran.stderr) == (1, f"not right: cobo0, mutant, {OTHERS}\n")
        assert server.agents() == []

        server.known_hosts.write_text("")
        (shell.staging["CoBo0"] / "a.graw").unlink()
        shell.staging["CoBo0"].rmdir()
        ran = online(shell)
        assert "data router MuTAnT at 127.0.0.1: the ssh-ed25519 host key of" in ran.stdout
        assert f"ssh-keyscan -t ed25519 -p {server.port} 127.0.0.1 >> {server.known_hosts}" in ran.stdout
        assert "CoBo0" in ran.stdout
        assert ran.stderr == f"not right: cobo0, mutant, data router CoBo0, data router MuTAnT, {OTHERS}\n"

        server.config.unlink()
        ran = online(shell)
        assert "data router MuTAnT at 127.0.0.1: the SSH configuration for" in ran.stdout
        assert str(server.config) in ran.stdout


def test_a_slow_login_is_waited_for_as_long_as_the_ioc_waits(tmp_path):
    """The time of a look does not bound the way to the host, with neither `--timeout` nor the settings."""
    with sshd_server(tmp_path / "ssh", start=False) as server:
        with (server.folder / "sshd_config").open("a") as file:
            file.write('ForceCommand sleep 4; exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
        server.start()
        more = f'ssh_config = "{server.config}"\nknown_hosts = "{server.known_hosts}"\n'
        shell = Shell(tmp_path, routers(tmp_path, server), more)
        ran = online(shell, "0.5")
        assert f"data router MuTAnT at 127.0.0.1: {tmp_path}/MuTAnT is there, with 0 files" in ran.stdout
        assert "MuTAnT" not in ran.stderr.replace("mutant", "")

        text = shell.file.read_text()
        shell.file.write_text(text.replace(more, f"{more}connect_timeout_s = 1.5\n"))
        ran = online(shell, "60")
        assert "data router MuTAnT at 127.0.0.1: " in ran.stdout
        assert "within 1.5 s\n" in ran.stdout
        assert "data router MuTAnT" in ran.stderr
