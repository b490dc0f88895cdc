"""What this server is given for each PV, and what it gives to the callback for puts."""

# ruff: noqa: D102 - the docstrings of the protocols have all of their properties

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Form(Enum):
    """The normative type that carries a PV, by the type code of its value."""

    INT = "i"
    """NTScalar of a 32-bit integer."""
    DOUBLE = "d"
    STRING = "s"
    ENUM = "enum"
    """NTEnum."""
    STRINGS = "as"
    """NTScalarArray of strings."""
    DOUBLES = "ad"

    @property
    def is_number(self) -> bool:
        """Whether it has limits."""
        return self in (Form.INT, Form.DOUBLE, Form.DOUBLES)


class Spec(Protocol):
    """The static properties of a PV; limits are in `units`, None for no limit.

    - `labels`: of an ENUM, by number.
    - `hopr`, `lopr`: limits of the display; `drvh`, `drvl`: of what a put may write.
    - `limit_severities`: of the alarm limits, by `HHSV`, `HSV`, `LSV`, `LLSV`.
    """

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def desc(self) -> str: ...
    @property
    def units(self) -> str: ...
    @property
    def precision(self) -> int: ...
    @property
    def hopr(self) -> float | None: ...
    @property
    def lopr(self) -> float | None: ...
    @property
    def hihi(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def lolo(self) -> float | None: ...
    @property
    def drvh(self) -> float | None: ...
    @property
    def drvl(self) -> float | None: ...
    @property
    def limit_severities(self) -> Mapping[str, int]: ...
    @property
    def writable(self) -> bool: ...


class Record(Protocol):
    """A PV as it is now: value, alarm, and time stamp in nanoseconds since 1970.

    `value` is int for INT and ENUM, float for DOUBLE, str for STRING, a tuple for arrays. Whoever changes the
    record calls `follower` afterwards, if there is one, in the event loop's thread.
    """

    follower: Callable[[], None] | None

    @property
    def spec(self) -> Spec: ...
    @property
    def value(self) -> int | float | str | tuple[int | float | str, ...]: ...
    @property
    def severity(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def stamp_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, an identifier, and the type code of its cells: `s`, `i`, `l` or `d`."""

    name: str
    code: str


@dataclass(frozen=True, slots=True)
class TableState:
    """A table at one moment: the cells of each column, and alarm and time stamp as a record has them."""

    columns: tuple[tuple[int | float | str, ...], ...]
    severity: int
    status: int
    stamp_ns: int


class Table(Protocol):
    """A table, carried as NTTable; it is made when a client wants it.

    While there is a client it has a `follower`, to be called after changes, in the event loop's thread: each
    call makes the table anew and sends what differs, so call it as rarely as clients need it.
    """

    follower: Callable[[], None] | None

    @property
    def name(self) -> str: ...
    @property
    def desc(self) -> str: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...
    def make(self) -> TableState: ...


@dataclass(frozen=True, slots=True)
class Interface:
    """What a device has, for programs that build themselves from it: carried as NTPVI, which PVI has defined.

    `entries` are the names of other PVs by the name of what they are, each with the ways in which it is used:
    `r` read, `w` written, `rw` both, `x` a command, `d` the interface of a part of the device.
    """

    name: str
    desc: str
    entries: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Client:
    """Who puts: `user` as the program claims (`anonymous` without a name), and the peer's `ip:port`."""

    address: str
    user: str

    @property
    def host_address(self) -> str:
        """The peer's `ip`."""
        return self.address.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class Put:
    """A client's write: a number, text or list that is not checked yet, or `fault`, why there is none.

    With `block` the client asked to wait until it is completed (`record[block=true]`).
    """

    value: int | float | str | list[int | float | str] | None
    client: Client
    block: bool = False
    fault: str = ""
