"""The put log, as the store takes and gives it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from attpc_ioc.model.command import Who

from .history import Cursor
from .values import Time


@dataclass(frozen=True, slots=True)
class PutEntry:
    """One put of the put log.

    `protocol` is what it came by: `ca`, `pva`, or what a plugin with clients of its own calls its way in.
    Empty: not known, as of all puts from before it was recorded.
    """

    put_at: Time
    pv: str
    who: Who
    old: str
    new: str
    ok: bool
    reason: str = ""
    ioc: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class PutFilter:
    """Which puts: all given conditions must hold.

    - `pv`: the PV's full name, in which `*` stands for any characters and `?` for one.
    - `user` and `host`: who put, as the client reports it.
    - `since` (included) and `until` (not): the time of the put; for a command, the time of its end.
    - `failed`: only those that were refused or failed.
    - `run`: experiment and number of a run: the puts from the one that started it to the one that stopped it;
      none if there is no such run.
    """

    pv: str | None = None
    user: str | None = None
    host: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    failed: bool = False
    run: tuple[str, int] | None = None


ALL_PUTS = PutFilter()


@dataclass(frozen=True, slots=True)
class PutPage:
    """One page of puts, newest first."""

    puts: tuple[PutEntry, ...]
    next: Cursor | None = None
