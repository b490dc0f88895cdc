"""Programs of the product as processes of their own that do not import it anew.

Python's fork server imports the product once for each test worker, and every program is a fork of it: with
its own pid, memory, signals and exit code, but without the 0.7 s of processor time that the imports take.
What is about an interpreter's start (encodings, what is imported when, what a shell passes on) starts a
real one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

SHELL = "attpc_ioc.cli"
"""The module of the shell command `attpc-ioc`."""

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.support.preloaded"])


def _become(
    words: tuple[str, ...],
    env: dict[str, str],
    folder: str,
    session: bool,
    stdout: Connection,
    stderr: Connection,
) -> None:
    """Be the program, in the forked process."""
    if session:
        os.setsid()
    for number, stream in ((1, stdout), (2, stderr)):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    module, *sys.argv[1:] = words
    sys.argv[0] = "attpc-ioc"
    runpy.run_module(module, run_name="__main__", alter_sys=False)


class Forked:
    """A forked program, in the shape of `asyncio.subprocess.Process`."""

    def __init__(
        self,
        words: tuple[str, ...],
        env: Mapping[str, str],
        folder: Path,
        stdout: int,
        stderr: int,
        session: bool = False,
    ) -> None:
        ends = [Connection(os.dup(number), readable=False) for number in (stdout, stderr)]
        arguments = (words, dict(env), str(folder), session, *ends)
        self._process = _server.Process(target=_become, args=arguments, name=" ".join(words), daemon=True)
        self._process.start()
        for end in ends:
            end.close()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def join(self, limit_s: float) -> int:
        """Wait for the end, in a test without a loop."""
        self._process.join(limit_s)
        if self.returncode is None:
            self.kill()
            raise TimeoutError(f"{self._process.name} did not end in {limit_s} s")
        return self.returncode

    async def wait(self) -> int:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        if self.returncode is None:
            # More than one may wait: each with a descriptor of its own.
            sentinel = os.dup(self._process.sentinel)
            loop.add_reader(sentinel, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(sentinel)
                os.close(sentinel)
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Read what it writes until its end."""
        streams = (self.stdout, self.stderr)
        out, err = await asyncio.gather(*(stream.read() if stream else _nothing() for stream in streams))
        await self.wait()
        return out, err


async def _nothing() -> bytes:
    return b""


async def forked(
    *words: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdout: int = DEVNULL,
    stderr: int | BinaryIO = DEVNULL,
    session: bool = False,
    limit_bytes: int = 1 << 20,
) -> Forked:
    """Start a module with its arguments; `stdout` and `stderr` as for `subprocess`.

    With `session` it leads a session and a process group of its own. Its lines have `limit_bytes` at most.
    """
    keep: list[int] = []
    readers: list[int | None] = []
    for wanted in (stdout, stderr):
        reader = None
        if wanted == PIPE:
            reader, writer = os.pipe()
            keep.append(writer)
        elif wanted == STDOUT:
            keep.append(os.dup(keep[0]))
        elif wanted == DEVNULL:
            keep.append(os.open(os.devnull, os.O_WRONLY))
        else:
            assert not isinstance(wanted, int)
            keep.append(os.dup(wanted.fileno()))
        readers.append(reader)
    try:
        made = Forked(
            tuple(map(os.fspath, words)), env or os.environ, folder or Path.cwd(), keep[0], keep[1], session
        )
    finally:
        for number in keep:
            os.close(number)
    made.stdout, made.stderr = [
        await _stream(number, limit_bytes) if number is not None else None for number in readers
    ]
    return made


async def _stream(number: int, limit_bytes: int) -> asyncio.StreamReader:
    stream = asyncio.StreamReader(limit=limit_bytes)
    pipe = os.fdopen(number, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    return stream


def run_forked(
    *words: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    limit_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a module with its arguments to its end, as `subprocess.run` would."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        made = Forked(
            tuple(map(os.fspath, words)),
            env or os.environ,
            folder or Path.cwd(),
            out.fileno(),
            err.fileno(),
        )
        code = made.join(limit_s)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(list(map(os.fspath, words)), code, *texts)
