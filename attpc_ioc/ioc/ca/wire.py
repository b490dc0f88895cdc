"""Channel Access messages: numbers, headers and framing.

A message is a header of 16 bytes (command, payload size, data type, count, two parameters; all big-endian)
and a payload padded to 8 bytes. Where the size or the count does not fit 16 bits, the size is given as
0xFFFF, the count as 0, and both follow the header as 32-bit numbers. Source: the Channel Access protocol
specification of EPICS base. The numbers are taken from caproto's command classes; the tests read every
message made here with caproto's own client as the reference. Headers are packed with `struct` rather than
caproto's ctypes classes, which take five times as long for a get, and caproto's stream reader copies the
rest of the buffer for every message.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from attpc_ioc.ioc.ca.protocol import CAStatus, caproto

MINOR_VERSION = caproto.DEFAULT_PROTOCOL_VERSION
"""The minor protocol version used, 13 as in EPICS base 7."""

HEADER = Struct(">HHHHII")
_LONG_HEADER = Struct(">HHHHIIII")
_LONG_TAIL = Struct(">II")
HEADER_SIZE = HEADER.size
LONG_HEADER_SIZE = _LONG_HEADER.size
_EXTENDED = 0xFFFF

READ, WRITE = 1, 2
"""The bits of Channel Access's access rights."""

NO_ACCESS = "no write access"
"""The reason of a put refused because the client has no write access."""


class Command(IntEnum):
    """Command numbers, from caproto's command classes."""

    VERSION = caproto.VersionRequest.ID
    EVENT_ADD = caproto.EventAddRequest.ID
    EVENT_CANCEL = caproto.EventCancelRequest.ID
    READ = caproto.ReadRequest.ID
    WRITE = caproto.WriteRequest.ID
    SEARCH = caproto.SearchRequest.ID
    EVENTS_OFF = caproto.EventsOffRequest.ID
    EVENTS_ON = caproto.EventsOnRequest.ID
    READ_SYNC = caproto.ReadSyncRequest.ID
    ERROR = caproto.ErrorResponse.ID
    CLEAR_CHANNEL = caproto.ClearChannelRequest.ID
    BEACON = caproto.Beacon.ID
    NOT_FOUND = caproto.NotFoundResponse.ID
    READ_NOTIFY = caproto.ReadNotifyRequest.ID
    CREATE_CHANNEL = caproto.CreateChanRequest.ID
    WRITE_NOTIFY = caproto.WriteNotifyRequest.ID
    CLIENT_NAME = caproto.ClientNameRequest.ID
    HOST_NAME = caproto.HostNameRequest.ID
    ACCESS_RIGHTS = caproto.AccessRightsResponse.ID
    ECHO = caproto.EchoRequest.ID
    CREATE_FAILED = caproto.CreateChFailResponse.ID
    SERVER_DISCONNECT = caproto.ServerDisconnResponse.ID


class Eca(IntEnum):
    """The status codes that this server sends, with their severity bits."""

    NORMAL = CAStatus.ECA_NORMAL.value.code_with_severity
    ALLOCMEM = CAStatus.ECA_ALLOCMEM.value.code_with_severity
    TOLARGE = CAStatus.ECA_TOLARGE.value.code_with_severity
    BADTYPE = CAStatus.ECA_BADTYPE.value.code_with_severity
    BADCOUNT = CAStatus.ECA_BADCOUNT.value.code_with_severity
    PUTFAIL = CAStatus.ECA_PUTFAIL.value.code_with_severity
    BADMONID = CAStatus.ECA_BADMONID.value.code_with_severity
    NORDACCESS = CAStatus.ECA_NORDACCESS.value.code_with_severity
    NOWTACCESS = CAStatus.ECA_NOWTACCESS.value.code_with_severity
    NOCONVERT = CAStatus.ECA_NOCONVERT.value.code_with_severity
    OLD_CLIENT = CAStatus.ECA_16KARRAYCLIENT.value.code_with_severity
    BADCHID = CAStatus.ECA_BADCHID.value.code_with_severity


def message(
    command: int, data_type: int = 0, count: int = 0, p1: int = 0, p2: int = 0, payload: bytes = b""
) -> bytes:
    """Return a whole message; `payload` is padded here."""
    payload += bytes(-len(payload) % 8)
    size = len(payload)
    if size >= _EXTENDED or count > _EXTENDED:
        return _LONG_HEADER.pack(command, _EXTENDED, data_type, 0, p1, p2, size, count) + payload
    return HEADER.pack(command, size, data_type, count, p1, p2) + payload


class Header:
    """The header of one received message, whose payload is `start` to `end` of the buffer.

    `payload` is empty until the reader sets it, once it is complete.
    """

    __slots__ = ("command", "count", "data_type", "end", "p1", "p2", "payload", "size", "start")

    def __init__(self, buffer: bytearray, offset: int) -> None:
        """Read the header at `offset`, which must be complete (see `read_header`)."""
        self.command, self.size, self.data_type, self.count, self.p1, self.p2 = HEADER.unpack_from(
            buffer, offset
        )
        self.start = offset + HEADER_SIZE
        if self.size == _EXTENDED and self.count == 0:
            self.size, self.count = _LONG_TAIL.unpack_from(buffer, self.start)
            self.start += _LONG_TAIL.size
        self.end = self.start + self.size
        self.payload = b""

    def short(self) -> bytes:
        """Return the header in 16 bytes, as an exception repeats it."""
        size, count = self.size & 0xFFFF, self.count & 0xFFFF
        return HEADER.pack(self.command, size, self.data_type, count, self.p1, self.p2)


def read_header(buffer: bytearray, offset: int) -> Header | None:
    """Return the header at `offset`, or None while it is incomplete."""
    available = len(buffer) - offset
    if available < HEADER_SIZE:
        return None
    extended = buffer[offset + 2] == 0xFF and buffer[offset + 3] == 0xFF
    if extended and available < LONG_HEADER_SIZE and buffer[offset + 6] == 0 and buffer[offset + 7] == 0:
        return None
    return Header(buffer, offset)


def text_of(payload: bytes) -> str:
    """Return the text of a name's payload, up to the first NUL; broken UTF-8 is shown in hex."""
    return payload.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
