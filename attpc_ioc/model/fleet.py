"""The state of the fleet: one immutable snapshot for plans, vetoes, PVs and plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from types import MappingProxyType

from .boards import BoardFault
from .command import Command, CommandName, Scope, ScopeResult
from .config import ConfigName, Loaded, experiment_name
from .run import RunView
from .states import LIVE, Kind, Operation, State, Transition


@dataclass(frozen=True, slots=True)
class DataLinkView:
    """A data link of a source: the data router that its data goes to."""

    name: str
    address: str
    port: int
    type: str


@dataclass(frozen=True, slots=True)
class SourceView:
    """A data source (a CoBo or MuTAnT board) and the ECC server that drives it."""

    name: str
    """Its part of the PV name, such as `CoBo0`."""
    sender_id: str
    """Its id on the wire, such as `CoBo[0]`."""
    ecc: str
    links: tuple[DataLinkView, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """An operation of ours and the state that it leads to."""

    operation: Operation
    target: State


@dataclass(frozen=True, slots=True)
class ModuleView:
    """One ECC server with its data sources, as last seen.

    `state` is Offline when the server is unreachable or was not yet seen; `last_state` is what it last
    reported (None: never). `seen_at_s` is the monotonic time of the last answered poll.
    """

    name: str
    kind: Kind
    url: str
    host: str
    sources: tuple[SourceView, ...] = ()
    enabled: bool = True
    state: State = State.OFFLINE
    last_state: State | None = None
    transition: Transition = Transition.NONE
    seen_at_s: float = 0.0
    selected: ConfigName | None = None
    loaded: Loaded = Loaded()
    offered: tuple[ConfigName, ...] | None = None
    """Configs that the server offers under its describe rule; None until it was asked."""
    clock_stale: bool = False
    unclocked: bool = False
    """A CoBo that was Prepared or above while the MuTAnT, whether it takes part or not, was seen lower."""
    board_fault: BoardFault | None = None
    """Why its boards cannot take part in a run, whatever state its ECC server shows."""
    working: str = ""
    """The command that runs on this module; empty for none."""
    outstanding: Operation | None = None
    """The operation of ours whose end was not seen yet: its reply, and after that a state that tells it."""
    unseen_end: Sent | None = None
    """Our last operation while its end was not seen, over a restart of the IOC too."""
    result: ScopeResult = ScopeResult()
    error_code: int = 0
    transition_time_s: float = 0.0
    poll_time_ms: float = 0.0
    poll_errors: int = 0
    offline_reason: str = ""
    connects: bool = False
    """Offline, but its host takes connections: its answers are late or broken, and a Stop may reach it."""

    @property
    def online(self) -> bool:
        """Whether the last poll was answered."""
        return self.state is not State.OFFLINE

    @property
    def seen(self) -> bool:
        """Whether the server was seen at least once."""
        return self.last_state is not None

    @property
    def live(self) -> bool:
        """Whether it is in a run by its last answer, and can be reached."""
        return self.last_state in LIVE and (self.online or self.connects)

    @property
    def mismatch(self) -> bool:
        """Whether what is loaded is not what is selected (rule 5)."""
        return bool(self.loaded.mismatches(self.selected, self.last_state or State.OFF))

    @property
    def out(self) -> bool:
        """Whether it was seen out of Running and nothing is on its way that would start it (rule 17)."""
        return (
            self.last_state is not None
            and self.last_state not in LIVE
            and self.outstanding is not Operation.START
            and self.transition not in (Transition.START, Transition.RESUME)
        )

    @property
    def moving(self) -> bool:
        """Whether the server is in a transition or has not yet answered an operation."""
        return self.transition is not Transition.NONE or self.outstanding is not None


DIAGNOSTICS = frozenset(("seen_at_s", "poll_time_ms", "poll_errors"))
"""What each poll changes."""

_UNDECISIVE = DIAGNOSTICS | {"result", "working", "error_code", "transition_time_s"}

without_diagnostics = attrgetter(*(f for f in ModuleView.__dataclass_fields__ if f not in DIAGNOSTICS))
"""Returns everything about a module except what each poll changes: if it is equal, nothing has happened."""

decisive = attrgetter(*(f for f in ModuleView.__dataclass_fields__ if f not in _UNDECISIVE))
"""Returns everything about a module that a decision looks at."""


@dataclass(frozen=True, slots=True)
class ActiveCommand:
    """A command that runs, and how far it is: the name of the stage that was sent last."""

    command: Command
    stage: str = ""
    progress_percent: float = 0.0

    @property
    def text(self) -> str:
        """The command and its stage, as `Operation_RBV` shows them."""
        return f"{self.command}: {self.stage}" if self.stage else str(self.command)


@dataclass(frozen=True)
class Fleet:
    """The snapshot, with everything that a decision needs.

    That is the modules in the order of the settings, the run, and the commands that run. What follows from
    all modules is worked out when it is first asked for, once for each snapshot.
    """

    modules: Mapping[str, ModuleView] = field(default_factory=lambda: MappingProxyType({}))
    run: RunView = RunView()
    active: tuple[ActiveCommand, ...] = ()
    """Running commands, the newest last."""
    log_fault: str = ""
    """Why the state database cannot be written; empty when it can."""
    system_result: ScopeResult = ScopeResult()
    run_result: ScopeResult = ScopeResult()
    allowed: Mapping[Scope, frozenset[CommandName]] = field(default_factory=lambda: MappingProxyType({}))
    """The commands of each scope that would be accepted now."""
    news: int = -1
    """Snapshots of one IOC with the same number have all in common that a decision looks at; -1: unknown."""

    @cached_property
    def enabled(self) -> tuple[ModuleView, ...]:
        """The modules that take part in group commands and runs."""
        return tuple(m for m in self.modules.values() if m.enabled)

    @property
    def busy(self) -> bool:
        """Whether any command runs."""
        return bool(self.active)

    @cached_property
    def running(self) -> str:
        """Which commands run, for people; empty where none does."""
        names = [str(active.command) for active in self.active]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} running" if names else ""

    def active_on(self, scope: Scope) -> ActiveCommand | None:
        """Return the command that runs in a scope, the oldest of several; None where there is none."""
        return next((active for active in self.active if active.command.scope == scope), None)

    @cached_property
    def orphans(self) -> tuple[str, ...]:
        """Enabled modules that are seen in a run though none is on (rule 20)."""
        return () if self.run.on else tuple(module.name for module in self.enabled if module.live)

    @property
    def state(self) -> State:
        """The state of the system, over the enabled modules."""
        states = {m.state for m in self.enabled}
        if not states:
            return State.OFFLINE
        return states.pop() if len(states) == 1 else State.MIXED

    @cached_property
    def selected(self) -> str | None:
        """The experiment-wide name that the enabled modules have selected; None where they differ."""
        selected = {m.selected for m in self.enabled}
        if not selected - {None}:
            return ""
        names = {experiment_name(config) for config in selected}
        name = names.pop()
        return name if name and not names else None

    def sources(self) -> Iterator[tuple[SourceView, ModuleView]]:
        """Yield every data source with the module that drives it."""
        for module in self.modules.values():
            for source in module.sources:
                yield source, module


def members_of(run: RunView, modules: Mapping[str, ModuleView]) -> tuple[str, ...]:
    """Return the members of an open run that are still configured and enabled."""
    if not run.on or run.info is None:
        return ()
    return tuple(name for name in run.info.members if name in modules and modules[name].enabled)


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What the controller gives its listeners: the new snapshot and what is new in it.

    `modules` are those whose view changed; `attempts` are scopes whose result PVs are to be posted even
    when they are equal to the last; system and run PVs may have changed with any change.
    """

    fleet: Fleet
    modules: frozenset[str] = frozenset()
    attempts: tuple[Scope, ...] = ()


