"""Values as Channel Access carries them: DBR types, and conversions between native types.

The layouts are those of EPICS base's `db_access.h`; the tests check each with caproto's DBR structures.
Nothing here raises for a value that a PV can have: a failed conversion gives `Eca.NOCONVERT` with zeros
(`softIoc` wraps or cuts such numbers instead).
"""

from __future__ import annotations

import math
from functools import lru_cache
from struct import Struct, pack

from attpc_ioc.ioc.ca.number import parse_double
from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.spec import PVSpec, Scalar, Value, clip_utf8
from attpc_ioc.ioc.ca.wire import Eca

STRING, INT, FLOAT, ENUM, CHAR, LONG, DOUBLE = range(7)
"""The native types by number."""

PUT_ACKT, PUT_ACKS, STSACK_STRING, CLASS_NAME = (
    int(t)
    for t in (ChannelType.PUT_ACKT, ChannelType.PUT_ACKS, ChannelType.STSACK_STRING, ChannelType.CLASS_NAME)
)
_PLAIN, _STS, _TIME, _GR, _CTRL = range(5)

STRING_SIZE = 40
"""Bytes of a DBR_STRING, its NUL included."""
ELEMENT_SIZE = (STRING_SIZE, 2, 4, 2, 1, 4, 8)
"""Bytes of an element of each native type."""

_CODES = "shfHBid"
_RANGE = {
    INT: (-(2**15), 2**15 - 1),
    ENUM: (0, 2**16 - 1),
    CHAR: (-(2**7), 2**8 - 1),
    LONG: (-(2**31), 2**31 - 1),
}
_FLT_MAX = 3.4028234663852886e38

_STS_PAD = (b"", b"", b"", b"", bytes(1), b"", bytes(4))
_TIME_PAD = (b"", bytes(2), b"", bytes(2), bytes(3), b"", bytes(4))
_ALARM = Struct(">hh")
_TIME_HEAD = Struct(">hhII")
_ENUM_STATES, _ENUM_LABEL_SIZE = 16, 26

NANOSECONDS = 1_000_000_000
_EPICS_EPOCH_S = 631152000


class Unconvertible(Exception):
    """A value cannot be converted to the type that a client asked for."""


def format_number(value: float, precision: int) -> str:
    """Return a DOUBLE as a DBR_STRING shows it, with `precision` decimals."""
    text = f"{value:.{precision}f}"
    return text if len(text) < STRING_SIZE else f"{value:.{precision}e}"


def as_text(spec: PVSpec, value: Scalar) -> str:
    """Return one element as text: an ENUM's label, a DOUBLE with the record's PREC."""
    if isinstance(value, str):
        return value
    if spec.dtype is ChannelType.ENUM and 0 <= value < len(spec.labels):
        return spec.labels[int(value)]
    return format_number(value, spec.precision) if isinstance(value, float) else str(value)


def _number(value: Scalar, native: int) -> int | float:
    if isinstance(value, str):
        if (number := parse_double(value)) is None:
            raise Unconvertible
        value = number
    if native == DOUBLE:
        return value
    if native == FLOAT:
        return value if not math.isfinite(value) else max(-_FLT_MAX, min(_FLT_MAX, value))
    low, high = _RANGE[native]
    if not math.isfinite(value) or not low <= (number := int(value)) <= high:
        raise Unconvertible
    return number & 0xFF if native == CHAR else number


def _strings(texts: list[str]) -> bytes:
    return b"".join(clip_utf8(text, STRING_SIZE - 1).ljust(STRING_SIZE, b"\0") for text in texts)


def _data(spec: PVSpec, value: Value, native: int) -> tuple[int, bytes]:
    """Return the number of elements of `value` as `native`, and their bytes."""
    if isinstance(value, str) and spec.is_text:
        if native == STRING:
            return 1, _strings([value])
        text = clip_utf8(value, spec.max_elements - 1) + b"\0"
        return len(text), text if native == CHAR else pack(f">{len(text)}{_CODES[native]}", *text)
    elements = value if isinstance(value, tuple) else (value,)
    if native == STRING:
        return len(elements), _strings([as_text(spec, element) for element in elements])
    numbers = [_number(element, native) for element in elements]
    return len(numbers), pack(f">{len(numbers)}{_CODES[native]}", *numbers)


def _limits(spec: PVSpec, control: bool) -> tuple[float, ...]:
    nan = math.nan
    top: float = len(spec.labels) - 1 if spec.labels else 0
    display = (spec.hopr if spec.hopr is not None else top, spec.lopr if spec.lopr is not None else 0)
    alarm = tuple(nan if x is None else x for x in (spec.hihi, spec.high, spec.low, spec.lolo))
    if not control:
        return (*display, *alarm)
    upper = display[0] if spec.drvh is None else spec.drvh
    lower = display[1] if spec.drvl is None else spec.drvl
    return (*display, *alarm, upper, lower)


