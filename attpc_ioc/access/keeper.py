"""The access rules in force: used for every channel, read again on request, kept if the file is faulty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from pathlib import Path

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import IOC, Who
from attpc_ioc.pvs.ioc import ACCESS_FILE, ACCESS_TEXT
from attpc_ioc.pvs.row import Row, full_name
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import Settings

from .addresses import by_address
from .file import read_rules
from .fit import faults_of_fit, notes_of_fit
from .groups import groups_of, unused_patterns
from .parse import AccessFileError
from .rules import FIELD_LEVEL, VALUE_LEVEL, Right, Rules

log = get_logger(__name__)

_ALWAYS_READ = frozenset(full_name("", IOC, part) for part in (ACCESS_FILE, ACCESS_TEXT))
"""They explain why nothing else can be read: no rule hides them."""

_UNKNOWN = Who(via="any")
"""A client of whom neither user nor host is known."""

_ANSWERS_MAX = 100_000
"""Cached answers; a client can send any name, so there must be a limit."""


class FileStatus(IntEnum):
    """The values of `IOC:AccessFile_RBV`; its labels are in `attpc_ioc.pvs.ioc`."""

    NONE = 0
    """No file: everybody may write."""
    IN_FORCE = 1
    BROKEN = 2
    """The file is faulty; the earlier rules are in force."""


class AccessKeeper:
    """Decides who may read and write which PV.

    A client may write where the file's rules allow it and no plugin refuses. Without a file only plugins are
    asked. `ask_again` makes `run` read the file again; then `on_change` is awaited if there is a file, and
    `on_read` is called in any case.
    """

    def __init__(
        self, settings: Settings, entries: Iterable[PvEntry], may_write: Callable[[Who, Row], bool]
    ) -> None:
        self.file = Path(settings.access.file) if settings.access.file is not None else None
        self.status = FileStatus.NONE
        self.message = "" if self.file else "there is no access security file: everybody may write"
        self.on_change: Callable[[], Awaitable[None]] | None = None
        self.on_read: Callable[[], None] = lambda: None
        entries = tuple(entries)
        self._prefix = settings.ioc.prefix
        self._groups = groups_of(entries, settings.access, self._prefix)
        self._unused = unused_patterns(entries, settings.access, self._prefix)
        self._may_write = may_write
        self._rules = Rules()
        self._addressed = Rules()
        """The rules with addresses for hosts, for clients whose protocol does not name their host."""
        self._answers: dict[tuple[str, int, str, str, bool], Right] = {}
        self._asked = asyncio.Event()
        self._by_address = settings.access.check_client_ip

    async def open(self) -> None:
        """Read the file for the first time; raises `AccessFileError` if that fails."""
        if self.file is not None:
            self._take(*await asyncio.to_thread(self._read, self.file))

    def ask_again(self) -> None:
        """Make `run` read the file again."""
        self._asked.set()

    async def run(self) -> None:
        """Read the file on each request, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self.file is None:
                log.info("no access security file to read again")
                self.on_read()
                continue
            try:
                found = await asyncio.to_thread(self._read, self.file)
            except AccessFileError as error:
                log.error("access security file is wrong: the old rules stay", reason=str(error))
                self._keep(str(error))
            except Exception as error:  # a bug must not end run control
                log.exception("access security file not read: the old rules stay", file=self.file)
                self._keep(f"{self.file}: {error!r}")
            else:
                self._take(*found)
                log.info("access security file read again", file=self.file)
            if self.on_change is not None:
                await self.on_change()
            self.on_read()

    def _keep(self, fault: str) -> None:
        self.status = FileStatus.BROKEN
        self.message = f"{fault}\nthe rules that were read before are in force"

    def _read(self, file: Path) -> tuple[Rules, Rules, list[str]]:
        """Return the rules, those with addresses for hosts, and the hosts without an address.

        Disk and name server may take long.

        Raises `AccessFileError`, also for rules that would close PVs to everybody.
        """
        rules = read_rules(file)
        if faults := faults_of_fit(rules, self._groups):
            raise AccessFileError(str(file), faults)
        return rules, *by_address(rules)

    def _take(self, rules: Rules, addressed: Rules, unknown: list[str]) -> None:
        self._rules = rules
        self._addressed = addressed
        self._answers.clear()
        self.status = FileStatus.IN_FORCE
        self.message = f"{self.file}: in force"
        if notes := notes_of_fit(rules, self._groups, self._unused):
            self.message += "".join(f"\n{note}" for note in notes)
            log.warning(
                "access security file may not be what is meant", file=self.file, notes="; ".join(notes)
            )
        if unknown:
            self.message += f"\nhosts without an address: {', '.join(unknown)}"
            log.warning("hosts of the access security file have no address", hosts=", ".join(unknown))

    def rights(self, entry: PvEntry, who: Who, *, is_field: bool) -> tuple[bool, bool]:
        """Return whether somebody may read and write a PV, or a field of it other than its value.

        The PVs about the file itself may always be read.
        """
        right = self._right(entry.name, FIELD_LEVEL if is_field else VALUE_LEVEL, who)
        write = right is Right.WRITE and entry.row.writable and self._may_write(who, entry.row)
        read = right is not Right.NONE or entry.name.removeprefix(self._prefix) in _ALWAYS_READ
        return read, write

    def open_to_all(self, entry: PvEntry) -> bool:
        """Return whether a client that nothing is known of may read a PV.

        It is asked where a protocol does not say who reads.
        """
        return self.rights(entry, _UNKNOWN, is_field=False)[0]

    def _right(self, name: str, level: int, who: Who) -> Right:
        if self.file is None:
            return Right.WRITE
        addressed = self._by_address or who.via != ""
        host = who.address.rpartition(":")[0] if addressed else who.host
        key = (self._groups[name], level, who.user, host, addressed)
        right = self._answers.get(key)
        if right is None:
            if len(self._answers) >= _ANSWERS_MAX:
                self._answers.clear()
            rules = self._addressed if addressed else self._rules
            right = self._answers[key] = rules.right(*key[:4])
        return right
