"""The live stream to one page: what changes, and what the page may do."""

from __future__ import annotations

import time

from aiohttp import hdrs, web

from .live import Live, message
from .problems import Problem
from .rights import Rights, caller_of


class Streams:
    """The operation `/api/v1/stream`."""

    def __init__(self, live: Live, rights: Rights) -> None:
        self._live = live
        self._rights = rights

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send what changes until the client goes or may see nothing any more."""
        rights, live = self._rights, self._live
        caller, state = caller_of(request), rights.state
        ends_s = rights.ends_s(caller)
        hidden, session = rights.hidden(caller), rights.session(caller)
        response = web.StreamResponse(
            headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        number, news = live.number, live.everything(hidden)
        try:
            while True:
                await response.write(news)
                number, news = await live.after(number, hidden)
                if state == rights.state and time.time() < ends_s:
                    continue
                caller, state = rights.now(caller), rights.state
                ends_s = rights.ends_s(caller)
                before, session = session, rights.session(caller)
                if hidden != (hidden := rights.hidden(caller)):
                    number, news = live.number, live.everything(hidden)
                if session != before:
                    news = message("session", session) + news
                try:
                    rights.check_view(caller)
                except Problem:
                    await response.write(message("session", session))
                    return response
        except ConnectionError:
            return response  # the client has gone
