"""EPICS base's own programs against every PV of a fleet like the demo's, the plugins' PVs included.

Everything is made from the table, many PVs a call. What a value is as another type is EPICS base's matter
and compared with its own IOC elsewhere; here every PV must answer, and say of itself what its row says.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from attpc_ioc.ioc.records import FORMS
from attpc_ioc.model.command import Put
from attpc_ioc.model.states import Severity
from attpc_ioc.plugin import hookimpl
from attpc_ioc.pvs.row import Record, Row
from attpc_ioc.pvs.table import PvEntry
from tests.support.ca import Ran, caget, camonitor, caput, eventually, run
from tests.support.data_rig import data_rig
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig

HISTORY = {"plugins.run_history": 'dsn = "postgresql://nobody@127.0.0.1:1/none"'}
"""The run history's PVs without its database: they are INVALID, and answer all the same."""

PLAIN = ("STRING", "SHORT", "FLOAT", "ENUM", "CHAR", "LONG", "DOUBLE")
TYPES = [f"DBR_{how}{name}" for how in ("", "STS_", "TIME_", "GR_", "CTRL_") for name in PLAIN]
TYPES += ["DBR_STSACK_STRING", "DBR_CLASS_NAME"]
"""What can be asked for, as `caget` calls it; the two in between are puts."""
NUMBERS = {name: number + 2 * (number >= 35) for number, name in enumerate(TYPES)}

TEXTS = {Record.STRINGIN, Record.STRINGS}
ARRAYS = {Record.LONG_TEXT, Record.STRINGS, Record.NUMBERS}
SIZE = 60
"""PVs of one call."""


class Puts:
    """Hears of every put."""

    def __init__(self) -> None:
        self.heard: list[Put] = []

    @hookimpl
    def attpc_event(self, event: object) -> None:
        if isinstance(event, Put):
            self.heard.append(event)


@contextlib.asynccontextmanager
async def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, puts: Puts | None = None
) -> AsyncIterator[Rig]:
    plugins = [("puts", puts)] if puts else []
    async with data_rig(tmp_path, monkeypatch, plugins=plugins, **HISTORY) as it:
        yield it


def chunks(entries: Sequence[PvEntry]) -> Iterator[Sequence[PvEntry]]:
    for first in range(0, len(entries), SIZE):
        yield entries[first : first + SIZE]