# ---------------------------------------------------------------------- configurations on offer

LISTED_MOST = 1024
"""Names that a PV which lists them has places for; a server may offer some 4,000."""


class CommonNames:
    """The experiment-wide names that all enabled servers offer, in the order of the first of them.

    They are computed only when the offers have changed: with a thousand servers and hundreds of names each
    this would otherwise take most of a refresh.
    """

    def __init__(self) -> None:
        self._offers: tuple[tuple[ConfigName, ...] | None, ...] = ()
        self._names: tuple[str, ...] = ()

    def __call__(self, fleet: Fleet) -> tuple[str, ...]:
        """Return the names; none while a server has not reported what it offers."""
        offers = tuple(m.offered for m in fleet.enabled)
        if offers != self._offers:
            self._offers, self._names = offers, _in_all(offers)
        return self._names


def _in_all(offers: tuple[tuple[ConfigName, ...] | None, ...]) -> tuple[str, ...]:
    if not offers or any(offer is None for offer in offers):
        return ()
    lists = [dict.fromkeys(filter(None, map(experiment_name, offer or ()))) for offer in offers]
    first, *others = lists
    return tuple(name for name in first if all(name in other for other in others))


common_names = CommonNames()
"""For `ConfigNames_RBV` and for an index into it."""


def offered_names(module: ModuleView) -> tuple[str, ...]:
    """Return the full names that a module's server offers, in its order (of `Configs_RBV` and its index)."""
    return tuple(str(config) for config in module.offered or ())
