r"""The rows of a backup, read as data: nothing in a backup is ever run.

A backup may come from anywhere. pg_restore writes the rows of its tables as text, each table's between a line
`COPY attpc.runs (id, ...) FROM stdin;` and a line `\.`. This text is parsed here and never passed to psql,
which would run it: anything but such rows and the states of sequences is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attpc_plugins.run_history.errors import DatabaseError

CHUNK = 1 << 18
"""Bytes in memory at a time; a row may be larger."""

LINE_BYTES = 1 << 16
"""Maximum bytes of a line that is not a row."""

SPARE_BYTES, RATIO = 1 << 30, 100
"""Limits of a backup's unpacked size: bytes, and a multiple of its own. Rows are compressed 5 to 30 times."""

_MAGIC = b"PGDMP"

_ENTRY = re.compile(
    rb"(\d+); \d+ \d+ (?:SCHEMA - attpc|(TABLE DATA|TABLE|SEQUENCE SET|SEQUENCE|(?:FK |CHECK )?CONSTRAINT|"
    rb"INDEX|COMMENT) attpc (\w+)|VIEW attpc files_of_runs)(?: .*)?",
    re.ASCII,
)
"""Entries of the run history. Only rows and sequences' states are restored; the migrations make the rest."""

_COLUMN = rb'(?:[a-z0-9_]+|"[a-z0-9_]+")'
_COPY = re.compile(rb"COPY attpc\.([a-z0-9_]+) \((%b(?:, %b)*)\) FROM stdin;" % (_COLUMN, _COLUMN))
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('attpc\.([a-z0-9_]+)', (\d{1,19}), (true|false)\);")
_ENCODING = re.compile(rb"SET client_encoding = '(\w+)';", re.ASCII)
_NOTHING = re.compile(
    rb"|--.*|SET \w+ = \w+;|SELECT pg_catalog\.set_config\('search_path', '', false\);"
    rb"|\\(?:un)?restrict \w+",
    re.ASCII,
)
"""Lines that matter only to a program that runs them."""

_END = b"\n\\.\n"


@dataclass(frozen=True, slots=True)
class Contents:
    """Contents of a backup: the entry of each table's rows and of each sequence's state, by name."""

    tables: Mapping[str, str]
    sequences: Mapping[str, str]
    foreign: tuple[str, ...]
    """Entries that do not belong to the run history."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one table, in COPY's text format; `pieces` must be read to its end."""

    table: str
    columns: tuple[str, ...]
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Position:
    """The state of a sequence."""

    sequence: str
    value: int
    called: bool


async def contents(program: Path, file: Path, env: Mapping[str, str]) -> Contents:
    """Return the contents of a backup; raises `DatabaseError` if pg_restore cannot read it."""
    if await asyncio.to_thread(_magic, file) != _MAGIC:
        raise DatabaseError(
            f"{file} is not a backup of `attpc-ioc db backup`. A file of SQL commands is not restored: "
            "it may contain any command; if you trust it, load it with psql into another database, and back "
            "that up"
        )
    tables: dict[str, str] = {}
    sequences: dict[str, str] = {}
    foreign: list[str] = []
    async with _output((program, "--list", file), env, file, f"{file} is not a readable backup") as text:
        while (line := await text.line()) is not None:
            if not line or line.startswith(b";"):
                continue
            match = _ENTRY.fullmatch(line)
            if match is None:
                foreign.append(line.partition(b" ")[2].decode(errors="replace")[:200])
            elif match[2] == b"TABLE DATA":
                tables[match[3].decode()] = match[1].decode()
            elif match[2] == b"SEQUENCE SET":
                sequences[match[3].decode()] = match[1].decode()
    return Contents(tables, sequences, tuple(foreign))


