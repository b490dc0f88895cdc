"""One host over SSH: one connection with a few agents that do not delay each other."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import asyncssh

from attpc_ioc.log import get_logger
from attpc_plugins.data_routers.hosts.host import HostError, HostFault, HostTimeout, HostUnreachable
from attpc_plugins.data_routers.hosts.limits import in_seconds

from .agent import Agent
from .dial import Target
from .link import Link
from .wire import answer, most_bytes, request

log = get_logger(__name__)

POLL_SLOTS = 4
FILE_SLOTS = 3
"""By default `sshd` allows 10 sessions on a connection. If a host has more routers than slots, they share."""

IDLE_S = 30.0
"""An agent not used for polls is ended after this time without a request."""

SILENT_S = 10.0
"""A connection on which opening a session takes longer than this is dead."""

STANDS_S = 5.0
"""If connecting took longer than this to fail, callers that wait for the same agent get the same error."""

PATIENCE = 3
"""After this many agents in a row that hang, new ones are started with pauses: an agent that hangs on a dead
disk cannot be ended, and they must not add up to thousands overnight."""
LONGEST_PAUSE_S = 60.0

BARRED_S = 30.0
"""Pause after an agent has broken the protocol, so that operators can read the reason."""

LARGE = 1 << 16
"""A larger answer is parsed in a thread, so that it does not block the event loop."""


class Slot:
    """One agent: started when needed, one request at a time, killed when it hangs."""

    def __init__(self, link: Link, *, idle_s: float | None) -> None:
        self._link = link
        self._idle_s = idle_s
        self._lock = asyncio.Lock()
        self._agent: Agent | None = None
        self._starting: asyncio.Task[None] | None = None
        self._fault: HostError | None = None
        """Why the last start failed."""
        self._fault_until = 0.0
        self._connection: asyncssh.SSHClientConnection | None = None
        """The connection on which the agent was started."""
        self._idle: asyncio.TimerHandle | None = None
        self._given_up: set[int] = set()
        self._hung = 0
        self._not_before = 0.0
        self._barred: HostFault | None = None
        """Why there are no requests before `_not_before`; None if the reason is hanging agents."""

    async def call(
        self, name: str, fields: Sequence[bytes], limit_s: float, wait_s: float | None = None
    ) -> list[bytes]:
        """Return the fields of the agent's answer.

        Without `wait_s` it is a poll: `limit_s` bounds all of it, and connecting and starting the agent
        continue after it. Else connecting and starting have the target's `connect_s` each, `wait_s` bounds
        the wait for earlier requests to the same agent, and `limit_s` the answer. Raises any `HostError`.
        """
        target = self._link.target
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        try:
            async with asyncio.timeout(limit_s if wait_s is None else wait_s + 2 * target.connect_s):
                await self._lock.acquire()
        except TimeoutError:
            raise HostTimeout(f"{target} is still busy with an earlier request") from None
        try:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            agent = await self._ready(limit_s, None if wait_s is not None else end)
            if wait_s is not None:
                end = loop.time() + limit_s
            return await self._ask(
                agent, request(name, limit_s, fields), end, limit_s, most_bytes(name, fields)
            )
        finally:
            self._lock.release()
            self._rest()

    def _rest(self) -> None:
        """End the agent later, unless there is another request."""
        if self._idle_s is not None and self._agent is not None and not self._lock.locked():
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._let_go)

    async def connect(self) -> None:
        """Start the agent, within the target's time limits. Raises any `HostError`."""
        async with self._lock:
            await self._ready(self._link.target.connect_s, None)

    async def _ready(self, limit_s: float, end: float | None) -> Agent:
        """Return the agent; start one if there is none, and wait for the start until `end`."""
        starting, self._starting = self._starting, None
        if self._agent is not None and not self._agent.ended:
            return self._agent
        if self._agent is not None and self._agent.fault is not None:
            self._bar(self._agent.fault)
        self._agent = None
        loop = asyncio.get_running_loop()
        if starting is None or (starting.done() and end is None):
            if loop.time() < self._not_before:
                if self._barred is not None:
                    raise HostFault(str(self._barred))
                where = self._link.target
                raise HostTimeout(f"{where}: its last {self._hung} agents hung; the next try is soon")
            if end is None and self._fault is not None and loop.time() < self._fault_until:
                raise type(self._fault)(str(self._fault))
            starting = loop.create_task(self._start(limit_s))
            # Its error is kept; perhaps nobody waits for it any more.
            starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._starting = starting
        await asyncio.wait({starting}, timeout=None if end is None else max(0.0, end - loop.time()))
        if not starting.done():
            # The last attempt may have failed after the poll ended: its error holds until the next result.
            if self._fault is not None:
                raise type(self._fault)(str(self._fault))
            raise HostTimeout(
                f"{self._link.target} did not answer within {in_seconds(limit_s)}; still connecting"
            )
        self._starting = None
        if starting.cancelled():
            raise HostUnreachable(f"{self._link.target}: the connection was closed")
        starting.result()
        assert self._agent is not None
        return self._agent

    async def _start(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._connect_and_start(limit_s)
            self._fault = None
        except HostError as error:
            self._fault = error
            if loop.time() - began >= STANDS_S:
                self._fault_until = loop.time() + STANDS_S
            raise
        self._rest()

    async def _connect_and_start(self, limit_s: float) -> None:
        where, connect_s = str(self._link.target), self._link.target.connect_s
        connection = await self._link.connection()
        # After an agent has hung on this connection, it must answer at once to show that it is not dead.
        hung = bool(self._hung) and connection is self._connection
        silent_s = min(limit_s if hung else SILENT_S, connect_s)
        end = asyncio.get_running_loop().time() + connect_s
        try:
            async with asyncio.timeout(silent_s):
                agent = await Agent.open(connection, where)
        except TimeoutError:
            # The host may have vanished without closing the connection: only a new connection can show that.
            self._link.drop(connection, silent_s)
            raise HostTimeout(f"{where} did not answer within {in_seconds(silent_s)}") from None
        except asyncssh.ChannelOpenError as error:
            if (silence := self._link.silence(connection)) is not None:
                raise silence from error
            raise HostFault(
                f"{where} opens no more sessions, see 'MaxSessions' of its sshd_config: {error.reason}"
            ) from error
        except (asyncssh.Error, OSError) as error:
            if (silence := self._link.silence(connection)) is not None:
                raise silence from error
            self._link.drop(connection)
            raise HostUnreachable(f"the SSH connection to {where} broke: {error}") from error
        try:
            async with asyncio.timeout_at(end):
                await agent.greet()
                await self._end_given_up(agent, connect_s)
        except TimeoutError:
            agent.kill()
            raise HostTimeout(
                f"{where}: logged in, but its login shell did not start perl within {in_seconds(connect_s)}"
            ) from None
        except HostError as error:
            agent.kill()
            raise self._link.silence(connection) or error from None
        except ValueError as error:
            agent.kill()
            raise HostFault(f"{where}: {error}") from error
        except BaseException:
            agent.kill()
            raise
        self._agent, self._connection = agent, connection

    async def _end_given_up(self, agent: Agent, limit_s: float) -> None:
        """End abandoned agents that may still run: not every `sshd` forwards signals."""
        if self._given_up:
            numbers = [b"%d" % number for number in self._given_up]
            answer(await agent.ask(request("end", limit_s, numbers), most_bytes("end", numbers)))
            self._given_up.clear()

    async def _ask(self, agent: Agent, line: bytes, end: float, limit_s: float, most: int) -> list[bytes]:
        try:
            async with asyncio.timeout_at(end):
                found = await agent.ask(line, most)
            self._hung = 0
            return await asyncio.to_thread(answer, found) if len(found) > LARGE else answer(found)
        except TimeoutError:
            self._give_up(agent)
            self._hung += 1
            self._barred = None
            if self._hung >= PATIENCE:
                pause_s = min(LONGEST_PAUSE_S, 2.0 ** (self._hung - PATIENCE))
                self._not_before = asyncio.get_running_loop().time() + pause_s
            raise HostTimeout(f"{self._link.target} did not answer within {in_seconds(limit_s)}") from None
        except HostError as error:
            if agent.ended:
                if agent.fault is not None:
                    self._bar(agent.fault)
                self._let_go()
                raise self._link.silence(self._connection) or error from None
            raise
        except ValueError as error:
            self._let_go()
            raise HostFault(f"{self._link.target}: {error}") from error
        except BaseException:
            self._give_up(agent)  # a late answer would be taken for that of the next request
            raise

    def _bar(self, fault: HostFault) -> None:
        """Send no requests to the host for a while."""
        self._barred = fault
        self._not_before = asyncio.get_running_loop().time() + BARRED_S

    def _give_up(self, agent: Agent) -> None:
        """Abandon an agent during a request."""
        self._given_up.add(agent.number)
        self._let_go()

    def _let_go(self) -> None:
        if self._agent is not None:
            self._agent.kill()
            self._agent = None

    def close(self) -> None:
        """End the agent."""
        if self._starting is not None:
            self._starting.cancel()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._let_go()


@dataclass(frozen=True, slots=True)
class Seat:
    """The slots of one router or one ECC server."""

    poll: Slot
    files: Slot
    read: Slot
    look: Slot


class Station:
    """One host: its connection, its slots, and their users."""

    def __init__(self, target: Target) -> None:
        self._link = Link(target)
        self._polls = tuple(Slot(self._link, idle_s=None) for _ in range(POLL_SLOTS))
        self._files = tuple(Slot(self._link, idle_s=IDLE_S) for _ in range(FILE_SLOTS))
        self._read = Slot(self._link, idle_s=IDLE_S)
        self._look = Slot(self._link, idle_s=IDLE_S)
        """For looks at frames: this agent runs behind all other programs of its host."""
        self._seats: dict[Hashable, Seat] = {}
        self._numbers = itertools.count()

    def seat(self, user: Hashable) -> Seat:
        """Return the slots of a user, always the same."""
        if user not in self._seats:
            number = next(self._numbers)
            self._seats[user] = Seat(
                self._polls[number % POLL_SLOTS], self._files[number % FILE_SLOTS], self._read, self._look
            )
        return self._seats[user]

    def leave(self, user: Hashable) -> bool:
        """Release a seat; return whether nobody is left."""
        self._seats.pop(user, None)
        return not self._seats

    async def close(self) -> None:
        """End every agent and the connection, within a second."""
        for slot in (*self._polls, *self._files, self._read, self._look):
            slot.close()
        await self._link.close()


class Stations:
    """The hosts of this process: one `Station` for each target and event loop."""

    def __init__(self) -> None:
        self._stations: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Target, Station]] = (
            weakref.WeakKeyDictionary()
        )

    def seat(self, target: Target, user: Hashable) -> Seat:
        """Return a user's slots at a host."""
        stations = self._stations.setdefault(asyncio.get_running_loop(), {})
        if target not in stations:
            stations[target] = Station(target)
        return stations[target].seat(user)

    async def leave(self, target: Target, user: Hashable) -> None:
        """Release a user's slots. The last user of a host closes its connection."""
        stations = self._stations.get(asyncio.get_running_loop(), {})
        station = stations.get(target)
        if station is not None and station.leave(user):
            del stations[target]
            await station.close()


STATIONS = Stations()
"""Shared by `host_for` and `config_host_for`."""
