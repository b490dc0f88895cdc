"""States, transitions and operations of an ECC server, with the numbers that it uses on the wire.

Source: the GET software's `getEccSoapServer` as observed; the numbers 7 and 8 are this product's own
(see the PV contract).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from .names import Labelled


class State(Labelled):
    """State of an ECC server (0 to 6 as on the wire), of a module (7) or of the system (8)."""

    OFF = 0
    IDLE = 1
    DESCRIBED = 2
    PREPARED = 3
    READY = 4
    RUNNING = 5
    PAUSED = 6
    OFFLINE = 7
    MIXED = 8


LIVE = frozenset((State.RUNNING, State.PAUSED))
"""The states in which a module takes part in a run."""

WIRE_STATES = tuple(s for s in State if s <= State.PAUSED)
"""The states that an ECC server can report."""


class Transition(Labelled):
    """The transition that an ECC server is in, as it reports it; `NONE` when it is in none."""

    NONE = 0
    DESCRIBE = 1
    PREPARE = 2
    CONFIGURE = 3
    START = 4
    STOP = 5
    PAUSE = 6
    RESUME = 7
    BREAKUP = 8
    UNDO = 9


class Operation(StrEnum):
    """A SOAP operation that changes the state of an ECC server, by its name on the wire."""

    DESCRIBE = "Describe"
    PREPARE = "Prepare"
    CONFIGURE = "Configure"
    START = "Start"
    STOP = "Stop"
    BREAKUP = "Breakup"
    UNDO = "Undo"

    @property
    def transition(self) -> Transition:
        """The number that the server reports while this operation runs, and as its error code."""
        return Transition[self.name]


EDGES: dict[Operation, dict[State, State]] = {
    Operation.DESCRIBE: {State.IDLE: State.DESCRIBED},
    Operation.PREPARE: {State.DESCRIBED: State.PREPARED},
    Operation.CONFIGURE: {State.PREPARED: State.READY},
    Operation.START: {State.READY: State.RUNNING},
    Operation.STOP: {State.RUNNING: State.READY, State.PAUSED: State.READY},
    Operation.BREAKUP: {
        State.READY: State.PREPARED,
        State.RUNNING: State.PREPARED,
        State.PAUSED: State.PREPARED,
    },
    Operation.UNDO: {State.DESCRIBED: State.IDLE, State.PREPARED: State.DESCRIBED},
}
"""For each operation, the states that it may start from and where it leads.

Pause and Resume are not offered: Resume aborts the 2021 server.
"""


class Kind(StrEnum):
    """What an ECC server drives."""

    COBO = "cobo"
    MUTANT = "mutant"
    OTHER = "other"


class Severity(IntEnum):
    """EPICS alarm severities."""

    NO_ALARM = 0
    MINOR = 1
    MAJOR = 2
    INVALID = 3


class Status(IntEnum):
    """The EPICS alarm statuses (STAT) that the product uses, with their numbers in EPICS base."""

    NO_ALARM = 0
    HIHI = 3
    HIGH = 4
    LOLO = 5
    LOW = 6
    STATE = 7
    COMM = 9
    UDF = 17
