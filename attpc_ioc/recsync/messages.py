"""The messages of the recsync protocol, byte for byte; all numbers are big-endian.

A recceiver announces itself by UDP, in 16 bytes and anything after them: `RC`, two bytes 0, the IPv4 address
(255.255.255.255: that of the sender), the TCP port, two bytes, and a key that the client returns. On TCP each
message has a header of 8 bytes: `RC`, its number, and the length of what follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

ANNOUNCE_PORT = 5049
"""UDP port of announcements."""

MAGIC = 0x5243
"""`RC`."""

CLIENT_GREETING, PONG, ADD_RECORD, UPLOAD_DONE, ADD_INFO = 0x0001, 0x0002, 0x0003, 0x0005, 0x0006
SERVER_GREETING, PING = 0x8001, 0x8002

FROM_SENDER = IPv4Address("255.255.255.255")

IOC = 0
"""The record id of what is about the client as a whole."""

_ANNOUNCEMENT = struct.Struct("!HH4sHxxI")
_HEADER = struct.Struct("!HHI")
HEADER_BYTES = _HEADER.size

_RECORD, _ALIAS = 0, 1
_SHORT, _LONG = 0xFF, 0xFFFF
"""Maximum bytes of a record type or a key, and of a name or a value."""


class ProtocolError(Exception):
    """A peer sent what the protocol does not have."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a recceiver listens, and its key."""

    address: str
    port: int
    key: int
    direct: bool
    """Whether the recceiver sent it itself, rather than another host for it."""


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """A record as a directory has it; empty values of `infos` are not sent."""

    name: str
    type: str
    infos: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()


def read_announcement(data: bytes, sender: str) -> Announcement:
    """Return what a datagram from the IPv4 address `sender` announces; raises `ProtocolError`."""
    if len(data) < _ANNOUNCEMENT.size:
        raise ProtocolError(f"an announcement has {_ANNOUNCEMENT.size} bytes or more, not {len(data)}")
    magic, version, address, port, key = _ANNOUNCEMENT.unpack_from(data)
    if magic != MAGIC or version != 0:
        raise ProtocolError(f"not an announcement: it begins with {data[:4].hex()}")
    host = IPv4Address(address)
    direct = host == FROM_SENDER
    if port == 0 or (not direct and (host.is_unspecified or host.is_multicast)):
        raise ProtocolError(f"an announcement of {host} port {port}, where nothing can listen")
    return Announcement(sender if direct else str(host), port, key, direct)


def read_header(data: bytes) -> tuple[int, int]:
    """Return a message's number and the length of its body; raises `ProtocolError`."""
    magic, number, length = _HEADER.unpack(data)
    if magic != MAGIC:
        raise ProtocolError(f"a message begins with {data[:2].hex()}, not 5243")
    return number, length


def message(number: int, body: bytes) -> bytes:
    """Return a whole message."""
    return _HEADER.pack(MAGIC, number, len(body)) + body


def client_greeting(key: int) -> bytes:
    """Return the first message, with the key of the announcement."""
    return message(CLIENT_GREETING, struct.pack("!BBxxI", 0, 0, key))


def pong(ping: bytes) -> bytes:
    """Return the answer to the body of a ping; raises `ProtocolError` if that is too short."""
    if len(ping) < 4:
        raise ProtocolError(f"a ping has 4 bytes or more, not {len(ping)}")
    return message(PONG, ping[:4])


def add_info(record: int, key: str, value: str) -> bytes:
    """Return a message about a record, or about the client if the record is `IOC`."""
    key_bytes, value_bytes = _text(key, _SHORT), _text(value, _LONG)
    body = struct.pack("!IBxH", record, len(key_bytes), len(value_bytes)) + key_bytes + value_bytes
    return message(ADD_INFO, body)


def add_record(record: int, kind: str, name: str) -> bytes:
    """Return the message of a new record."""
    return _add(record, _RECORD, kind, name)


def add_alias(record: int, name: str) -> bytes:
    """Return the message of another name of a record that was sent before."""
    return _add(record, _ALIAS, "", name)


def upload_done() -> bytes:
    """Return the message that ends an upload."""
    return message(UPLOAD_DONE, bytes(4))


def upload(infos: Mapping[str, str], records: Sequence[RecordInfo]) -> Iterator[bytes]:
    """Yield the messages of a whole upload, in pieces of one record each; ids count from 1."""
    yield b"".join(add_info(IOC, key, value) for key, value in infos.items() if value)
    for number, record in enumerate(records, start=1):
        parts = [add_record(number, record.type, record.name)]
        parts += (add_alias(number, alias) for alias in record.aliases)
        parts += (add_info(number, key, value) for key, value in record.infos.items() if value)
        yield b"".join(parts)
    yield upload_done()


def _add(record: int, kind: int, record_type: str, name: str) -> bytes:
    type_bytes, name_bytes = _text(record_type, _SHORT), _text(name, _LONG)
    body = struct.pack("!IBBH", record, kind, len(type_bytes), len(name_bytes)) + type_bytes + name_bytes
    return message(ADD_RECORD, body)


def _text(text: str, most: int) -> bytes:
    """Return a text without the byte 0, which the protocol forbids, cut between characters."""
    data = text.replace("\0", "").encode("utf-8", "replace")
    return data if len(data) <= most else data[:most].decode("utf-8", "ignore").encode()
