"""PVAccess on the wire, as far as clients of the benchmark need it: little-endian, one byte for each size."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VALIDATE, ECHO, CREATE_CHANNEL, GET, PUT, MONITOR = 1, 2, 7, 10, 11, 13
INIT, START, EXECUTE = 0x08, 0x44, 0x00
HEADER = struct.Struct("<BBBBI")
WHOLE = b"\x80\x00\x01\x05field\x80\x00\x00"
"""The request `field()`: its type, a structure with an empty structure in it, and no value."""


def queued(size: int) -> bytes:
    """Return the request `field()record[queueSize=SIZE]`: how many updates of a monitor may wait."""
    text = str(size).encode()
    fields = b"\x05field\x80\x00\x00\x06record\x80\x00\x01\x08_options\x80\x00\x01\x09queueSize\x60"
    return b"\x80\x00\x02" + fields + bytes((len(text),)) + text


def message(command: int, payload: bytes) -> bytes:
    """Return a message of a client."""
    return HEADER.pack(0xCA, 2, 0, command, len(payload)) + payload


def hello() -> bytes:
    """Return the answer to a server's request for validation: nobody in particular."""
    return message(VALIDATE, struct.pack("<IHH", 1 << 16, 0x7FFF, 0) + b"\x09anonymous\xff")


def create(number: int, name: str) -> bytes:
    """Return a request for a channel, which gets a number."""
    return message(CREATE_CHANNEL, struct.pack("<HI", 1, number) + bytes((len(name),)) + name.encode())


def created(payload: bytes) -> tuple[int, int]:
    """Return the client's and the server's number of a channel; raises ConnectionError if there is none."""
    number, sid, status = struct.unpack_from("<IIB", payload)
    if status not in (0xFF, 0):
        raise ConnectionError(f"no channel {number}")
    return number, sid


def begin(command: int, sid: int, number: int, request: bytes = WHOLE) -> bytes:
    """Return the request that begins an operation under a number, with all fields or as `request` says."""
    return message(command, struct.pack("<IIB", sid, number, INIT) + request)


def go_on(command: int, sid: int, number: int, what: int, data: bytes = b"") -> bytes:
    """Return a further request of an operation that has begun."""
    return message(command, struct.pack("<IIB", sid, number, what) + data)


def put_value(value: int) -> bytes:
    """Return the data of a put to an NTScalar int: that its first field has changed, and to what."""
    return b"\x01\x02" + struct.pack("<i", value)


def messages(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield the command and payload of each complete message of a server, and where the next begins."""
    at = 0
    while len(data) - at >= HEADER.size:
        _, _, flags, command, size = HEADER.unpack_from(data, at)
        if flags & 1:  # a control message: the size is its value
            at += HEADER.size
            continue
        end = at + HEADER.size + size
        if len(data) < end:
            return
        yield command, data[at + HEADER.size : end], end
        at = end


def update(payload: bytes, code: str) -> tuple[float | None, int | None, int | None]:
    """Return value, seconds since 1970 and nanoseconds of an update of an NTScalar; `code` is its type's.

    None is what has not changed. Fields are in the order of the normative type: 1 is the value, 2 to 5 are
    the alarm, 6 to 9 the time stamp.
    """
    size = payload[5]
    changed = int.from_bytes(payload[6 : 6 + min(size, 2)], "little")
    at = 6 + size
    whole, value, seconds, nanoseconds = changed & 1, None, None, None
    if whole or changed & 2:
        (value,) = struct.unpack_from(f"<{code}", payload, at)
        at += 8 if code == "d" else 4
    alarm = whole or changed & 4
    for bit in (8, 16):
        at += 4 if alarm or changed & bit else 0
    if alarm or changed & 32:
        at += 1 + payload[at]
    stamp = whole or changed & 64
    if stamp or changed & 128:
        (seconds,) = struct.unpack_from("<q", payload, at)
        at += 8
    if stamp or changed & 256:
        (nanoseconds,) = struct.unpack_from("<i", payload, at)
    return value, seconds, nanoseconds
