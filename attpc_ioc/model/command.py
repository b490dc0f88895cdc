"""Commands (puts to command PVs), who gives them, and how they end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from .stamp import Stamp
from .states import Operation, State


class ScopeKind(StrEnum):
    """The scope of a command or PV: the part of the PV name between prefix and name."""

    SYSTEM = "system"
    ECC = "ecc"
    SOURCE = "source"
    RUN = "run"
    IOC = "ioc"
    PLUGIN = "plugin"


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope: its kind and, for an ECC server, a source or a plugin, its name."""

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


SYSTEM = Scope(ScopeKind.SYSTEM)
RUN = Scope(ScopeKind.RUN)
IOC = Scope(ScopeKind.IOC)


def ecc_scope(name: str) -> Scope:
    """Return the scope of the ECC server `name`."""
    return Scope(ScopeKind.ECC, name)


class CommandName(StrEnum):
    """The name of a command PV."""

    DESCRIBE = "Describe"
    PREPARE = "Prepare"
    CONFIGURE = "Configure"
    START = "Start"
    STOP = "Stop"
    BREAKUP = "Breakup"
    UNDO = "Undo"
    RESET = "Reset"
    ABORT = "Abort"
    GOTO = "GoTo"
    REFRESH_CONFIGS = "RefreshConfigs"
    ADOPT = "Adopt"


COMMANDS: dict[ScopeKind, tuple[CommandName, ...]] = {
    ScopeKind.SYSTEM: (
        CommandName.DESCRIBE,
        CommandName.PREPARE,
        CommandName.CONFIGURE,
        CommandName.RESET,
        CommandName.ABORT,
        CommandName.GOTO,
        CommandName.REFRESH_CONFIGS,
    ),
    ScopeKind.ECC: (
        CommandName.DESCRIBE,
        CommandName.PREPARE,
        CommandName.CONFIGURE,
        CommandName.START,
        CommandName.STOP,
        CommandName.BREAKUP,
        CommandName.UNDO,
        CommandName.RESET,
        CommandName.GOTO,
        CommandName.REFRESH_CONFIGS,
    ),
    ScopeKind.RUN: (CommandName.START, CommandName.STOP, CommandName.ADOPT),
}
"""The commands of each scope; their order gives the bits of `Allowed_RBV`, bit 0 first."""

NUMBERED = frozenset((CommandName.START, CommandName.ADOPT))
"""The commands of the run that make one, under a new number."""

GOTO_TARGETS: tuple[State | None, ...] = (None, State.IDLE, State.DESCRIBED, State.PREPARED, State.READY)
"""The targets of `GoTo` by their enum number."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who gave a command or wrote a PV, as the client identifies itself.

    `via` is the protocol, empty for Channel Access. PVAccess clients do not name their host: `host` is their
    IP address.
    """

    user: str = ""
    host: str = ""
    address: str = ""
    via: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.user or '?'}@{self.host or self.address or '?'}"


IOC_ITSELF = Who(user="ioc", host="ioc")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what, in which scope, by whom; `target` for `GoTo` only.

    `reason` is why the IOC itself stops a run, for the record of that run; people need not give one.
    """

    scope: Scope
    name: CommandName
    target: State | None = None
    who: Who = IOC_ITSELF
    reason: str = ""

    def __str__(self) -> str:
        head = {ScopeKind.SYSTEM: "", ScopeKind.RUN: "Run:"}.get(self.scope.kind, f"{self.scope.name}:")
        tail = f" {self.target.label}" if self.target is not None else ""
        return f"{head}{self.name}{tail}"


def is_start(command: Command) -> bool:
    """Return whether this is `Run:Start`."""
    return command.scope.kind is ScopeKind.RUN and command.name is CommandName.START


def is_stop(command: Command) -> bool:
    """Return whether this is `Run:Stop`."""
    return command.scope.kind is ScopeKind.RUN and command.name is CommandName.STOP


class ResultCode(IntEnum):
    """How the last command of a scope ended: the values of `Result_RBV`."""

    NONE = 0
    BUSY = 1
    DONE = 2
    REFUSED = 3
    FAILED = 4
    ABORTED = 5
    TIMED_OUT = 6
    INCOMPLETE = 7

    @property
    def label(self) -> str:
        """The word shown to people."""
        return "TimedOut" if self is ResultCode.TIMED_OUT else self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something failed or was refused; `module` is empty unless it concerns a single module."""

    text: str
    module: str = ""

    def __str__(self) -> str:
        return f"{self.module}: {self.text}" if self.module else self.text


