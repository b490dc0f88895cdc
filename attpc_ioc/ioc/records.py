"""Records: the PVs that Channel Access serves, made from the rows of the PV table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attpc_ioc.ioc.ca import PV, ChannelType, PVSpec
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.row import Limits, Record, Row, Value
from attpc_ioc.pvs.table import PvEntry

_INT_MAX = 2**31 - 1
_MORE = " ..."


@dataclass(frozen=True, slots=True)
class _Form:
    """How Channel Access carries a kind of record."""

    dtype: ChannelType
    rtyp: str
    is_array: bool = False


FORMS: dict[Record, _Form] = {
    Record.BI: _Form(ChannelType.ENUM, "bi"),
    Record.BO: _Form(ChannelType.ENUM, "bo"),
    Record.MBBI: _Form(ChannelType.ENUM, "mbbi"),
    Record.MBBO: _Form(ChannelType.ENUM, "mbbo"),
    Record.LONGIN: _Form(ChannelType.LONG, "longin"),
    Record.LONGOUT: _Form(ChannelType.LONG, "longout"),
    Record.AI: _Form(ChannelType.DOUBLE, "ai"),
    Record.AO: _Form(ChannelType.DOUBLE, "ao"),
    Record.CALC: _Form(ChannelType.DOUBLE, "calc"),
    Record.CALCOUT: _Form(ChannelType.DOUBLE, "calcout"),
    Record.STRINGIN: _Form(ChannelType.STRING, "stringin"),
    # A waveform rather than lsi: archivers and screens take its full text without asking for a field.
    Record.LONG_TEXT: _Form(ChannelType.CHAR, "waveform", is_array=True),
    Record.STRINGS: _Form(ChannelType.STRING, "waveform", is_array=True),
    Record.NUMBERS: _Form(ChannelType.DOUBLE, "waveform", is_array=True),
}
"""How each kind of record is carried."""


def make_spec(entry: PvEntry) -> PVSpec:
    """Return the static properties of an entry's PV."""
    row, form = entry.row, FORMS[entry.row.record]
    limits = row.limits
    return PVSpec(
        name=entry.name,
        rtyp=form.rtyp,
        dtype=form.dtype,
        max_elements=row.elements if form.is_array else 1,
        labels=row.labels,
        desc=row.desc,
        units=row.units,
        precision=row.precision,
        hopr=limits.hopr,
        lopr=limits.lopr,
        hihi=limits.hihi,
        high=limits.high,
        low=limits.low,
        lolo=limits.lolo,
        drvh=limits.drvh,
        drvl=limits.drvl,
        adel=row.adel,
        mdel=row.mdel,
        label_severities={number: int(severity) for number, severity in row.severities.items()},
        limit_severities=_limit_severities(limits),
        writable=row.writable,
        max_chars=row.max_chars if row.writable and row.record is Record.LONG_TEXT else 0,
    )


def _limit_severities(limits: Limits) -> dict[str, int]:
    fields = (
        ("HHSV", limits.hihi, Severity.MAJOR),
        ("HSV", limits.high, Severity.MINOR),
        ("LSV", limits.low, Severity.MINOR),
        ("LLSV", limits.lolo, Severity.MAJOR),
    )
    return {field: int(severity) for field, limit, severity in fields if limit is not None}


def make_records(entries: Iterable[PvEntry]) -> dict[str, PV]:
    """Return the PVs of the table by full name; INVALID/UDF until published."""
    return {entry.name: PV(make_spec(entry)) for entry in entries}


def empty(row: Row) -> Value:
    """Return the value of a record before its first post."""
    form = FORMS[row.record]
    if form.is_array and row.record is not Record.LONG_TEXT:
        return ()
    return "" if form.dtype in (ChannelType.STRING, ChannelType.CHAR) else 0


def fit(row: Row, value: Value) -> Value:
    """Return a value cut to what its record can hold.

    Numbers are clamped to 32 bits, lists lose their end, and a text that is too long ends in dots, cut
    between characters. Only readings come here: what clients write is never clamped but refused.
    """
    if isinstance(value, tuple):
        return value[: row.elements]
    if isinstance(value, str):
        size = row.elements - 1 if row.record is Record.LONG_TEXT else 39
        # A character has at most four bytes, so most texts are known to fit without encoding them.
        return value if len(value) * 4 <= size else _cut(value, size)
    if isinstance(value, int) and abs(value) > _INT_MAX and FORMS[row.record].dtype is ChannelType.LONG:
        return _INT_MAX if value > 0 else -_INT_MAX
    return value


def _cut(text: str, size: int) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= size:
        return text
    return data[: size - len(_MORE)].decode("utf-8", "ignore") + _MORE
