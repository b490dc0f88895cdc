"""Fields of a record (`X.DESC`, `X.EGU`, `X.SEVR` …), made when a client asks for one.

A field is a separate read-only PV with the record's alarm and time stamp, as in EPICS base.
The record keeps it as long as a channel uses it. `field_table` lists the fields.
"""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakValueDictionary

from attpc_ioc.ioc.ca.dbr import STRING_SIZE
from attpc_ioc.ioc.ca.field_table import STRING, Field, find_field
from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.pv import DBE_LOG, DBE_VALUE, PV
from attpc_ioc.ioc.ca.spec import PVSpec

_VAL = Field(STRING, lambda pv: pv.value)


class FieldPV(PV):
    """A field of a record: follows the record's `spec` and value."""

    __slots__ = ("_is_value", "_read", "record")

    def __init__(self, record: PV, spec: PVSpec, entry: Field) -> None:
        super().__init__(spec)
        self.record = record
        self._is_value = entry is _VAL
        self._read = entry.read
        self.value = entry.read(record)
        self._take_alarm()

    @property
    def writable(self) -> bool:
        """Whether it can be written: only if it is the record's value in another form."""
        return self.record.spec.writable and self.spec.writable

    @property
    def target(self) -> PV:
        """The record."""
        return self.record

    def follow(self, mask: int) -> None:
        """Update from the record, which posts the events `mask`.

        The value in another form posts the record's events; any other field posts when it changes itself.
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


def field(record: PV, name: str) -> PV | None:
    """Return the field `name` as a PV of its own, made when first asked for; None if it does not exist.

    A name may end in `$`, which gives a string as long text; the empty name means VAL, as in EPICS base.
    """
    if _is_record(record, name):
        return record
    if record.fields is None:
        record.fields = WeakValueDictionary()
    found = record.fields.get(name)
    if found is None:
        found = _make(record, name)
        if found is not None:
            record.fields[name] = found
    return found


def has_field(record: PV, name: str) -> bool:
    """Whether `field` would return one; does not make it."""
    return _is_record(record, name) or _entry(record, name) is not None


def _is_record(record: PV, name: str) -> bool:
    """Whether the field is the record itself."""
    return name in ("", "VAL") or (name in ("$", "VAL$") and record.spec.is_text)


def _entry(record: PV, name: str) -> Field | None:
    plain = name.removesuffix("$")
    entry = _VAL if plain in ("", "VAL") else find_field(record.spec.rtyp, plain)
    if entry is None:
        return None
    if name.endswith("$"):
        native = record.spec.dtype if entry is _VAL else entry.type_in(record)
        if native is not STRING or (entry is _VAL and record.spec.is_array):
            return None
    return entry


def _make(record: PV, name: str) -> FieldPV | None:
    """Make the field `name` of `record` (such as `DESC`, `DESC$` or `VAL$`); None if it has none."""
    entry = _entry(record, name)
    if entry is None:
        return None
    full = f"{record.name}.{name}"
    if name.endswith("$"):
        spec = replace(record.spec, name=full, dtype=ChannelType.CHAR, max_elements=_text_size(record, entry))
        return FieldPV(record, replace(spec, writable=entry is _VAL and spec.writable), entry)
    dtype = entry.type_in(record)
    spec = PVSpec(full, record.spec.rtyp, dtype, labels=entry.labels, desc=record.spec.desc)
    return FieldPV(record, spec, entry)


def _text_size(record: PV, entry: Field) -> int:
    """Return the bytes that a text needs; for a writable one those of a STRING."""
    if entry is _VAL and record.spec.writable:
        return STRING_SIZE
    text = entry.read(record)
    return max(STRING_SIZE, len(text.encode("utf-8", "replace")) + 1 if isinstance(text, str) else 0)