def join_reasons(reasons: tuple[Reason, ...] | list[Reason]) -> str:
    """Return the reasons for people in one line; equal ones as in `reason_lines`."""
    return "; ".join(reason_lines(reasons))


def reason_lines(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Return the reasons for people; equal ones become one, with the name of each module."""
    by_text: dict[str, list[str]] = {}
    for reason in reasons:
        by_text.setdefault(reason.text, []).append(reason.module)
    lines = []
    for text, modules in by_text.items():
        named = [m for m in dict.fromkeys(modules) if m]
        if len(named) > 1:
            text = of_several(text)
        lines.append(f"{', '.join(named)}: {text}" if named else text)
    return tuple(lines)


_PLURAL = {"is": "are", "was": "were", "has": "have", "does": "do"}
_LEADING_VERB = re.compile(rf"^(roll-back: )?({'|'.join(_PLURAL)})\b")
_PHRASES = (
    ("the module is ", "the modules are "),
    ("its clock is ", "their clocks are "),
    ("GoTo takes it ", "GoTo takes them "),
    ("GoTo Ready takes it ", "GoTo Ready takes them "),
    ("stop it first", "stop them first"),
    ("it was undone", "they were undone"),
)


def of_several(text: str) -> str:
    """Return a reason written for one module in the plural."""
    text = _LEADING_VERB.sub(lambda found: f"{found[1] or ''}{_PLURAL[found[2]]}", text)
    for one, several in _PHRASES:
        text = text.replace(one, several)
    return text


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, with a reason for each module that it failed on."""

    command: Command
    code: ResultCode
    text: str = ""
    reasons: tuple[Reason, ...] = ()
    duration_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every module was seen at its target."""
        return self.code is ResultCode.DONE

    @property
    def message(self) -> str:
        """The text of `Message_RBV`: which command, how it ended and the reasons by name."""
        head = f"{self.command} {self.code.label}"
        body = "; ".join(part for part in (self.text, join_reasons(self.reasons)) if part)
        return f"{head}: {body}" if body else head


FAILURES = frozenset((ResultCode.FAILED, ResultCode.TIMED_OUT, ResultCode.INCOMPLETE))
"""Results that stay in alarm until the modules are at their targets (rule 22)."""


@dataclass(frozen=True, slots=True)
class ScopeResult:
    """What `Result_RBV`, `ResultCount_RBV` and `Message_RBV` of a scope show.

    `code` is that of the last attempt. `message` is the latest text; `said` is the reason of the last command
    where a text of no command has replaced it. `unresolved` are the messages of unresolved failures: their
    alarm stays whatever happens later (rule 22).
    """

    code: ResultCode = ResultCode.NONE
    count: int = 0
    message: str = ""
    said: str = ""
    unresolved: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text of `Message_RBV`: the latest text, and the unresolved failures."""
        texts = [self.message] if self.message else []
        if self.said and self.said not in self.unresolved:
            texts.append(f"before: {self.said}")
        texts += [
            f"still unresolved: {_beyond(self.message, failure)}"
            for failure in self.unresolved
            if failure != self.message
        ]
        return "; ".join(texts)

    def noted(self, text: str) -> ScopeResult:
        """Return the result with a text of no command; the reason of an unsuccessful command stays."""
        ended_badly = self.code in FAILURES or self.code in (ResultCode.REFUSED, ResultCode.ABORTED)
        return replace(self, message=text, said=self.said or (self.message if ended_badly else ""))

    @property
    def unnoted(self) -> ScopeResult:
        """The result without a text of no command that no longer holds."""
        return replace(self, message=self.said, said="")


def _beyond(message: str, failure: str) -> str:
    """Return the message of a failure without the reasons that are in another message."""
    head, _, body = failure.partition(": ")
    left = "; ".join(part for part in body.split("; ") if part not in message)
    return f"{head}: {left}" if left else head


OPERATION_OF: dict[CommandName, Operation] = {
    CommandName.DESCRIBE: Operation.DESCRIBE,
    CommandName.PREPARE: Operation.PREPARE,
    CommandName.CONFIGURE: Operation.CONFIGURE,
    CommandName.START: Operation.START,
    CommandName.STOP: Operation.STOP,
    CommandName.BREAKUP: Operation.BREAKUP,
    CommandName.UNDO: Operation.UNDO,
}
"""The commands of an ECC server that are one SOAP operation."""


@dataclass(frozen=True, slots=True)
class Put:
    """A put to any PV: who, from where, old and new value as shown, and how it ended.

    The core sets the stamp before it notifies plugins.
    """

    pv: str
    who: Who
    old: str
    new: str
    ok: bool
    reason: str = ""
    time_s: float = field(default_factory=time.time)
    stamp: Stamp | None = None
