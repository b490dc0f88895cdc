"""Fields of a record (`X.DESC`, `X.EGU`, `X.SEVR` …), made when a client asks for one.

A field is a PV of its own that cannot be written and has the record's alarm and time stamp, as in EPICS base.
The record keeps it as long as a channel does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from attpc_ioc.ioc.ca.dbr import STRING_SIZE
from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.pv import DBE_LOG, DBE_VALUE, PV
from attpc_ioc.ioc.ca.spec import SEVERITY_LABELS, STATUS_LABELS, PVSpec, Value, clip_utf8

STRING, ENUM, LONG, DOUBLE = ChannelType.STRING, ChannelType.ENUM, ChannelType.LONG, ChannelType.DOUBLE

_NUMERIC = frozenset(("ai", "ao", "longin", "longout", "calc", "calcout"))
_ARRAY = frozenset(("waveform", "lsi", "lso", "aai", "aao"))
_TWO_STATES = frozenset(("bi", "bo"))
_MANY_STATES = frozenset(("mbbi", "mbbo"))
_ANY: frozenset[str] = frozenset()
_STATES = ("ZR", "ON", "TW", "TH", "FR", "FV", "SX", "SV", "EI", "NI", "TE", "EL", "TV", "TT", "FT", "FF")


@dataclass(frozen=True, slots=True)
class _Field:
    dtype: ChannelType
    read: Callable[[PV], Value]
    rtyps: frozenset[str] = _ANY
    """The record types that have it; empty for all."""
    labels: tuple[str, ...] = ()


def _label(number: int) -> Callable[[PV], Value]:
    return lambda pv: pv.spec.labels[number] if number < len(pv.spec.labels) else ""


def _label_severity(number: int) -> Callable[[PV], Value]:
    return lambda pv: int(pv.spec.label_severities.get(number, 0))


def _limit_severity(name: str) -> Callable[[PV], Value]:
    return lambda pv: int(pv.spec.limit_severities.get(name, 0))


def _limit(name: str, missing: float) -> Callable[[PV], Value]:
    def read(pv: PV) -> Value:
        value = getattr(pv.spec, name)
        if value is None:
            value = missing if pv.spec.dtype is DOUBLE else 0
        return float(value) if pv.spec.dtype is DOUBLE else int(value)

    return read


def _table() -> dict[str, _Field]:
    nan = float("nan")
    severity = {"dtype": ENUM, "labels": SEVERITY_LABELS}
    fields = {
        "NAME": _Field(STRING, lambda pv: pv.spec.name),
        "DESC": _Field(STRING, lambda pv: pv.spec.desc),
        "RTYP": _Field(STRING, lambda pv: pv.spec.rtyp),
        "SEVR": _Field(ENUM, lambda pv: pv.severity, labels=SEVERITY_LABELS),
        "STAT": _Field(ENUM, lambda pv: pv.status, labels=STATUS_LABELS),
        "EGU": _Field(STRING, lambda pv: pv.spec.units, _NUMERIC | _ARRAY),
        "PREC": _Field(
            LONG, lambda pv: pv.spec.precision, frozenset(("ai", "ao", "calc", "calcout")) | _ARRAY
        ),
        "ADEL": _Field(DOUBLE, lambda pv: pv.spec.adel, _NUMERIC),
        "MDEL": _Field(DOUBLE, lambda pv: pv.spec.mdel, _NUMERIC),
        "NELM": _Field(LONG, lambda pv: pv.spec.max_elements, _ARRAY),
        "NORD": _Field(LONG, _length, _ARRAY),
        "FTVL": _Field(STRING, lambda pv: pv.spec.dtype.name, _ARRAY),
    }
    for name in ("HOPR", "LOPR"):
        fields[name] = _Field(DOUBLE, _limit(name.lower(), 0.0), _NUMERIC | _ARRAY)
    for name in ("HIHI", "HIGH", "LOW", "LOLO"):
        fields[name] = _Field(DOUBLE, _limit(name.lower(), nan), _NUMERIC)
    for name in ("DRVH", "DRVL"):
        fields[name] = _Field(DOUBLE, _limit(name.lower(), 0.0), frozenset(("ao", "longout")))
    for name in ("HHSV", "HSV", "LSV", "LLSV"):
        fields[name] = _Field(read=_limit_severity(name), rtyps=_NUMERIC, **severity)
    for number, name in enumerate(("Z", "O")):
        fields[f"{name}NAM"] = _Field(STRING, _label(number), _TWO_STATES)
        fields[f"{name}SV"] = _Field(read=_label_severity(number), rtyps=_TWO_STATES, **severity)
    for number, name in enumerate(_STATES):
        fields[f"{name}ST"] = _Field(STRING, _label(number), _MANY_STATES)
        fields[f"{name}SV"] = _Field(
            read=_label_severity(number),
            rtyps=_MANY_STATES | (_TWO_STATES if name == "ZR" else _ANY),
            **severity,
        )
    return fields


def _length(pv: PV) -> int:
    if isinstance(pv.value, tuple):
        return len(pv.value)
    if isinstance(pv.value, str) and pv.spec.is_text:
        return len(clip_utf8(pv.value, pv.spec.max_elements - 1)) + 1
    return 1


_FIELDS = _table()
_VAL = _Field(STRING, lambda pv: pv.value)


class FieldPV(PV):
    """A field of a record: follows what the record's `spec` and value say."""

    __slots__ = ("_is_value", "_read", "record")

    def __init__(self, record: PV, spec: PVSpec, entry: _Field) -> None:
        super().__init__(spec)
        self.record = record
        self._is_value = entry is _VAL
        self._read = entry.read
        self.value = entry.read(record)
        self._take_alarm()

    @property
    def writable(self) -> bool:
        """Whether anybody may write it: only where it is the record's value in another form."""
        return self.record.spec.writable and self.spec.writable

    @property
    def target(self) -> PV:
        """The record."""
        return self.record

    def follow(self, mask: int) -> None:
        """Take over what the record has become, of which it posts `mask`.

        The value in another form has the record's events; any other field has one when it changed itself.
        """
        value = self._read(self.record)
        changed = value != self.value and not (value != value and self.value != self.value)
        self.value = value
        self._take_alarm()
        if self._is_value:
            self._publish(mask)
        else:
            self._publish(DBE_VALUE | DBE_LOG if changed else 0)

    def _take_alarm(self) -> None:
        self.severity, self.status = self.record.severity, self.record.status
        self.stamp_ns = self.record.stamp_ns