def _graphics(spec: PVSpec, native: int, control: bool) -> bytes:
    """Return the part of GR and CTRL types between alarm and value."""
    if native == STRING:
        return b""
    if native == ENUM:
        labels = spec.labels[:_ENUM_STATES]
        texts = (clip_utf8(label, _ENUM_LABEL_SIZE - 1).ljust(_ENUM_LABEL_SIZE, b"\0") for label in labels)
        return pack(">h", len(labels)) + b"".join(texts).ljust(_ENUM_STATES * _ENUM_LABEL_SIZE, b"\0")
    head = clip_utf8(spec.units, 7).ljust(8, b"\0")
    if native in (FLOAT, DOUBLE):
        head = pack(">hh", spec.precision, 0) + head
    limits = [_clamped(limit, native) for limit in _limits(spec, control)]
    return head + pack(f">{len(limits)}{_CODES[native]}", *limits) + (b"\0" if native == CHAR else b"")


def _clamped(limit: float, native: int) -> float:
    """Return a limit in the range of `native`; integer types have 0 for no limit."""
    if native == DOUBLE:
        return limit
    if native == FLOAT:
        return limit if not math.isfinite(limit) else max(-_FLT_MAX, min(_FLT_MAX, limit))
    if math.isnan(limit):
        return 0
    low, high = _RANGE[native]
    low = max(low, 0) if native == CHAR else low
    return int(max(low, min(high, limit)))


@lru_cache(maxsize=4096)
def _static(spec: PVSpec, dtype: int) -> bytes:
    return _graphics(spec, dtype % 7, dtype // 7 == _CTRL)


def metadata(spec: PVSpec, dtype: int, severity: int, status: int, stamp_ns: int) -> bytes:
    """Return the part before the value in a DBR of type `dtype`."""
    form, native = divmod(dtype, 7)
    if form == _PLAIN:
        return b""
    if form == _STS:
        return _ALARM.pack(status, severity) + _STS_PAD[native]
    if form == _TIME:
        seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
        since_1990 = max(0, seconds - _EPICS_EPOCH_S) & 0xFFFFFFFF
        return _TIME_HEAD.pack(status, severity, since_1990, nanoseconds) + _TIME_PAD[native]
    return _ALARM.pack(status, severity) + _static(spec, dtype)


def known(dtype: int) -> bool:
    """Whether a client may ask for a value as `dtype`."""
    return 0 <= dtype <= CLASS_NAME and dtype not in (PUT_ACKT, PUT_ACKS)


def encode(
    spec: PVSpec, value: Value, severity: int, status: int, stamp_ns: int, dtype: int, count: int
) -> tuple[int, int, bytes]:
    """Return (ECA status, number of elements, payload) of a value as DBR type `dtype`.

    `count` 0 asks for as many elements as there are; otherwise exactly `count` are given, zeros following
    the value's own. Long text as a string is always one element. The payload has room for one element even
    when there is none, because libca takes an event without payload as the end of a subscription.
    """
    if dtype == CLASS_NAME:
        return Eca.NORMAL, 1, _strings([spec.rtyp])
    if isinstance(value, tuple) and (count or dtype == STSACK_STRING):
        # Encode only what is sent: a client may ask for one element of a million.
        value = value[: count or 1]
    if dtype == STSACK_STRING:
        _, data = _data(spec, value, STRING)
        return (
            Eca.NORMAL,
            1,
            pack(">hhhh", status, severity, 1, 0) + data[:STRING_SIZE].ljust(STRING_SIZE, b"\0"),
        )
    native = dtype % 7
    head = metadata(spec, dtype, severity, status, stamp_ns)
    size = ELEMENT_SIZE[native]
    try:
        length, data = _data(spec, value, native)
    except Unconvertible:
        return Eca.NOCONVERT, max(count, 1), head + bytes(size * max(count, 1))
    if native == STRING and spec.is_text:
        count = 1
    elif count == 0:
        count = length
    data = data[: count * size].ljust(max(count, 1) * size, b"\0")
    return Eca.NORMAL, count, head + data


def refused(dtype: int, count: int) -> bytes:
    """Return the zeros sent in place of a value that the client may not read."""
    if not known(dtype) or dtype in (CLASS_NAME, STSACK_STRING):
        return bytes(STRING_SIZE + 8)
    head = {_PLAIN: 0, _STS: 8, _TIME: 16}.get(dtype // 7, 432)
    return bytes(head + ELEMENT_SIZE[dtype % 7] * max(count, 1))
