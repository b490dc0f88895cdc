"""A foreign client: calls an ECC server over real HTTP, as a program other than the IOC would."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from html import unescape

from .messages import request_body

_FIELDS = re.compile(r"<(ErrorCode|ErrorMessage|State|Transition|Text)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply; None for each element that it lacks."""

    code: int
    message: str
    text: str | None
    state: int | None
    transition: int | None


async def exchange(host: str, port: int, data: bytes, timeout_s: float = 10.0) -> bytes:
    """Send `data` and return everything until the server closes; raises `OSError` and `TimeoutError`."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(data)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


def post(body: bytes, head: str = "") -> bytes:
    """Return a whole HTTP request; `head` has further lines, each ended by CR LF."""
    lines = (
        f"POST / HTTP/1.1\r\nHost: ecc\r\n{head}Content-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return lines.encode() + body


async def call_ecc(
    host: str,
    port: int,
    operation: str,
    *,
    config_id: str = "",
    table: str = "",
    command: str = "",
    timeout_s: float = 10.0,
) -> Answer:
    """Call one operation.

    Raises `OSError` if there is no connection or it is reset, `TimeoutError`, and `ValueError` for a
    reply that is empty or no `Response`.
    """
    reply = await exchange(host, port, post(request_body(operation, config_id, table, command)), timeout_s)
    fields = {
        name: unescape(value) for name, value in _FIELDS.findall(reply.decode("utf-8", "surrogateescape"))
    }
    if "ErrorCode" not in fields:
        raise ValueError(f"no ECC reply: {reply[:200]!r}")
    return Answer(
        int(fields["ErrorCode"]),
        fields.get("ErrorMessage", ""),
        fields.get("Text"),
        int(fields["State"]) if "State" in fields else None,
        int(fields["Transition"]) if "Transition" in fields else None,
    )