def blocks(text: str) -> dict[str, dict[str, str]]:
    """What `caget -d` and `cainfo` print of each PV, by its name and the words before the colon."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for line in text.splitlines():
        key, colon, value = line.strip().partition(": ")
        if line and not line.startswith(" "):
            name = line.strip()
            found[name] = {}
        elif colon:
            found[name].setdefault(key.rstrip(": "), value.strip())
    return found


def fits(value: object, kind: str) -> bool:
    """Whether a value can be had as a number of this type: nothing is wrapped or cut here."""
    low, high = {
        "SHORT": (-(2**15), 2**15 - 1),
        "ENUM": (0, 2**16 - 1),
        "CHAR": (-128, 255),
        "LONG": (-(2**31), 2**31 - 1),
    }.get(kind, (-1e30, 1e30))
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(one, int | float) and low <= one <= high for one in values)


def asked(it: Rig, kind: str) -> tuple[list[str], list[str]]:
    """The names of the PVs whose present value can be had as such a type, and of the others."""
    can: list[str] = []
    cannot: list[str] = []
    for entry in it.app.table:
        row, value = entry.row, it.app.server.pvs[entry.name].value
        as_number = row.record is Record.LONG_TEXT or fits(value, kind)
        (can if kind in ("STRING", "NAME") or as_number else cannot).append(entry.name)
    return can, cannot


async def test_caget_of_every_pv_as_every_type(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as it:
        rows = {entry.name: entry.row for entry in it.app.table}
        for asked_for, number in NUMBERS.items():
            kind = asked_for.rpartition("_")[2]
            can, cannot = asked(it, kind)
            ran = await caget(it.place, "-w", str(PATIENCE_S), "-#", "3", "-d", str(number), *can)
            assert (ran.code, ran.err) == (0, ""), (asked_for, ran.err)
            found = blocks(ran.out)
            assert list(found) == can
            for name, block in found.items():
                assert block["Request type"] == asked_for
                assert block["Native data type"] == f"DBF_{FORMS[rows[name].record].dtype.name}"
                if asked_for == "DBR_CLASS_NAME":
                    assert block["Class Name"] == FORMS[rows[name].record].rtyp
                    continue
                assert ("Status" in block, "Severity" in block) == ("_" in asked_for[4:],) * 2, asked_for
                assert ("Timestamp" in block) == ("TIME" in asked_for)
                assert ("Enums" in block) == (asked_for in ("DBR_GR_ENUM", "DBR_CTRL_ENUM"))
                has_limits = ("GR_" in asked_for or "CTRL_" in asked_for) and kind not in ("STRING", "ENUM")
                assert ("Hi alarm limit" in block) == has_limits
            if "_" not in asked_for[4:] and cannot:
                ran = await caget(it.place, "-w", "0.3", "-#", "3", "-d", str(number), *cannot)
                assert ran.code == 0
                for channel in re.findall(r"channel=([^,]+),", ran.err):
                    assert channel in cannot
                assert "No reasonable data conversion" in ran.err


async def test_cainfo_of_every_pv(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as it:
        table = it.app.table
        ran = await run(it.place, "cainfo", "-w", str(PATIENCE_S), *(entry.name for entry in table))
        assert (ran.code, ran.err) == (0, "")
        for entry in table:
            block = blocks(ran.out)[entry.name]
            row = entry.row
            assert block["Access"] == ("read, write" if row.writable else "read, no write")
            assert block["Native data type"] == f"DBF_{FORMS[row.record].dtype.name}"
            assert block["Element count"] == str(row.elements if row.record in ARRAYS else 1)


async def test_camonitor_of_every_pv(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as it:
        names = {entry.name for entry in it.app.table}
        async with camonitor(it.place, "-S", "-w", str(PATIENCE_S), "-#", "3", *names) as monitor:
            seen: set[str] = set()

            def all_seen() -> bool:
                seen.update(line.split(" ", 1)[0] for line in monitor.lines)
                return names <= seen

            try:
                await eventually(all_seen, limit_s=10)
            except TimeoutError:
                raise AssertionError(f"no update of {sorted(names - seen)}") from None
            assert not [line for line in monitor.lines if "Not connected" in line or "***" in line]


def escaped(text: str) -> str:
    """A text as `caget` prints it."""
    for character, shown in (("\\", "\\\\"), ("\n", "\\n"), ("'", "\\'"), ('"', '\\"')):
        text = text.replace(character, shown)
    return text


async def test_values_as_text(tmp_path, monkeypatch):
    """`-S` of every PV: long text whole, labels for numbers; and what it is in EPICS's own form."""
    async with served(tmp_path, monkeypatch) as it:
        table = [entry for entry in it.app.table if not entry.row.live and entry.row.part not in MOVING]
        pvs = it.app.server.pvs
        before = {entry.name: pvs[entry.name].value for entry in table}
        ran = await caget(it.place, "-t", "-S", "-w", str(PATIENCE_S), *(entry.name for entry in table))
        assert (ran.code, ran.err) == (0, "")
        lines = ran.out.split("\n")
        for entry, line in zip(table, lines, strict=False):
            row, value = entry.row, pvs[entry.name].value
            if value != before[entry.name]:
                continue
            if row.record is Record.LONG_TEXT:
                assert line == escaped(str(value)), entry.name
            elif row.labels:
                assert line == row.labels[int(str(value))], entry.name
            elif isinstance(value, str):
                assert line == value, entry.name


MOVING = {"HEARTBEAT", "TOD", "UPTIME"}


