"""Looks up host names without blocking the rest of the program.

asyncio and the libraries on it look names up in the threads of `asyncio.to_thread`, of which there are few:
a name server that does not answer holds one for half a minute, and a name that is asked for each second soon
has them all: then nothing can be written to disk either. So each name has a thread of its own, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

MOST = 200
"""Names that are being looked up at a time."""

Found = list[Any]
"""What `socket.getaddrinfo` returns."""


class Lookups:
    """Stands in for `getaddrinfo` of an event loop. Who gives up leaves the look-up to those who ask next."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: dict[tuple[Any, ...], asyncio.Future[Found]] = {}

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Found:
        """Return what `socket.getaddrinfo` does; raises what it raises."""
        asked = (host, port, family, type, proto, flags)
        running = self._running.get(asked)
        if running is None:
            if len(self._running) >= MOST:
                raise socket.gaierror(socket.EAI_AGAIN, "too many names are being looked up")
            running = self._running[asked] = self._begin(asked)
        return list(await asyncio.shield(running))

    def _begin(self, asked: tuple[Any, ...]) -> asyncio.Future[Found]:
        answer: asyncio.Future[Found] = self._loop.create_future()

        def settle(found: Found, error: BaseException | None) -> None:
            del self._running[asked]
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)
                answer.exception()  # perhaps nobody waits for it any more

        def look_up() -> None:
            found: Found = []
            error = None
            try:
                found = socket.getaddrinfo(*asked)
            except Exception as raised:  # it is raised where the answer is awaited
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(settle, found, error)

        # The program's end does not wait for it.
        threading.Thread(target=look_up, name=f"look up {asked[0]}", daemon=True).start()
        return answer


def keep_apart() -> None:
    """Have the running event loop look names up in threads that nothing else needs."""
    loop: Any = asyncio.get_running_loop()
    loop.getaddrinfo = Lookups(loop).getaddrinfo
