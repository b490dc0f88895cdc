"""Turns what clients write into Python values, strictly: nothing is clamped or wrapped.

The rules: an ENUM takes a label, or a number of one; a text is a number as `number` reads it; a LONG takes
whole numbers within 32 bits and DRVL to DRVH; a DOUBLE takes finite numbers within DRVL to DRVH; long text
takes bytes, a string, or an array of UTF-16 code units or code points (Phoebus writes those as numbers); a
short text takes bytes or a string, of at most 39 bytes. An array does not go into a scalar.
"""

from __future__ import annotations

import math
import re
from struct import unpack_from

from attpc_ioc.ioc.ca.dbr import CHAR, DOUBLE, ELEMENT_SIZE, ENUM, FLOAT, INT, LONG, STRING, STRING_SIZE
from attpc_ioc.ioc.ca.number import SPACE, parse_double
from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.spec import PVSpec, Scalar, Value

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_CODES = {INT: "h", FLOAT: "f", ENUM: "H", CHAR: "B", LONG: "i", DOUBLE: "d"}
_SHOWN = 60


class Unacceptable(Exception):
    """A written value breaks a rule; the text says which, for operators."""


def raw_elements(dtype: int, count: int, payload: bytes) -> list[bytes] | tuple[int | float, ...]:
    """Return the elements of a write's payload: bytes of each string (40 where no NUL ends it), or numbers.

    Raises `Unacceptable` when the payload does not hold `count` elements of a plain type.
    """
    if dtype == STRING:
        if count == 1:
            return [payload[:STRING_SIZE].split(b"\0", 1)[0]]
        if len(payload) < count * STRING_SIZE:
            raise Unacceptable("the message is shorter than its count says")
        cut = (payload[i * STRING_SIZE : (i + 1) * STRING_SIZE] for i in range(count))
        return [element.split(b"\0", 1)[0] for element in cut]
    if dtype not in _CODES:
        raise Unacceptable(f"type {dtype} cannot be written")
    if len(payload) < count * ELEMENT_SIZE[dtype]:
        raise Unacceptable("the message is shorter than its count says")
    return unpack_from(f">{count}{_CODES[dtype]}", payload)


def shown(dtype: int, count: int, payload: bytes) -> str:
    """Return a write's value, however broken, as text for a log; at most 60 characters."""
    try:
        elements = raw_elements(dtype, min(count, _SHOWN), payload)
    except Unacceptable:
        return payload[:_SHOWN].hex()
    if dtype == CHAR:
        return payload[: min(count, _SHOWN)].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    texts = [e.decode("utf-8", "backslashreplace") if isinstance(e, bytes) else f"{e:g}" for e in elements]
    return ", ".join(texts)[:_SHOWN]


def decode(spec: PVSpec, dtype: int, count: int, payload: bytes) -> Value:
    """Return the PV value that a write of `count` elements of plain type `dtype` means.

    Raises `Unacceptable` with the reason.
    """
    elements = raw_elements(dtype, count, payload)
    if any(isinstance(element, bytes) and len(element) >= STRING_SIZE for element in elements):
        raise Unacceptable(f"a string has at most {STRING_SIZE - 1} bytes; long text is written as bytes")
    if spec.is_text:
        return _text(spec, dtype, elements)
    if spec.is_array:
        if count > spec.max_elements:
            raise Unacceptable(f"{count} elements are more than {spec.max_elements}")
        return tuple(_scalar(spec, element) for element in elements)
    if spec.dtype is ChannelType.STRING and dtype == CHAR:
        return _text(spec, dtype, elements)
    if count != 1:
        raise Unacceptable(f"an array of {count} elements does not go into a single value")
    return _scalar(spec, elements[0])


def accept(spec: PVSpec, written: Scalar | list[Scalar]) -> Value:
    """Return the PV value that a number, a text or a list of them means, by the same rules as `decode`.

    Raises `Unacceptable` with the reason.
    """
    if spec.is_array:
        if not isinstance(written, list):
            raise Unacceptable("a single value does not go into an array")
        if len(written) > spec.max_elements:
            raise Unacceptable(f"{len(written)} elements are more than {spec.max_elements}")
        return tuple(_scalar(spec, _as_element(one)) for one in written)
    if isinstance(written, list):
        raise Unacceptable(f"an array of {len(written)} elements does not go into a single value")
    if spec.is_text or spec.dtype is ChannelType.STRING:
        return _fitting(spec, written if isinstance(written, str) else f"{written:.15g}")
    return _scalar(spec, _as_element(written))