def fields_of(row: Row) -> dict[str, str]:
    """The fields of a PV with what `caget -t -g 10` must print; of a text the 39 bytes of a string."""
    severity = {number: severity.name for number, severity in row.severities.items()}
    fields = {"RTYP": FORMS[row.record].rtyp, "DESC": row.desc}
    if row.record in (Record.AI, Record.AO, Record.LONGIN, Record.LONGOUT, Record.CALC, Record.CALCOUT):
        limits = row.limits
        fields |= {"EGU": row.units, "ADEL": f"{row.adel:.10g}", "MDEL": f"{row.mdel:.10g}"}
        for name, level in (("HHSV", limits.hihi), ("LLSV", limits.lolo)):
            fields[name] = Severity.NO_ALARM.name if level is None else Severity.MAJOR.name
        for name, level in (("HSV", limits.high), ("LSV", limits.low)):
            fields[name] = Severity.NO_ALARM.name if level is None else Severity.MINOR.name
        if row.record not in (Record.LONGIN, Record.LONGOUT):
            fields["PREC"] = str(row.precision)
        for name, limit in (("HIHI", limits.hihi), ("HIGH", limits.high), ("HOPR", limits.hopr)):
            if limit is not None:
                fields[name] = f"{limit:.10g}"
    elif row.record in (Record.BI, Record.BO):
        fields |= {"ZNAM": row.labels[0], "ONAM": row.labels[1]}
        fields |= {"ZSV": severity.get(0, "NO_ALARM"), "OSV": severity.get(1, "NO_ALARM")}
    elif row.record in (Record.MBBI, Record.MBBO):
        fields |= {"ZRST": row.labels[0], "ONST": row.labels[1]}
        fields |= {"ZRSV": severity.get(0, "NO_ALARM"), "ONSV": severity.get(1, "NO_ALARM")}
    elif row.record in ARRAYS:
        fields |= {"NELM": str(row.elements), "FTVL": FORMS[row.record].dtype.name}
    return fields


async def test_fields_of_every_pv(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as it:
        for entries in chunks(it.app.table):
            expected = {
                f"{entry.name}.{field}": text
                for entry in entries
                for field, text in {**fields_of(entry.row), "NAME": entry.name}.items()
            }
            ran = await caget(it.place, "-t", "-g", "10", "-w", str(PATIENCE_S), *expected)
            assert (ran.code, ran.err) == (0, ""), ran.err
            found = dict(zip(expected, ran.out.split("\n"), strict=False))
            assert found == {name: escaped(text[:39]) for name, text in expected.items()}


def value_to_put(row: Row) -> tuple[str, ...]:
    """The arguments of `caput` that every row of such a kind takes, whatever the fleet is doing."""
    if row.command is not None or row.labels:
        return ("0",)
    if row.record is Record.LONG_TEXT:
        return ("-S", "as it is")
    return ("1",)


async def test_caput_to_every_pv(tmp_path, monkeypatch):
    """Every put is answered, and on record with what became of it; what is read-only takes none."""
    puts = Puts()
    async with served(tmp_path, monkeypatch, puts) as it:
        here = asyncio.Semaphore(4)

        async def put(entry: PvEntry) -> Ran:
            async with here:
                *options, value = value_to_put(entry.row)
                return await caput(it.place, "-c", "-w", str(PATIENCE_S), "-t", *options, entry.name, value)

        can = [entry for entry in it.app.table if entry.row.writable]
        answers = await asyncio.gather(*map(put, can))
        records = {heard.pv: heard for heard in puts.heard}
        assert len(puts.heard) == len(can)
        for entry, ran in zip(can, answers, strict=True):
            record = records[entry.name]
            assert ran.code == (0 if record.ok else 1), (entry.name, ran, record)
            assert record.ok or entry.row.command is None, record
            assert record.ok or record.reason, entry.name
            assert record.who.user
            if not record.ok:
                assert "Channel write request failed" in ran.both

        kinds = {
            (entry.scope.kind, entry.row.record): entry for entry in it.app.table if not entry.row.writable
        }
        for entry, ran in zip(kinds.values(), await asyncio.gather(*map(put, kinds.values())), strict=True):
            assert ran.code == 1, entry.name
            assert "Write access denied" in ran.both, entry.name
        assert len(puts.heard) == len(can)