def has_field(record: PV, name: str) -> bool:
    """Whether `make_field` would return a field."""
    return _entry(record, name) is not None


def _entry(record: PV, name: str) -> _Field | None:
    plain = name.removesuffix("$")
    entry = _VAL if plain in ("", "VAL") else _FIELDS.get(plain)
    if entry is None or (entry.rtyps and record.spec.rtyp not in entry.rtyps):
        return None
    if name.endswith("$"):
        native = record.spec.dtype if entry is _VAL else entry.dtype
        if native is not STRING or record.spec.is_array:
            return None
    return entry


def make_field(record: PV, name: str) -> FieldPV | None:
    """Return the field `name` of `record` (such as `DESC`, `DESC$` or `VAL$`), or None if it has none."""
    entry = _entry(record, name)
    if entry is None:
        return None
    full = f"{record.name}.{name}"
    if name.endswith("$"):
        spec = replace(record.spec, name=full, dtype=ChannelType.CHAR, max_elements=_text_size(record, entry))
        return FieldPV(record, replace(spec, writable=entry is _VAL and spec.writable), entry)
    dtype = entry.dtype
    if dtype is DOUBLE and record.spec.dtype is LONG and name not in ("ADEL", "MDEL"):
        dtype = LONG
    spec = PVSpec(full, record.spec.rtyp, dtype, labels=entry.labels, desc=record.spec.desc)
    return FieldPV(record, spec, entry)


def _text_size(record: PV, entry: _Field) -> int:
    """Return the bytes that a text needs; of one that can be written those of a STRING."""
    if entry is _VAL and record.spec.writable:
        return STRING_SIZE
    text = entry.read(record)
    return max(STRING_SIZE, len(text.encode("utf-8", "replace")) + 1 if isinstance(text, str) else 0)
