"""A recceiver for tests, written from the description of the recsync protocol."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tests.support.patience import PATIENCE_S

GREETING = struct.pack("!HHIB", 0x5243, 0x8001, 1, 0)


def ping(nonce: int) -> bytes:
    """A ping."""
    return struct.pack("!HHII", 0x5243, 0x8002, 4, nonce)


def announcement(
    port: int, key: int = 0, address: str = "255.255.255.255", magic: bytes = b"RC", version: int = 0
) -> bytes:
    """A datagram of 16 bytes."""
    return magic + struct.pack("!H4sHxxI", version, socket.inet_aton(address), port, key)


@dataclass
class Upload:
    """What one connection sent."""

    raw: bytearray = field(default_factory=bytearray)
    key: int | None = None
    infos: dict[str, str] = field(default_factory=dict)
    records: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Name and type."""
    aliases: dict[int, list[str]] = field(default_factory=dict)
    record_infos: dict[int, dict[str, str]] = field(default_factory=dict)
    done: bool = False
    pongs: list[int] = field(default_factory=list)
    ended: bool = False

    def take(self, number: int, body: bytes) -> None:
        """Take one message."""
        if number == 1:
            assert body[:2] == b"\0\0"
            assert len(body) == 8
            self.key = struct.unpack("!I", body[4:])[0]
        elif number == 2:
            self.pongs.append(struct.unpack("!I", body)[0])
        elif number == 3:
            record, kind, type_len, name_len = struct.unpack("!IBBH", body[:8])
            assert record > 0
            assert len(body) == 8 + type_len + name_len
            record_type, name = body[8 : 8 + type_len].decode(), body[8 + type_len :].decode()
            assert name
            if kind == 0:
                assert record_type
                assert record not in self.records
                self.records[record] = (name, record_type)
            else:
                assert kind == 1
                assert not record_type
                assert record in self.records
                self.aliases.setdefault(record, []).append(name)
        elif number == 5:
            assert body == bytes(4)
            self.done = True
        else:
            assert number == 6, f"message {number:#06x}"
            record, key_len, value_len = struct.unpack("!IBxH", body[:8])
            assert len(body) == 8 + key_len + value_len
            key, value = body[8 : 8 + key_len].decode(), body[8 + key_len :].decode()
            assert key
            to = self.infos if record == 0 else self.record_infos.setdefault(record, {})
            assert record == 0 or record in self.records
            to[key] = value


class Recceiver:
    """Listens on loopback; `announce` sends one datagram. `greeting` and `pings` are what it says."""

    def __init__(self, udp_port: int, greeting: bytes = GREETING, pings: tuple[bytes, ...] = ()) -> None:
        self.udp_port = udp_port
        self.greeting = greeting
        self.pings = pings
        """Sent at the end of an upload."""
        self.uploads: list[Upload] = []
        self.faults: list[BaseException] = []
        self.port = 0
        self.key = 0xC0FFEE42
        self._changed = asyncio.Condition()
        self._writers: list[asyncio.StreamWriter] = []

    def announce(self, data: bytes | None = None, source: str = "127.0.0.1") -> None:
        """Send a datagram; None: a right one."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.sendto(
                announcement(self.port, self.key) if data is None else data, ("127.0.0.1", self.udp_port)
            )

    def hang_up(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def cut_off(self) -> None:
        """End every connection, with whatever is still to be sent."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def send(self, data: bytes) -> None:
        """Send to the newest connection."""
        self._writers[-1].write(data)

    async def until(self, done: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
        """Wait until it is so, for what comes from the client."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: self.faults or done())
        if self.faults:
            raise self.faults[0]

    async def taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one connection."""
        self._writers.append(writer)
        upload = Upload()
        self.uploads.append(upload)
        try:
            while True:
                header = await reader.readexactly(8)
                magic, number, length = struct.unpack("!2sHI", header)
                assert magic == b"RC"
                body = await reader.readexactly(length)
                upload.raw += header + body
                upload.take(number, body)
                if number == 1:
                    writer.write(self.greeting)
                elif number == 5:
                    writer.writelines(self.pings)
                async with self._changed:
                    self._changed.notify_all()
        except (asyncio.IncompleteReadError, OSError):
            pass
        except Exception as error:  # an assertion: the test is to fail with it
            self.faults.append(error)
        finally:
            upload.ended = True
            writer.close()
            async with self._changed:
                self._changed.notify_all()


@contextlib.asynccontextmanager
async def recceiver(
    udp_port: int, greeting: bytes = GREETING, pings: tuple[bytes, ...] = (ping(0xDEADBEEF),)
) -> AsyncIterator[Recceiver]:
    """Run a recceiver for the length of a block."""
    it = Recceiver(udp_port, greeting, pings)
    server = await asyncio.start_server(it.taken, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        it.cut_off()
        await it.until(lambda: all(upload.ended for upload in it.uploads))
        await server.wait_closed()
