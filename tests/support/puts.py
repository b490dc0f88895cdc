"""Random puts for hypothesis: to every writable PV, sensible ones and whatever bytes a client can send."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from attpc_ioc.model.command import CommandName
from attpc_ioc.pvs.row import Record, Row
from tests.support.fleets import make_settings, table_of

P = TypeVar("P")

PREFIX = "T:"
TABLE = table_of(make_settings(cobos=2, prefix=PREFIX))
WRITABLE: dict[str, Row] = {e.name.removeprefix(PREFIX): e.row for e in TABLE if e.row.writable}
"""The writable PVs of a fleet of two CoBos and a MuTAnT, by their names after the prefix."""

STRING, INT, FLOAT, ENUM, CHAR, LONG, DOUBLE = range(7)
FORMATS = {INT: "h", FLOAT: "f", ENUM: "H", CHAR: "B", LONG: "i", DOUBLE: "d"}
WRITE, WRITE_NOTIFY = 4, 19


@dataclass(frozen=True)
class RawPut:
    """One put as it is on the wire; with `wait` the client waits for the answer before the next one."""

    name: str
    dtype: int
    count: int
    payload: bytes
    wait: bool = True
    notify: bool = True

    def message(self, sid: int, ioid: int) -> bytes:
        """The message, with an extended header where it needs one."""
        payload = self.payload + bytes(-len(self.payload) % 8)
        command = WRITE_NOTIFY if self.notify else WRITE
        if len(payload) < 0xFFFF and self.count < 0xFFFF:
            return struct.pack(">HHHHII", command, len(payload), self.dtype, self.count, sid, ioid) + payload
        head = struct.pack(">HHHHII", command, 0xFFFF, self.dtype, 0, sid, ioid)
        return head + struct.pack(">II", len(payload), self.count) + payload


def packed(name: str, dtype: int, *numbers: float) -> RawPut:
    """A put of numbers of a plain type."""
    return RawPut(name, dtype, len(numbers), struct.pack(f">{len(numbers)}{FORMATS[dtype]}", *numbers))


def as_string(name: str, text: str) -> RawPut:
    """A put of a DBR_STRING."""
    return RawPut(name, STRING, 1, text.encode()[:39].ljust(40, b"\0"))


def as_chars(name: str, text: str) -> RawPut:
    """A put of a text as CHAR bytes."""
    data = text.encode() + b"\0"
    return RawPut(name, CHAR, len(data), data)


def meaningful(name: str, row: Row) -> st.SearchStrategy[int | float | str]:
    """Values that mean something to this row, though they may be refused; labels by number."""
    if row.command is CommandName.GOTO or row.record in (Record.MBBO, Record.BO):
        return st.just(1) if len(row.labels) == 2 and row.command else st.integers(0, len(row.labels) - 1)
    if row.record is Record.LONGOUT:
        return st.integers(-1, 8)
    if row.record is Record.AO:
        return st.floats(0, 10, width=32)
    part = name.rpartition(":")[2]
    module = name.split(":")[1] if name.startswith("Ecc:") else ""
    words = ["e20009", "pulser", "nope", ""]
    texts = [f"{d}/{w}/{w}" for w in words for d in (module, "cobo1")] if module else words
    return st.sampled_from(texts) if part != "Title" else st.text(max_size=210)


def _good(name: str, row: Row) -> st.SearchStrategy[RawPut]:
    values: st.SearchStrategy[Any] = meaningful(name, row)
    if row.labels:
        return st.one_of(
            values.map(lambda n: packed(name, ENUM, n)),
            values.map(lambda n: packed(name, LONG, n)),
            values.map(lambda n: as_string(name, row.labels[n])),
        )
    if row.record is Record.LONGOUT:
        return values.map(lambda n: packed(name, LONG, n))
    if row.record is Record.AO:
        return values.map(lambda x: packed(name, DOUBLE, x))
    return st.one_of(values.map(lambda t: as_chars(name, t)), values.map(lambda t: as_string(name, t)))


def _numbers(name: str, dtype: int) -> st.SearchStrategy[RawPut]:
    one: st.SearchStrategy[float] = {
        INT: st.integers(-(2**15), 2**15 - 1),
        FLOAT: st.floats(width=32),
        ENUM: st.integers(0, 2**16 - 1),
        CHAR: st.integers(0, 255),
        LONG: st.integers(-(2**31), 2**31 - 1),
        DOUBLE: st.floats(),
    }[dtype]
    return st.lists(one, max_size=5).map(lambda numbers: packed(name, dtype, *numbers))


def _junk(name: str) -> st.SearchStrategy[RawPut]:
    """Puts of any type and count, with payloads that need not fit them."""
    raw = st.builds(RawPut, st.just(name), st.integers(0, 6), st.integers(0, 50), st.binary(max_size=64))
    long = st.integers(1, 3000).map(lambda n: as_chars(name, "x" * n))
    return st.one_of(
        *(_numbers(name, dtype) for dtype in FORMATS),
        raw,
        long,
        st.text(max_size=45).map(lambda text: as_string(name, text)),
    )


def _of(name: str) -> st.SearchStrategy[RawPut]:
    return st.one_of(_good(name, WRITABLE[name]), _good(name, WRITABLE[name]), _junk(name))


_MAIN = [name for name, row in WRITABLE.items() if row.command and not name.startswith("Ecc:")]


def to_any(of: Callable[[str], st.SearchStrategy[P]]) -> st.SearchStrategy[P]:
    """Puts to any writable PV; commands of the system and of the run as often as all others together."""
    return st.one_of(
        st.one_of([of(name) for name in _MAIN]), st.one_of([of(name) for name in sorted(WRITABLE)])
    )


# All made once: building a strategy for every put costs more than the puts.
_PUTS = to_any(_of)


def puts() -> st.SearchStrategy[RawPut]:
    """A put to any writable PV.

    Most have an answer, and every other one is waited for before the next is sent.
    """
    return st.builds(lambda put, how: replace(put, wait=how < 4, notify=how < 7), _PUTS, st.integers(0, 7))
