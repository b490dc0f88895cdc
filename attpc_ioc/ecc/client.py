"""The client of one ECC server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import SourceView
from attpc_ioc.model.states import Operation, State, Transition

from .http1 import HttpReply
from .messages import PartialConfig, config_id_xml, configs_in, data_link_set_xml
from .soap import StateReply, read_state, read_text, request_bytes, zeep_client
from .transport import Transport

KIB = 1024
MAX_STATE = 64 * KIB
MAX_CONFIGS = 1024 * KIB
MAX_CONFIGURE = 2048 * KIB
MAX_OTHER = 64 * KIB
"""Maximum bytes of a whole reply to GetState, GetConfigIDs, Configure and other calls. Real ones have 500,
270 per configuration offered (12 describe files with 100 experiments are 320 kB), 370 kB, and some
hundred."""

SMALL = 4 * KIB
"""Longer replies are parsed in a thread; a hostile one of this length takes under a millisecond to parse."""

_READER = ThreadPoolExecutor(1, thread_name_prefix="ECC replies")
"""Parses longer replies one at a time, so that their memory does not add up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Observation:
    """The state that an ECC server reported.

    `asked_at_s` and `seen_at_s` are monotonic times at which the request went out and the reply was read.
    The server was in the state at some time between the two. `message` is information, not an error.
    """

    state: State
    transition: Transition
    message: str
    asked_at_s: float
    seen_at_s: float
    round_trip_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a transition that ended with code 0; only `GetState` shows whether it arrived."""

    code: int
    message: str
    text: str
    duration_s: float


def load() -> None:
    """Import and load what the first call needs; takes most of a second, in any thread."""
    zeep_client()


async def _read(read: Callable[[HttpReply, str], T], reply: HttpReply, where: str) -> T:
    if len(reply.body) <= SMALL:
        return read(reply, where)
    return await asyncio.get_running_loop().run_in_executor(_READER, read, reply, where)


class EccClient:
    """Calls one ECC server over a new connection each time; calls may overlap.

    `url` is `http://HOST:PORT/`, `name` is the module's, for logs. Every method raises `EccUnreachable` when
    no connection was made (nothing was accepted), `EccBrokenReply` when the connection ended without a usable
    reply (the call may have run), and `EccRefused` or `EccBusy` for a code other than 0.
    """

    def __init__(
        self, url: str, *, name: str, poll_timeout_s: float = 2.0, connect_timeout_s: float = 5.0
    ) -> None:
        self.url = url
        self.name = name
        self._poll_timeout_s = poll_timeout_s
        self._transport = Transport(url, connect_timeout_s)
        self._get_state = b""
        self._get_state_where = f"GetState from {url}"
        self._last_state: tuple[HttpReply, StateReply] | None = None

    async def get_state(self) -> Observation:
        """Ask for the state; raises `EccTimeout` after `poll_timeout_s`, connecting included."""
        began = time.monotonic()
        # The request never changes, so it is made once.
        self._get_state = self._get_state or self._transport.request(request_bytes("GetState"))
        where = self._get_state_where
        reply, asked_at_s = await self._transport.exchange(
            self._get_state, where, limit=MAX_STATE, timeout_s=self._poll_timeout_s
        )
        # An idle server repeats its reply: comparing bytes is cheaper than parsing XML.
        if self._last_state is None or self._last_state[0] != reply:
            self._last_state = reply, await _read(read_state, reply, where)
        answer = self._last_state[1]
        now = time.monotonic()
        return Observation(
            answer.state, answer.transition, answer.message, asked_at_s, now, (now - began) * 1e3
        )

    async def get_config_ids(self, timeout_s: float = 10.0) -> tuple[ConfigName, ...]:
        """Return the configurations that the server offers; raises `EccTimeout` after `timeout_s`."""
        where = f"GetConfigIDs from {self.url}"
        request = self._transport.request(request_bytes("GetConfigIDs"))
        reply, _ = await self._transport.exchange(request, where, limit=MAX_CONFIGS, timeout_s=timeout_s)
        return await _read(lambda reply, where: configs_in(read_text(reply, where).text), reply, where)

    async def transition(
        self,
        operation: Operation,
        config: ConfigName | PartialConfig,
        sources: Iterable[SourceView],
        on_connected: Callable[[], None] | None = None,
    ) -> Reply:
        """Call one transition and wait for its end, however long the server takes.

        There is no time limit, because only the reply has the text of an error; TCP keep-alive ends the wait
        when the host is gone. Raises `ValueError`, before anything is sent, for a config or a data link that
        could harm the server.

        `on_connected` is called once the connection is made, right before the request goes out: a call that
        is cancelled earlier was not sent.
        """
        envelope = request_bytes(
            operation.value, configID=config_id_xml(operation, config), table=data_link_set_xml(sources)
        )
        where = f"{operation} at {self.url}"
        began = time.monotonic()
        limit = MAX_CONFIGURE if operation is Operation.CONFIGURE else MAX_OTHER
        reply, _ = await self._transport.exchange(
            self._transport.request(envelope), where, limit=limit, timeout_s=None, on_connected=on_connected
        )
        answer = await _read(read_text, reply, where)
        return Reply(answer.code, answer.message, answer.text, time.monotonic() - began)

    async def close(self) -> None:
        """Close all connections; the server continues a running transition, its caller gets an error."""
        self._transport.close()
