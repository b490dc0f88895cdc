"""The user's SSH files are read as `ssh` reads them; `ssh -G` is asked for comparison."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest
from attpc_plugins.data_routers.hosts.host import HostRefused
from attpc_plugins.data_routers.hosts.ssh.dial import Target
from attpc_plugins.data_routers.hosts.ssh.files import ConfigCopies, read_known_hosts
from attpc_plugins.data_routers.hosts.ssh.link import Link

from tests.support.needs import needs
from tests.support.sshd import Sshd, make_key

HOST = "mm3"

needs_ssh = needs("ssh")

Values = dict[str, list[str]]


def of_ssh(config: Path) -> Values | None:
    """Return what `ssh` makes of a file; None where it refuses it."""
    ran = subprocess.run(
        ["ssh", "-G", "-F", str(config), HOST], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if ran.returncode:
        return None
    found: Values = {}
    for line in ran.stdout.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def of_ours(config: Path, folder: Path) -> Values | None:
    """Return what asyncssh makes of a file as it is given to it."""
    copies = ConfigCopies(lambda: folder)
    try:
        options = asyncssh.SSHClientConnectionOptions(
            host=HOST, config=[copies.readable(str(config))], client_keys=None
        )
    except (ValueError, asyncssh.Error):
        return None
    got = options.config.get
    return {
        "hostname": [options.host],
        "port": [str(options.port)],
        "user": [options.username],
        "identityfile": [str(one) for one in _list(got("IdentityFile"))],
        "certificatefile": [str(one) for one in _list(got("CertificateFile"))],
        "userknownhostsfile": [" ".join(str(one) for one in _list(got("UserKnownHostsFile")))],
        "proxyjump": [str(got("ProxyJump"))],
        "hostkeyalias": [str(got("HostKeyAlias"))],
        "connecttimeout": [str(got("ConnectTimeout"))],
        "serveraliveinterval": [str(got("ServerAliveInterval"))],
        "identitiesonly": ["yes" if got("IdentitiesOnly") else "no"],
    }


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


SAME = [
    "Port 23 # the gate's\nUser get # a comment\nHostName 10.0.0.3 # mm3\n",
    "Port=24\nUser = get\nIdentityFile=/a/key\n",
    '"Port" 24\n\tUser\tget\r\n',
    "ConnectTimeout 1m\nServerAliveInterval 10s\n",
    "ConnectTimeout 1h30m\nServerAliveInterval 1W\n",
    "ServerAliveInterval 90\nConnectTimeout 5\n",
    "Port ssh\n",
    'IdentityFile "/a b/key" # with a space\nIdentityFile /c/key\nIdentitiesOnly YES # only\n',
    "IdentityFile '/a b/key'\n",
    "IdentityFile /a\\ b/key\n",
    "User LAB\\get\nIdentityFile /a#b/key\n",
    "CertificateFile /nowhere/key-cert.pub\n",
    "UserKnownHostsFile /a /b # and so on\n",
    "HostKeyAlias cobo-3#1 # alias\n",
    "Host mm3 # not mm4\n  Port 25\n",
    "Host mm4\n  Port 25\nHost !mm3 mm*\n  Port 26\nHost *\n  Port 27\n",
    "Match host mm3 # this one\n  Port 25\n",
    'Match exec "true" # always\n  Port 25\n',
    "Match all\n  User get\n",
    "# \udcff in a comment\nPort 23\n# \udce9\n",
    "PubkeyAuthentication unbound\nPort 23\n",
    "ProxyJump gate,get@gate2:44 # in and in\n",
    "RekeyLimit 1G 1h # both\nPort 23\n",
    "Include /nowhere/*\nPort 23\n",
    "Compression yes#no\n",
    "Port none\n",
    "Port 0x16\n",
    "Port 22 33\n",
    "Host\n",
    "Port\n",
    "User a\\\\b\n",
    'User "a\'b" # c\n',
    "\n \n# only\n",
    "Match nonsense\n",
    "ConnectTimeout 1.5\n",
    "ConnectTimeout soon\n",
    'User "a b\n',
    "Compression maybe # or not\n",
]


@needs_ssh
@pytest.mark.parametrize("text", SAME)
def test_a_configuration_means_what_it_means_to_ssh(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config"
    config.write_bytes(text.encode("utf-8", "surrogateescape"))
    theirs, ours = of_ssh(config), of_ours(config, tmp_path)
    assert (theirs is None) == (ours is None), (theirs, ours)
    if theirs is None or ours is None:
        return
    for key, values in ours.items():
        said = key in text.lower()
        if said or key in ("port", "hostname", "user"):
            assert values == theirs[key], key


@needs_ssh
def test_included_files_are_read_in_the_same_way(tmp_path: Path) -> None:
    for name, text in {
        "b.conf": "Port 24 # second\n",
        "a.conf": "Port 23 # first\nUser get # both\nInclude {}/deep\n",
        "deep": "IdentityFile /deep # down\n",
    }.items():
        (tmp_path / name).write_text(text.format(tmp_path))
    config = tmp_path / "config"
    config.write_text(
        f"Host mm4\n  Include {tmp_path}/none\nHost mm3\n  Include {tmp_path}/*.conf # two\n  HostName m\n"
    )
    folder = tmp_path / "copies"
    folder.mkdir()
    theirs, ours = of_ssh(config), of_ours(config, folder)
    assert theirs is not None
    assert ours is not None
    for key in ("port", "user", "identityfile", "hostname"):
        assert ours[key] == theirs[key]


def test_a_file_is_copied_only_where_something_has_to_be_changed(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("# nothing\nHost *\n  Port=23\n\tProxyCommand  nc '%h' %p # x\n  User 'a b'\n")
    assert ConfigCopies(lambda: tmp_path / "missing").readable(str(config)) == str(config)


def test_files_that_include_themselves_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Include {config}\n")
    with pytest.raises(ValueError, match="include one another"):
        ConfigCopies(lambda: tmp_path).readable(str(config))


async def test_a_fault_is_said_with_the_users_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("# first\nUser get # second\nPort none # third\n")
    link = Link(Target("127.0.0.1", None, "", str(config), str(tmp_path / "known")))
    with pytest.raises(HostRefused, match=rf"{config} line 3: Invalid Port integer value: none"):
        await link.connection()


BAD: list[tuple[Callable[[str], str], str]] = [
    (lambda _key: "mm3", "Invalid known hosts entry"),
    (lambda key: f"@nonsense mm3 {key}", "Invalid known hosts marker"),
    (lambda key: f"|1|zz|yy {key}", "Invalid known hosts hash entry"),
    (lambda key: f"|2|YQ==|YQ== {key}", "Invalid known hosts hash type"),
    (lambda _key: "@revoked mm3", "Invalid known hosts entry"),
    (lambda _key: "mm3 ssh-ed25519 AAAA", "Invalid"),
    (lambda _key: "mm3 ssh-ed25519 !!", "Invalid"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_one_bad_line_of_known_hosts_is_passed_over_and_named(
    tmp_path: Path, bad: Callable[[str], str], reason: str
) -> None:
    key = make_key(tmp_path / "key").with_suffix(".pub").read_text().strip()
    file = tmp_path / "known"
    file.write_bytes(b"# \xe9\n" + f"{bad(key)}\nother,[mm3]:2222 {key} the last\n\n".encode())
    known, passed = read_known_hosts([str(tmp_path / "none"), str(file), str(tmp_path)])
    assert len(known.match("mm3", "", 2222)[0]) == 1
    assert len(passed) == 2
    assert passed[0].startswith(f"{file} line 2 ({reason}")
    assert passed[1] == f"{tmp_path} (Is a directory)"


async def test_a_bad_line_is_named_where_the_host_is_not_known(shared_sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known"
    good = shared_sshd.known_hosts.read_text()
    known.write_text("torn\n" + good)
    target = Target("127.0.0.1", shared_sshd.port, "", str(shared_sshd.config), str(known))
    link = Link(target)
    await link.connection()
    await link.close()
    known.write_text(good.split()[0] + " ssh-ed25519 AAAAtorn\n")
    with pytest.raises(HostRefused, match=rf"is not known \(ignored: {known} line 1 \(.*then run: ssh-k"):
        await Link(target).connection()


async def test_key_and_certificate_files_that_ssh_passes_over(shared_sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("no key\n")
    (tmp_path / "folder").mkdir()
    config = tmp_path / "config"
    lines = [f"{what} {tmp_path / name}" for name in ("junk", "folder", "none") for what in FILES]
    config.write_text("\n".join([*lines, f"IdentityFile {shared_sshd.folder / 'key'} # ours"]))
    target = Target("127.0.0.1", shared_sshd.port, "", str(config), str(shared_sshd.known_hosts))
    link = Link(target)
    await link.connection()
    await link.close()


FILES = ("IdentityFile", "CertificateFile")


async def test_known_hosts_are_found_at_home(
    shared_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "hosts-127.0.0.1").write_text(shared_sshd.known_hosts.read_text())
    config = tmp_path / "config"
    for line in ("UserKnownHostsFile ~/none ~/hosts-%h", "GlobalKnownHostsFile %d/hosts-127.0.0.1"):
        config.write_text(f"{line} # here\n{shared_sshd.config.read_text()}")
        link = Link(Target("127.0.0.1", shared_sshd.port, "", str(config), None))
        await link.connection()
        await link.close()
