"""Finds servers as a client does: which servers answer a search for a name, and values that they serve.

It does only what a server needs to find out whether another one serves its names: one search, one short
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from attpc_ioc.ioc.ca import wire
from attpc_ioc.ioc.ca.address import Addresses
from attpc_ioc.ioc.ca.wire import Command, Eca, Header

SENT_AT_S = (0.0, 0.1, 0.4)
"""Times in seconds at which the search is sent: datagrams get lost."""
LISTEN_S = 1.5
"""Time after the first search during which answers are accepted."""
MOST = 20
"""Most servers that are asked."""

_NO_REPLY_IF_UNKNOWN = 5
_ANSWERED_FROM = 0xFFFFFFFF
_STRING, _STRING_BYTES = 0, 40
_ANSWER_BYTES = 2048
"""Bytes read of a datagram: an answer has 40."""
_REPLY_BYTES = 1 << 16
"""Bytes that a server may send before it has answered everything."""


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A server that answered: its IPv4 address and TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def find_servers(name: str, where: Addresses, search_id: int) -> tuple[Found, ...]:
    """Return every server that claims to serve `name`, including this process.

    Searches go out on the served interfaces, to `where.searches`. Each answer must return `search_id`, 32
    bits, which only a server that got the search knows. Takes `LISTEN_S`. Raises OSError if no socket can be
    made.
    """
    found: set[Found] = set()
    payload = name.encode() + b"\0"
    request = wire.message(Command.VERSION, 0, wire.MINOR_VERSION) + wire.message(
        Command.SEARCH, _NO_REPLY_IF_UNKNOWN, wire.MINOR_VERSION, search_id, search_id, payload
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_socket(interface)) for interface in where.interfaces]
        for sock in sockets:
            loop.add_reader(sock.fileno(), _take, sock, found, search_id)
            stack.callback(loop.remove_reader, sock.fileno())
        for at_s in SENT_AT_S:
            await asyncio.sleep(began + at_s - loop.time())
            for sock in sockets:
                for target in where.searches:
                    with contextlib.suppress(OSError):  # no route from this interface
                        sock.sendto(request, target)
        await asyncio.sleep(began + LISTEN_S - loop.time())
    return tuple(sorted(found))[:MOST]


def _socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setblocking(False)
        sock.bind((interface, 0))
    except BaseException:
        sock.close()
        raise
    return sock


def _take(sock: socket.socket, found: set[Found], search_id: int) -> None:
    with contextlib.suppress(OSError):  # no datagram, or an ICMP error from a closed port
        data, peer = sock.recvfrom(_ANSWER_BYTES)
        if len(found) < 10 * MOST:
            found.update(answering(data, peer[0], search_id))


def answering(data: bytes, sender: str, search_id: int) -> set[Found]:
    """Return the servers named in a datagram of answers to the search; none for garbage."""
    found: set[Found] = set()
    buffer, offset = bytearray(data), 0
    while (header := wire.read_header(buffer, offset)) is not None and header.end <= len(buffer):
        offset = header.end
        if header.command == Command.SEARCH and header.p2 == search_id and header.data_type:
            at = header.p1
            host = sender if at in (0, _ANSWERED_FROM) else socket.inet_ntoa(at.to_bytes(4, "big"))
            found.add(Found(host, header.data_type))
    return found


async def read_texts(
    server: Found, names: Sequence[str], product: str, limit_s: float = 3.0
) -> tuple[str, ...]:
    """Return the values of some PVs, read from this server only, as texts of at most 39 bytes.

    `product` is the user name sent if the account has none. Raises OSError if the server cannot be reached,
    lacks one of the PVs, or does not answer in time.
    """
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            try:
                return await _read(reader, writer, names, _user(product))
            finally:
                writer.close()
    except TimeoutError:
        raise OSError(f"{server} does not answer within {limit_s:g} s") from None


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: Sequence[str], user: str
) -> tuple[str, ...]:
    writer.write(wire.message(Command.VERSION, 0, wire.MINOR_VERSION))
    writer.write(wire.message(Command.CLIENT_NAME, payload=user.encode() + b"\0"))
    writer.write(wire.message(Command.HOST_NAME, payload=socket.gethostname().encode() + b"\0"))
    for number, name in enumerate(names):
        payload = name.encode() + b"\0"
        writer.write(wire.message(Command.CREATE_CHANNEL, 0, 0, number, wire.MINOR_VERSION, payload))
    texts: dict[int, str] = {}
    asked: set[int] = set()
    buffer, offset, taken = bytearray(), 0, 0
    while len(texts) < len(names):
        data = await reader.read(4096)
        taken += len(data)
        if not data or taken > _REPLY_BYTES:
            raise ConnectionError("the server closed the connection, or sent too much")
        buffer += data
        while (header := wire.read_header(buffer, offset)) is not None and header.end <= len(buffer):
            header.payload = bytes(buffer[header.start : header.end])
            offset = header.end
            if header.command == Command.CREATE_CHANNEL:
                if header.p1 in asked or header.p1 >= len(names):
                    raise ConnectionError("the server answered for a PV that was not requested")
                asked.add(header.p1)
                writer.write(wire.message(Command.READ_NOTIFY, _STRING, 1, header.p2, header.p1))
            else:
                _take_reply(header, texts, asked)
    return tuple(texts[number] for number in range(len(names)))


def _take_reply(header: Header, texts: dict[int, str], asked: set[int]) -> None:
    if header.command in (Command.CREATE_FAILED, Command.ERROR, Command.SERVER_DISCONNECT):
        raise ConnectionError("the server has no such PV")
    if header.command == Command.READ_NOTIFY:
        if header.p2 not in asked:
            raise ConnectionError("the server sent a value that was not requested")
        if header.p1 != Eca.NORMAL:
            raise ConnectionError("the server grants no read access")
        texts[header.p2] = wire.text_of(header.payload[:_STRING_BYTES])


def _user(product: str) -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return product
