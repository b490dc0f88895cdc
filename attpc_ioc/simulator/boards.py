"""The boards: objects separate from the ECC servers that drive them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from attpc_ioc.model.states import State, Transition

from .documents import ConfigIds, Link

REFUSED = "ConnectionRefusedException"
NOT_THERE = "ObjectNotExistException"


@dataclass(frozen=True, slots=True)
class Node:
    """A board as a describe file names it; `board` is its sender id, such as `CoBo[0]`."""

    kind: str
    instance: str
    address: str
    port: int

    @property
    def board(self) -> str:
        """The data sender's id."""
        return f"{self.kind}[{self.instance}]"

    @property
    def unreachable(self) -> str:
        """The ECC server's error for a board that Describe cannot connect to."""
        reason = self.ice(REFUSED).removeprefix("Ice exception: ")
        return (
            f"Could not connect to '{self.kind}' node '{self.instance}' at {self.address}:{self.port}. "
            f"Connection to HW node '{self.board}' failed:\n{reason}"
        )

    def ice(self, exception: str) -> str:
        """Return the ECC server's error when the board does not answer a later call."""
        if exception == NOT_THERE:
            return f"Ice exception: ::Ice::{NOT_THERE}:\nobject does not exist:\nidentity: `{self.board}'"
        return (
            f"Ice exception: src/Ice/Network.cpp:2714: ::Ice::{REFUSED}:\nconnection refused: "
            f"Connection refused (remote address = {self.address}:{self.port})"
        )


class Clock:
    """The MuTAnT's clock, which the CoBos need.

    `epoch` counts how often it was started; None while it does not run.
    """

    def __init__(self) -> None:
        self._starts = 0
        self.epoch: int | None = None

    def start(self) -> None:
        """Restart the clock."""
        self._starts += 1
        self.epoch = self._starts

    def stop(self) -> None:
        """Stop the clock."""
        self.epoch = None


@dataclass(eq=False)
class Board:
    """One CoBo or MuTAnT.

    `state` is the hardware's own, whatever any ECC server remembers; `owner` is the ECC server that described
    it last, `loaded` is what it was given since then, and `created` says whether it was described at all
    since it was switched on; `clock_epoch` is the MuTAnT's clock that it was prepared with.
    """

    id: str
    clock: Clock
    clock_master: bool = False
    needs_clock: bool = True
    alive: bool = True
    state: State = State.IDLE
    created: bool = False
    owner: str = ""
    loaded: ConfigIds = ConfigIds()
    clock_epoch: int | None = None
    starts: int = 0
    configures: int = 0
    stale_starts: int = 0
    links: tuple[Link, ...] = ()
    _writers: list[asyncio.StreamWriter] = field(default_factory=list, repr=False)

    @property
    def running(self) -> bool:
        """Whether the hardware takes data."""
        return self.alive and self.state is State.RUNNING

    @property
    def missing(self) -> str:
        """The exception that a call to it raises; empty if it answers."""
        if not self.alive:
            return REFUSED
        return "" if self.created else NOT_THERE

    @property
    def clock_stale(self) -> bool:
        """Whether it is prepared with a clock that the MuTAnT no longer provides."""
        if not self.needs_clock or self.state < State.PREPARED:
            return False
        return self.clock_epoch is None or self.clock_epoch != self.clock.epoch

    def create(self, owner: str) -> None:
        """Create the board again, by any server's Describe: its earlier configuration is lost."""
        self.created, self.owner, self.loaded, self.state = True, owner, ConfigIds(), State.IDLE
        self._lose_clock()
        self.close_links()

    def apply(self, transition: Transition, target: State, loaded: ConfigIds) -> None:
        """Execute a transition of an ECC server in the hardware; `loaded` is what is loaded by it."""
        self.loaded = loaded
        if transition is Transition.PREPARE:
            if self.clock_master:
                self.clock.start()
            self.clock_epoch = self.clock.epoch
        elif transition is Transition.CONFIGURE:
            self.configures += 1
        elif transition is Transition.START:
            self.starts += 1
            self.stale_starts += self.clock_stale
        if target < State.PREPARED:
            self._lose_clock()
        if target < State.READY:
            self.close_links()
        self.state = target

    def die(self) -> None:
        """Switch the board off, or hang its processor: it accepts no connections."""
        self.alive = self.created = False
        self.loaded = ConfigIds()
        self._lose_clock()
        self.close_links()

    def revive(self) -> None:
        """Switch the board on again: it has lost everything, and does not exist until a Describe."""
        self.alive = True
        self.owner = ""
        self.state = State.IDLE
        self._lose_clock()

    def _lose_clock(self) -> None:
        self.clock_epoch = None
        if self.clock_master:
            self.clock.stop()

    def hold_links(self, links: tuple[Link, ...], writers: list[asyncio.StreamWriter]) -> None:
        """Keep the connections to the data routers until the board goes back."""
        self.close_links()
        self.links, self._writers = links, writers

    def close_links(self) -> None:
        """Close the connections to the data routers."""
        for writer in self._writers:
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()
        self.links, self._writers = (), []