@contextlib.asynccontextmanager
async def rows(
    program: Path, file: Path, env: Mapping[str, str], entries: Iterable[str]
) -> AsyncIterator[AsyncIterator[Rows | Position]]:
    """Yield the rows and sequence states of some entries, in their order.

    Raises `DatabaseError` if the file has anything else, is damaged, or unpacks to
    more than any history.
    """
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as chosen:
        chosen.writelines(f"{entry};\n" for entry in entries)
        chosen.flush()
        command = (program, "--data-only", f"--use-list={chosen.name}", "--file=-", file)
        async with _output(command, env, file, f"{file} is damaged") as text:
            yield _read(text, file)


async def _read(text: _Text, file: Path) -> AsyncIterator[Rows | Position]:
    while (line := await text.line()) is not None:
        if match := _COPY.fullmatch(line):
            columns = tuple(name.strip(b'"').decode() for name in match[2].split(b", "))
            yield Rows(match[1].decode(), columns, text.rows())
        elif match := _SETVAL.fullmatch(line):
            yield Position(match[1].decode(), int(match[2]), match[3] == b"true")
        elif match := _ENCODING.fullmatch(line):
            if match[1] != b"UTF8":
                raise DatabaseError(f"{file} is in {match[1].decode()}; make the backup in UTF8")
        elif not _NOTHING.fullmatch(line):
            said = line[:80].decode(errors="replace")
            raise DatabaseError(
                f"{file} holds a command where rows are expected ({said!r}); it was made or changed by hand, "
                "and nothing of it is restored"
            )


def _magic(file: Path) -> bytes:
    if not file.is_file():
        raise DatabaseError(f"{file}: no such file")
    try:
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC))
    except OSError as error:
        raise DatabaseError(f"{file}: {error.strerror}") from error


class _Text:
    """The output of a program, piece by piece."""

    def __init__(self, stream: asyncio.StreamReader, file: Path) -> None:
        self._stream = stream
        self._file = file
        self._rest = b""
        self._left = SPARE_BYTES + RATIO * file.stat().st_size
        self.ended = False

    async def line(self) -> bytes | None:
        """Return the next line without its end; None at the end."""
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > LINE_BYTES:
                raise DatabaseError(f"{self._file} has a line that no backup has")
            if not await self._more():
                return self._rest or None
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        return line

    async def rows(self) -> AsyncIterator[bytes]:
        r"""Yield the lines until `\.` in pieces that end anywhere."""
        self._rest = b"\n" + self._rest
        first = 1  # the line end put in front
        while (end := self._rest.find(_END)) < 0:
            kept = len(_END) - 1
            if piece := self._rest[first:-kept]:
                yield piece
                self._rest, first = self._rest[-kept:], 0
            if not await self._more():
                raise DatabaseError(f"{self._file} is damaged: it ends in the middle of a table")
        if piece := self._rest[first : end + 1]:
            yield piece
        self._rest = self._rest[end + len(_END) :]

    async def _more(self) -> bool:
        piece = await self._stream.read(CHUNK)
        self._rest += piece
        self._left -= len(piece)
        if self._left < 0:
            raise DatabaseError(
                f"{self._file} unpacks to over {RATIO} times its size, which no run history does; "
                "nothing of it is restored"
            )
        self.ended = not piece
        return bool(piece)


@contextlib.asynccontextmanager
async def _output(
    command: Sequence[str | Path], env: Mapping[str, str], file: Path, what: str
) -> AsyncIterator[_Text]:
    """Run a program and return its output; raises `DatabaseError` with its message if it fails."""
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
            env=dict(env),
            limit=CHUNK,
        )
        assert process.stdout is not None
        text = _Text(process.stdout, file)
        try:
            yield text
        finally:
            # A program that has written everything ends by itself, with its exit code.
            if not text.ended:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                # asyncio sees the end of a process only after reading all of its output.
                while await process.stdout.read(CHUNK):
                    pass
            code = await process.wait()
            if text.ended and code:
                raise DatabaseError(f"{what}: {Path(command[0]).name} failed: {_words(said)}")


def _words(said: IO[bytes]) -> str:
    said.seek(0)
    return " ".join(said.read(1 << 16).decode(errors="replace").split())[-600:]
