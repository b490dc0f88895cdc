"""The fields of each record type: some come from a record's `PVSpec` and value, the others are constants.

The constants are those of a Passive record without hardware in EPICS base, for clients that read them from
every record. A field costs only its entry here until a client asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.pv import PV
from attpc_ioc.ioc.ca.spec import SEVERITY_LABELS, STATUS_LABELS, UDF, Value, clip_utf8

STRING, ENUM, LONG, DOUBLE = ChannelType.STRING, ChannelType.ENUM, ChannelType.LONG, ChannelType.DOUBLE

Read = Callable[[PV], Value]
_Types = frozenset[str]

_ANALOGUE = frozenset(("ai", "ao"))
_CALC = frozenset(("calc", "calcout"))
_REAL = _ANALOGUE | _CALC
_NUMERIC = _REAL | {"longin", "longout"}
_ARRAY = frozenset(("waveform", "lsi", "lso", "aai", "aao"))
_TWO_STATES = frozenset(("bi", "bo"))
_MANY_STATES = frozenset(("mbbi", "mbbo"))
_STATES = _TWO_STATES | _MANY_STATES
_IN = frozenset(("ai", "bi", "longin", "mbbi", "stringin"))
_OUT = frozenset(("ao", "bo", "longout", "mbbo", "stringout"))
_TEXT = frozenset(("stringin", "stringout"))
_SOFT = _IN | _OUT | {"waveform"}
_ALL: _Types = frozenset()

_STATE_NAMES = (
    "ZR",
    "ON",
    "TW",
    "TH",
    "FR",
    "FV",
    "SX",
    "SV",
    "EI",
    "NI",
    "TE",
    "EL",
    "TV",
    "TT",
    "FT",
    "FF",
)
_NO_YES = ("NO", "YES")
_SIMULATION = ("NO", "YES", "RAW")
_SCAN = (
    *("Passive", "Event", "I/O Intr", "10 second", "5 second", "2 second", "1 second", ".5 second"),
    *(".2 second", ".1 second"),
)
_NO_SCAN = 0xFFFF


@dataclass(frozen=True, slots=True)
class Field:
    """One field; with `dtype` None it has the type of the record's value."""

    dtype: ChannelType | None
    read: Read
    rtyps: frozenset[str] = _ALL
    """Record types that have it; empty for all."""
    labels: tuple[str, ...] = ()
    constant: bool = False

    def type_in(self, record: PV) -> ChannelType:
        """Return its native type in a record."""
        if self.dtype is not None:
            return self.dtype
        if record.spec.dtype in (LONG, ENUM):
            return LONG
        return STRING if record.spec.dtype is STRING and not record.spec.is_array else DOUBLE


def _label(number: int) -> Read:
    return lambda pv: pv.spec.labels[number] if number < len(pv.spec.labels) else ""


def _label_severity(number: int) -> Read:
    return lambda pv: int(pv.spec.label_severities.get(number, 0))


def _limit_severity(name: str) -> Read:
    return lambda pv: int(pv.spec.limit_severities.get(name, 0))


def _limit(name: str, missing: float) -> Read:
    def read(pv: PV) -> Value:
        value = getattr(pv.spec, name)
        if value is None:
            value = missing if pv.spec.dtype is DOUBLE else 0
        return float(value) if pv.spec.dtype is DOUBLE else int(value)

    return read


def _length(pv: PV) -> int:
    if isinstance(pv.value, tuple):
        return len(pv.value)
    if isinstance(pv.value, str) and pv.spec.is_text:
        return len(clip_utf8(pv.value, pv.spec.max_elements - 1)) + 1
    return 1


def _value(pv: PV) -> Value:
    return pv.value


def _raw(pv: PV) -> Value:
    """Return the raw value that a soft output would have."""
    number = pv.value if isinstance(pv.value, int | float) else 0
    return int(number + math.copysign(0.5, number)) if abs(number) < 2**31 - 1 else 0


