"""The agent itself: what it is refused, what others ask and answer, and what its Perl lacks."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import (
    HostFault,
    RunFolderExists,
)
from attpc_plugins.data_routers.hosts.local import folders
from attpc_plugins.data_routers.hosts.ssh.wire import GREETING, answer, request, script
from attpc_plugins.data_routers.model import FileEntry, closing_folder

from tests.support.datahosts import RUN, sums_of, write_files

NOBODY = 65534

Tell = Callable[[Path], list[str]]


# What an account that is not root meets. Root is refused nothing: its part is done as another account.


def ask_agent(
    lines: list[bytes],
    *,
    account: int | None = None,
    env: dict[str, str] | None = None,
    limit_bytes: int | None = None,
) -> list[bytes]:
    """Run the agent itself and return its answers."""
    import resource

    def limit() -> None:
        assert limit_bytes is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = subprocess.run(
        ["perl", "-"],
        input=script() + b"".join(lines),
        stdout=subprocess.PIPE,
        check=True,
        cwd="/",
        env={"PATH": os.environ["PATH"]} | (env or {}),
        user=account,
        group=account,
        extra_groups=None if account is None else [],
        preexec_fn=None if limit_bytes is None else limit,
        timeout=60,
    )
    greeting, *answers = done.stdout.splitlines()
    assert GREETING.fullmatch(greeting)
    return answers


def other_account() -> int | None:
    """Return the account that is refused things: another one for root, else our own."""
    return NOBODY if os.geteuid() == 0 else None


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that another account can reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)
        for path in (Path(made), *Path(made).rglob("*")):
            if path.is_dir():
                path.chmod(0o755)


def told_locally(staging: Path) -> list[str]:
    """Have our own calls made by a child that is another account; return what they told."""
    where = folders.RunFolders(bytes(staging), RUN)
    file = FileEntry("a.graw", 100, 0.0)
    calls: tuple[Callable[[], object], ...] = (
        lambda: folders.begin(where),
        lambda: [(one.outcome.name, one.text) for one in folders.move(where, [file], lambda: None)],
        lambda: folders.finish(where, b"{}"),
        lambda: folders.listing(where.staging, *where.names(closed=False)),
    )
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if (account := other_account()) is not None:
                os.setgroups([])
                os.setgid(account)
                os.setuid(account)
            told = []
            for call in calls:
                try:
                    told.append(str(call()))
                except HostFault as fault:
                    told.append(str(fault))
            os.write(writer, "\n".join(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said.decode().splitlines()


def told_by_agent(staging: Path) -> list[str]:
    run = folders.RunFolders(bytes(staging), RUN)
    asked = [
        request("begin", 30, (run.staging, run.experiment, run.closing, run.closed)),
        request("move", 30, (run.staging, *run.names(closed=False), b"0", b"a.graw", b"100")),
        request("finish", 30, (run.staging, run.experiment, run.closing, run.closed, b"{}")),
        request("listing", 30, (b"", run.staging, *run.names(closed=False))),
    ]
    told = []
    for line in ask_agent(asked, account=other_account()):
        try:
            told.append(str(answer(line)))
        except HostFault as fault:
            told.append(str(fault))
    return told


def in_place(staging: Path) -> Path:
    return staging / RUN.experiment / closing_folder(RUN)


@pytest.mark.parametrize("tell", [told_locally, told_by_agent])
def test_permission_denied_at_the_staging_folder(folder: Path, tell: Tell) -> None:
    sums = write_files(folder, ["a.graw"])
    folder.chmod(0o555)
    first = tell(folder)[0]
    assert first == f"permission denied: {str(folder / RUN.experiment)!r}"
    assert os.listdir(folder) == ["a.graw"]
    folder.chmod(0o755)
    assert sums_of(folder) == sums


@pytest.mark.parametrize("tell", [told_locally, told_by_agent])
def test_permission_denied_at_the_closing_folder(folder: Path, tell: Tell) -> None:
    sums = write_files(folder, ["a.graw"])
    in_place(folder).mkdir(parents=True)
    in_place(folder).chmod(0o500 if os.geteuid() == 0 else 0o400)
    begun, moved, finished, listed = tell(folder)
    assert begun in ("None", "[]")
    assert "permission denied" in moved.lower()
    assert "permission denied" in finished or "there is no" in finished
    assert "permission denied" in listed or listed in ("()", "[]")
    in_place(folder).chmod(0o755)
    assert sums_of(folder) == sums
    assert os.listdir(in_place(folder)) == []


def hard_links_are_protected() -> bool:
    setting = Path("/proc/sys/fs/protected_hardlinks")
    return setting.exists() and setting.read_text().strip() == "1"


@pytest.mark.skipif(
    os.geteuid() != 0 or not hard_links_are_protected(),
    reason="needs root, who can write files of another account, and a Linux that protects hard links",
)
@pytest.mark.parametrize("tell", [told_locally, told_by_agent])
def test_where_no_hard_link_can_be_made_files_are_renamed(folder: Path, tell: Tell) -> None:
    sums = write_files(folder, ["a.graw"])  # of root: another account may rename it here, and not link it
    folder.chmod(0o777)
    _begun, moved, finished, _listed = tell(folder)
    assert "moved" in moved.lower()
    assert finished in ("None", "[]")
    assert sums_of(folder / RUN.experiment / RUN.folder) == sums
    assert sums_of(folder) == {}


def test_the_agent_reports_a_limit_on_sizes_and_changes_nothing(tmp_path: Path) -> None:
    run = folders.RunFolders(bytes(tmp_path), RUN)
    folders.begin(run)
    fields = (run.staging, run.experiment, run.closing, run.closed, b"x" * 10_000)
    (line,) = ask_agent([request("finish", 30, fields)], limit_bytes=4096)
    with pytest.raises(HostFault, match="larger than is allowed"):
        answer(line)
    assert os.listdir(in_place(tmp_path)) == []
    assert not (tmp_path / RUN.experiment / RUN.folder).exists()


@pytest.mark.parametrize("program", ["shasum", "sha256sum"])
def test_checksums_without_perls_own(tmp_path: Path, program: str) -> None:
    """A Perl without Digest::SHA asks a program, whatever the file is called."""
    hidden = tmp_path / "lib" / "Digest"
    hidden.mkdir(parents=True)
    (hidden / "SHA.pm").write_text("die 'not there';\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    # No other one is found: `shasum` is itself a Perl program that needs Digest::SHA.
    real = subprocess.run(
        ["which", "sha256sum"], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.strip()
    if program == "sha256sum":
        (tools / program).symlink_to(real)
    else:
        (tools / program).write_text(f'#!/bin/sh\n[ "$1 $2" = "-a 256" ] && exec {real} "$3"\n')
        (tools / program).chmod(0o755)
    data = tmp_path / "data"
    data.mkdir()
    sums = write_files(data, [b"a.graw", b"-b\n$(x).graw", b"c\\d\xff.graw"])
    env = {"PERL5LIB": str(tmp_path / "lib"), "PATH": f"{tools}:{os.environ['PATH']}"}
    (line,) = ask_agent([request("listing", 30, (b"all", bytes(data)))], env=env)
    fields = answer(line)
    assert dict(zip(fields[0::4], (one.decode() for one in fields[3::4]), strict=True)) == sums


def test_nonsense_that_the_agent_is_asked_does_not_end_it(tmp_path: Path) -> None:
    lines = [
        b"\n",
        b"nonsense\n",
        request("nonsense", 5, (b"x",)),
        b"poll\n",
        b"poll zz not-hex\n",
        b"move x31\n",
        request("listing", 5, (b"", bytes(tmp_path))),
    ]
    answers = ask_agent(lines)
    assert len(answers) == len(lines)
    for line in answers[:-1]:
        with pytest.raises(HostFault):
            answer(line)
    assert answer(answers[-1]) == []


@pytest.mark.parametrize(
    "line", [b"", b"ok 31", b"ok x3", b"ok xzz", b"fine", b"trouble", b"trouble x61", b"ok  x31"]
)
def test_nonsense_of_an_agent_is_recognized(line: bytes) -> None:
    with pytest.raises(ValueError, match="agent's answer"):
        answer(line)


def test_a_trouble_that_is_new_keeps_its_words() -> None:
    def field(text: str) -> bytes:
        return b"x" + text.encode().hex().encode()

    with pytest.raises(HostFault, match="'/a': the moon is full"):
        answer(b" ".join([b"trouble", field("lunar"), field("/a"), field("the moon is full")]))
    with pytest.raises(RunFolderExists, match="'/a' exists already"):
        answer(b" ".join([b"trouble", field("exists"), field("/a"), field("")]))