def _as_element(written: Scalar) -> bytes | float:
    return written.encode("utf-8", "replace") if isinstance(written, str) else written


def _scalar(spec: PVSpec, element: bytes | float) -> Scalar:
    if spec.dtype is ChannelType.STRING:
        return _utf8(element) if isinstance(element, bytes) else f"{element:.15g}"
    if spec.dtype is ChannelType.ENUM:
        return _label(spec, element)
    number = _number(_utf8(element)) if isinstance(element, bytes) else element
    if not math.isfinite(number):
        raise Unacceptable(f"{number} is not a number")
    if spec.dtype is ChannelType.LONG:
        if number != int(number):
            raise Unacceptable(f"{number:g} is not a whole number")
        number = int(number)
        if not -(2**31) <= number < 2**31:
            raise Unacceptable(f"{number} does not fit 32 bits")
    if spec.drvh is not None and number > spec.drvh:
        raise Unacceptable(f"{number:.10g} is above the limit {spec.drvh:.10g}")
    if spec.drvl is not None and number < spec.drvl:
        raise Unacceptable(f"{number:.10g} is below the limit {spec.drvl:.10g}")
    return number if spec.dtype is ChannelType.LONG else float(number)


def _number(text: str) -> float:
    number = parse_double(text)
    if number is None or not math.isfinite(number):
        raise Unacceptable(f"{text!r} is not a number")
    return number


def _label(spec: PVSpec, element: bytes | float) -> int:
    if isinstance(element, bytes):
        text = _utf8(element)
        if text in spec.labels:
            return spec.labels.index(text)
        number = text.strip(SPACE)
        if not _WHOLE.fullmatch(number):
            raise Unacceptable(f"{text!r} is not one of {', '.join(spec.labels)}")
        element = int(number)
    if not math.isfinite(element) or element != int(element) or not 0 <= element < len(spec.labels):
        top = len(spec.labels) - 1
        raise Unacceptable(f"{element:g} is not the number of a label (0 to {top}: {', '.join(spec.labels)})")
    return int(element)


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unacceptable("the text is not UTF-8") from None


def _text(spec: PVSpec, dtype: int, elements: list[bytes] | tuple[int | float, ...]) -> str:
    if dtype == STRING:
        if len(elements) > 1:
            raise Unacceptable(f"{len(elements)} strings do not go into one text")
        first = elements[0] if elements else b""
        text = _utf8(first if isinstance(first, bytes) else b"")
    elif dtype == CHAR:
        text = _utf8(bytes(int(e) for e in elements).split(b"\0", 1)[0])
    else:
        text = _from_code_units(dtype, [e for e in elements if not isinstance(e, bytes)])
    return _fitting(spec, text)


def _fitting(spec: PVSpec, text: str) -> str:
    room = (spec.max_elements if spec.is_text else STRING_SIZE) - 1
    most = spec.max_chars or room
    if len(text) > most:
        raise Unacceptable(f"{len(text)} characters are more than {most}")
    if len(text.encode("utf-8", "replace")) > room:
        raise Unacceptable(f"the text needs more than {room} bytes of UTF-8")
    return text


def _from_code_units(dtype: int, elements: list[int | float]) -> str:
    """Return the text of UTF-16 code units or code points, which differ only beyond U+FFFF."""
    points: list[int] = []
    for element in elements:
        if not math.isfinite(element) or element != int(element):
            raise Unacceptable(f"{element:g} is not a character")
        point = int(element) & 0xFFFF if dtype == INT else int(element)
        if not 0 <= point <= 0x10FFFF:
            raise Unacceptable(f"{point} is not a character")
        if 0xDC00 <= point < 0xE000 and points and 0xD800 <= points[-1] < 0xDC00:
            point = 0x10000 + ((points.pop() - 0xD800) << 10) + (point - 0xDC00)
        points.append(point)
    while points and points[-1] == 0:
        points.pop()
    if 0 in points:
        raise Unacceptable("the text has a NUL inside")
    if any(0xD800 <= point < 0xE000 for point in points):
        raise Unacceptable("half of a surrogate pair is not a character")
    return "".join(map(chr, points))