def _of_the_record() -> Iterable[tuple[str, Field]]:
    """Yield the fields that come from the record's specification, value or alarm."""
    yield "NAME", Field(STRING, lambda pv: pv.spec.name)
    yield "DESC", Field(STRING, lambda pv: pv.spec.desc)
    yield "RTYP", Field(STRING, lambda pv: pv.spec.rtyp)
    yield "SEVR", Field(ENUM, lambda pv: pv.severity, labels=SEVERITY_LABELS)
    yield "STAT", Field(ENUM, lambda pv: pv.status, labels=STATUS_LABELS)
    yield "UDF", Field(LONG, lambda pv: int(pv.status == UDF))
    yield "EGU", Field(STRING, lambda pv: pv.spec.units, _NUMERIC | _ARRAY)
    yield "PREC", Field(LONG, lambda pv: pv.spec.precision, _REAL | _ARRAY)
    yield "ADEL", Field(DOUBLE, lambda pv: pv.spec.adel, _NUMERIC)
    yield "MDEL", Field(DOUBLE, lambda pv: pv.spec.mdel, _NUMERIC)
    yield "NELM", Field(LONG, lambda pv: pv.spec.max_elements, _ARRAY)
    yield "NORD", Field(LONG, _length, _ARRAY)
    yield "FTVL", Field(STRING, lambda pv: pv.spec.dtype.name, _ARRAY)
    for name in ("HOPR", "LOPR"):
        yield name, Field(None, _limit(name.lower(), 0.0), _NUMERIC | _ARRAY)
    for name in ("HIHI", "HIGH", "LOW", "LOLO"):
        yield name, Field(None, _limit(name.lower(), math.nan), _NUMERIC)
    for name in ("DRVH", "DRVL"):
        yield name, Field(None, _limit(name.lower(), 0.0), frozenset(("ao", "longout")))
    for name in ("HHSV", "HSV", "LSV", "LLSV"):
        yield name, Field(ENUM, _limit_severity(name), _NUMERIC, SEVERITY_LABELS)
    for number, name in enumerate(("Z", "O")):
        yield f"{name}NAM", Field(STRING, _label(number), _TWO_STATES)
        yield f"{name}SV", Field(ENUM, _label_severity(number), _TWO_STATES, SEVERITY_LABELS)
    for number, name in enumerate(_STATE_NAMES):
        yield f"{name}ST", Field(STRING, _label(number), _MANY_STATES)
        rtyps = _MANY_STATES | (_TWO_STATES if name == "ZR" else _ALL)
        yield f"{name}SV", Field(ENUM, _label_severity(number), rtyps, SEVERITY_LABELS)
    for name in ("LALM", "MLST"):
        yield name, Field(None, _value, _NUMERIC | _STATES)
    yield "ALST", Field(None, _value, _NUMERIC)
    yield "OVAL", Field(None, _value, _TEXT | {"ao", "calcout"})
    yield "PVAL", Field(None, _value, frozenset(("ao", "longout", "calcout")))
    for name in ("RVAL", "ORAW"):
        yield name, Field(LONG, _raw, frozenset(("ao", "bo")))


_TEXTS: tuple[tuple[_Types, str], ...] = (
    (_ALL, "ASG EVNT TSEL SDIS FLNK AMSG NAMSG"),
    (_SOFT, "SIML SIOL"),
    (_IN | {"waveform"}, "INP"),
    (_OUT | {"calcout"}, "OUT"),
    (_OUT, "DOL"),
)
"""Constants that are an empty text: mostly links that are not set."""

_NUMBERS: tuple[tuple[_Types, float, ChannelType | None, str], ...] = (
    (_ALL, 0, LONG, "PHAS TSE DISA DISP PROC LCNT PACT PUTF RPRO TPRO UTAG"),
    (_ALL, 1, LONG, "DISV"),
    (_SOFT, -1.0, DOUBLE, "SDLY"),
    (_NUMERIC, 0, None, "HYST"),
    (frozenset(("ai", "longin", "mbbi", "calc")), 0.0, DOUBLE, "AFTC AFVL"),
    (frozenset(("ai", "bi", "longin", "mbbi")), 0, None, "SVAL"),
    (frozenset(("ao", "bo", "longout", "mbbo", "calcout")), 0, None, "IVOV"),
    (_ANALOGUE, 0.0, DOUBLE, "EGUF EGUL AOFF EOFF"),
    (_ANALOGUE, 1.0, DOUBLE, "ESLO"),
    (_ANALOGUE, 0, LONG, "ROFF INIT LBRK"),
    (frozenset(("ai",)), 1.0, DOUBLE, "ASLO"),
    (frozenset(("ao",)), 0.0, DOUBLE, "ASLO OROC"),
    (frozenset(("ai",)), 0.0, DOUBLE, "SMOO"),
    (frozenset(("ao",)), 0, LONG, "OMOD"),
    (frozenset(("ai", "bi", "mbbi", "mbbo")), 0, LONG, "RVAL ORAW"),
    (frozenset(("ao", "bo", "mbbo")), 0, LONG, "RBV ORBV"),
    (frozenset(("bo",)), 0.0, DOUBLE, "HIGH"),
    (_STATES, 0, LONG, "MASK"),
    (_MANY_STATES, 0, LONG, "NOBT SHFT " + " ".join(f"{name}VL" for name in _STATE_NAMES)),
    (_MANY_STATES, 1, LONG, "SDEF"),
    (frozenset(("waveform",)), 0, LONG, "RARM BUSY HASH"),
)

