"""The client of one ECC server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import SourceView
from attpc_ioc.model.states import Operation, State, Transition

from .http1 import HttpReply
from .messages import PartialConfig, config_id_xml, configs_in, data_link_set_xml
from .quick import QuickTransport
from .soap import StateReply, read_state, read_text, request_bytes, zeep_client
from .transport import AiohttpTransport


@dataclass(frozen=True, slots=True)
class Observation:
    """What an ECC server said of itself.

    `asked_at_s` and `seen_at_s` are monotonic times: when the request went out and when the reply was read.
    The state is one that the server had between the two. `message` is information and no error.
    """

    state: State
    transition: Transition
    message: str
    asked_at_s: float
    seen_at_s: float
    round_trip_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a transition that ended with code 0; that it arrived is for `GetState` to tell."""

    code: int
    message: str
    text: str
    duration_s: float


def get_state_envelope() -> bytes:
    """Return the envelope of `GetState`."""
    return request_bytes("GetState")


def load() -> None:
    """Import and read what the first call needs, which takes a good part of a second; in any thread."""
    import aiohttp  # noqa: F401 - so that it is there

    zeep_client()


class EccClient:
    """Calls one ECC server, a connection for each call; calls may overlap.

    `url` is `http://HOST:PORT/`, `name` is the module's, for logs. Every method raises `EccUnreachable` where
    no connection was made (nothing was accepted), `EccBrokenReply` where it ended without a usable reply (the
    call may have run), and `EccRefused` or `EccBusy` for a code other than 0.
    """

    def __init__(
        self, url: str, *, name: str, poll_timeout_s: float = 2.0, connect_timeout_s: float = 5.0
    ) -> None:
        self.url = url
        self.name = name
        self._quick = QuickTransport(url, get_state_envelope, poll_timeout_s, connect_timeout_s)
        self._transport = AiohttpTransport(url, connect_timeout_s)
        self._get_state_where = f"GetState from {url}"
        self._last_state: tuple[HttpReply, StateReply] | None = None

    async def get_state(self) -> Observation:
        """Ask for the state; raises `EccTimeout` after `poll_timeout_s`, connecting included."""
        began = time.monotonic()
        reply, asked_at_s = await self._quick.exchange(self._get_state_where)
        # A server at rest says the same again and again: one look at the bytes instead of reading the XML.
        if self._last_state is None or self._last_state[0] != reply:
            self._last_state = reply, read_state(reply, self._get_state_where)
        answer = self._last_state[1]
        now = time.monotonic()
        return Observation(
            answer.state, answer.transition, answer.message, asked_at_s, now, (now - began) * 1e3
        )

    async def get_config_ids(self, timeout_s: float = 10.0) -> tuple[ConfigName, ...]:
        """Ask for the configurations that the server offers; raises `EccTimeout` after `timeout_s`."""
        where = f"GetConfigIDs from {self.url}"
        reply = await self._transport.post(request_bytes("GetConfigIDs"), where, timeout_s)
        return configs_in(read_text(reply, where).text)

    async def transition(
        self,
        operation: Operation,
        config: ConfigName | PartialConfig,
        sources: Iterable[SourceView],
        on_connected: Callable[[], None] | None = None,
    ) -> Reply:
        """Call one transition and wait for its end, however long the server takes.

        There is no time limit, because the reply carries the only text of an error; TCP keep-alive ends the
        wait when the host is gone. Raises `ValueError`, before anything is sent, for a config or a data link
        that could harm the server.

        `on_connected` is called when there is a connection, right before the request goes out: a call that
        is cancelled before that was not sent.
        """
        envelope = request_bytes(
            operation.value, configID=config_id_xml(operation, config), table=data_link_set_xml(sources)
        )
        where = f"{operation} at {self.url}"
        began = time.monotonic()
        reply = await self._transport.post(envelope, where, None, on_connected)
        answer = read_text(reply, where)
        return Reply(answer.code, answer.message, answer.text, time.monotonic() - began)

    async def close(self) -> None:
        """Close what is open; a transition under way goes on in the server, its caller gets an error."""
        await self._transport.close()