_MENUS: tuple[tuple[_Types, int, tuple[str, ...], str], ...] = (
    (_ALL, 0, _SCAN, "SCAN"),
    (_ALL, 0, ("NO", "YES", "RUN", "RUNNING", "PAUSE", "PAUSED"), "PINI"),
    (_ALL, 0, ("Soft Channel",), "DTYP"),
    (_ALL, 0, ("LOW", "MEDIUM", "HIGH"), "PRIO"),
    (_ALL, 1, _NO_YES, "ACKT"),
    (_ALL, 0, SEVERITY_LABELS, "ACKS NSEV DISS"),
    (_ALL, 0, STATUS_LABELS, "NSTA"),
    (_ALL, 3, SEVERITY_LABELS, "UDFS"),
    (_SOFT, 0, _SIMULATION, "SIMM OLDSIMM"),
    (_SOFT, 0, SEVERITY_LABELS, "SIMS"),
    (_SOFT, _NO_SCAN, _SCAN, "SSCN"),
    (_ANALOGUE, 0, ("NO CONVERSION", "SLOPE", "LINEAR"), "LINR"),
    (_OUT, 0, ("supervisory", "closed_loop"), "OMSL"),
    (
        _OUT | {"calcout"},
        0,
        ("Continue normally", "Don't drive outputs", "Set output to IVOV"),
        "IVOA",
    ),
    (frozenset(("ao",)), 0, ("Full", "Incremental"), "OIF"),
    (frozenset(("longout",)), 1, _NO_YES, "OOCH"),
    (frozenset(("longout", "calcout")), 0, ("Every Time",), "OOPT"),
    (_STATES, 0, SEVERITY_LABELS, "COSV"),
    (_MANY_STATES, 0, SEVERITY_LABELS, "UNSV"),
    (_TEXT, 0, ("On Change", "Always"), "MPST APST"),
    (frozenset(("waveform",)), 0, ("Always", "On Change"), "MPST APST"),
)


def _constants() -> Iterable[tuple[str, Field]]:
    def always(value: Value) -> Read:
        return lambda _: value

    for rtyps, names in _TEXTS:
        for name in names.split():
            yield name, Field(STRING, always(""), rtyps, constant=True)
    yield "SVAL", Field(STRING, always(""), frozenset(("stringin",)), constant=True)
    yield "IVOV", Field(STRING, always(""), frozenset(("stringout",)), constant=True)
    for rtyps, number, dtype, names in _NUMBERS:
        for name in names.split():
            yield name, Field(dtype, always(number), rtyps, constant=True)
    for rtyps, number, labels, names in _MENUS:
        for name in names.split():
            yield name, Field(ENUM, always(number), rtyps, labels, constant=True)


def _table() -> dict[str, tuple[Field, ...]]:
    table: dict[str, tuple[Field, ...]] = {}
    for name, entry in (*_of_the_record(), *_constants()):
        table[name] = (*table.get(name, ()), entry)
    return table


_FIELDS = _table()


def find_field(rtyp: str, name: str) -> Field | None:
    """Return a field of a record type, except VAL; None if the type has no such field."""
    entries = _FIELDS.get(name, ())
    return next((entry for entry in entries if not entry.rtyps or rtyp in entry.rtyps), None)


def fields_of(rtyp: str) -> dict[str, Field]:
    """Return the fields of a record type by name, except VAL."""
    found = ((name, find_field(rtyp, name)) for name in sorted(_FIELDS))
    return {name: entry for name, entry in found if entry is not None}
