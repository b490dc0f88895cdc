"""Setpoints: what operators choose and type, checked against the rules and kept across restarts."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter

from attpc_ioc.errors import Refused
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import SYSTEM, Scope, Who
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import Fleet, FleetChange, ModuleView, common_names, offered_names
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.model.run import RunClass
from attpc_ioc.model.states import State
from attpc_ioc.settings import EccSettings

from .decide import setpoint_refusal
from .runs.run import RunRecord
from .state import FleetState

log = get_logger(__name__)

MAX_TEXT = 200

LOOK_S = 1.0
"""For so long after a list has changed, an index is that of a client who may not have seen the new one."""

Value = int | float | str


class Setpoints:
    """Sets what is not a command. Every method raises `Refused` with the reason, and then nothing changed."""

    def __init__(
        self,
        *,
        state: FleetState,
        record: RunRecord,
        ecc: dict[str, EccSettings],
        on_module_setpoint: Callable[[], None],
    ) -> None:
        self._state = state
        self._record = record
        self._ecc = ecc
        self._on_module_setpoint = on_module_setpoint
        self._lists = _Lists(state)
        self._setters: dict[str, Callable[[Scope, Value], None]] = {
            "enable": self._enable,
            "config": self._config,
            "config_index": self._config_index,
            "experiment": self._experiment,
            "title": self._title,
            "operator": self._operator,
            "run_class": self._run_class,
            "max_duration": self._max_duration,
        }

    def set(self, setpoint: str, scope: Scope, value: Value, who: Who) -> None:
        """Set one setpoint of one scope."""
        setter = self._setters.get(setpoint)
        if setter is None:
            raise Refused(f"there is no setpoint {setpoint}")
        setter(scope, value)
        log.debug("setpoint", setpoint=setpoint, scope=scope, value=value, who=who)

    @property
    def _fleet(self) -> Fleet:
        return self._state.fleet

    def _not_at_work(self) -> None:
        refusal = setpoint_refusal(self._fleet)
        if refusal:
            raise Refused(refusal)

    # ------------------------------------------------------------------ modules

    def _enable(self, scope: Scope, value: Value) -> None:
        enabled = bool(value)
        view = self._state.modules[scope.name]
        if enabled is view.enabled:
            return
        # A stop that cannot complete because a host is gone must leave a way to the next run: the module may
        # be taken out, unless it is seen Running.
        way_out = self._record.incomplete and not self._fleet.busy and not enabled
        if not (way_out and view.state is not State.RUNNING):
            self._not_at_work()
        self._state.update_module(scope.name, enabled=enabled)
        self._on_module_setpoint()

    def _config(self, scope: Scope, value: Value) -> None:
        self._not_at_work()
        text = str(value).strip()
        if scope == SYSTEM:
            self._select_everywhere(text)
            return
        try:
            name = ConfigName.parse(text)
        except ValueError as error:
            raise Refused(str(error)) from error
        view = self._state.modules[scope.name]
        self._check_offered(view, name)
        self._state.update_module(view.name, selected=name)
        self._on_module_setpoint()

    def _check_offered(self, view: ModuleView, name: ConfigName) -> None:
        if not view.online:
            raise Refused(f"{view.name} is Offline: what it offers is not known")
        rule = self._ecc[view.name].rule
        if not rule.accepts(name):
            raise Refused(
                f"{view.name} takes the describe name {rule}, not {name.describe}: another name would take "
                "over another board"
            )
        if view.offered is None:
            raise Refused(f"{view.name} has not reported its configurations yet; RefreshConfigs asks again")
        if name not in view.offered:
            raise Refused(f"{view.name} does not offer {name}; RefreshConfigs asks the server again")

    def _select_everywhere(self, experiment: str) -> None:
        """Select one experiment's configs on every enabled server, or on none."""
        modules = self._fleet.enabled
        if not modules:
            raise Refused("no ECC server is enabled")
        chosen: dict[str, ConfigName] = {}
        faults: list[str] = []
        for view in modules:
            if not view.online:
                faults.append(f"{view.name} is Offline")
                continue
            names = self._ecc[view.name].rule.names_for(experiment, view.offered or ())
            if len(names) == 1:
                chosen[view.name] = names[0]
            elif not names:
                faults.append(f"{view.name} does not offer {experiment!r}")
            else:
                listed = ", ".join(map(str, names))
                faults.append(f"{view.name} offers {experiment!r} more than once ({listed}): choose there")
        if faults:
            raise Refused(f"nothing was changed: {'; '.join(faults)}")
        self._state.update_modules({name: {"selected": config} for name, config in chosen.items()})
        self._on_module_setpoint()

    def _config_index(self, scope: Scope, value: Value) -> None:
        self._not_at_work()
        index = int(value)
        names = _listed(self._fleet, scope)
        if not 0 <= index < len(names):
            raise Refused(f"there is no config {index}: the list has {len(names)}, counted from 0")
        for before in self._lists.just_before(scope, index):
            if before != names[index]:
                raise Refused(
                    f"the list has just changed: config {index} was {before} and is {names[index]} now; look "
                    "at the list again"
                )
        self._config(scope, names[index])

    # ------------------------------------------------------------------ run

    def _experiment(self, _scope: Scope, value: Value) -> None:
        self._not_at_work()
        text = str(value).strip()
        if fault := experiment_fault(text):
            raise Refused(fault)
        if text == self._record.kept.experiment:
            return
        busy = [m for m in self._fleet.enabled if m.online and m.state is not State.IDLE]
        if busy:
            listed = ", ".join(f"{m.name} is in {m.state.label}" for m in busy)
            raise Refused(f"the experiment changes only while all modules are Idle, and {listed}")
        if self._fleet.orphans:
            raise Refused("modules run without a run")
        self._record.kept.experiment = text
        self._record.save()

    def _title(self, _scope: Scope, value: Value) -> None:
        self._set_texts(title=_text(value, "title"))

    def _operator(self, _scope: Scope, value: Value) -> None:
        self._set_texts(operator=_text(value, "operator"))

    def _run_class(self, _scope: Scope, value: Value) -> None:
        try:
            run_class = RunClass(int(value))
        except ValueError as error:
            raise Refused(f"{value!r} is not a class of runs") from error
        self._set_texts(run_class=run_class)

    def _set_texts(self, **changes: object) -> None:
        kept = self._record.kept
        kept.texts = replace(kept.texts, **changes)  # type: ignore[arg-type]
        # Not `on`: until a start has its number, the last run is still the one that is kept.
        if kept.open and kept.info is not None:
            kept.info = replace(kept.info, texts=kept.texts)
        self._record.save()

    def _max_duration(self, _scope: Scope, value: Value) -> None:
        seconds = float(value)
        if not math.isfinite(seconds) or seconds < 0:
            raise Refused(f"{value!r} is not a duration: seconds, or 0 for no limit")
        self._record.kept.max_duration_s = seconds
        self._record.save()


def _text(value: Value, what: str) -> str:
    text = str(value)
    if len(text) > MAX_TEXT:
        raise Refused(f"the {what} has {len(text)} characters; the limit is {MAX_TEXT}")
    return text


def _listed(fleet: Fleet, scope: Scope) -> tuple[str, ...]:
    """Return the list that an index of this scope chooses from, as its PVs show it."""
    return common_names(fleet) if scope == SYSTEM else offered_names(fleet.modules[scope.name])


class _Lists:
    """Remembers what the lists were, for as long as clients may still look at the old ones."""

    def __init__(self, state: FleetState) -> None:
        self._fleet = state.fleet
        # A refresh of a large fleet changes the lists once for each server.
        self._before: deque[tuple[float, Fleet]] = deque(maxlen=32)
        state.subscribe(self._on_change)

    def just_before(self, scope: Scope, index: int) -> Iterator[str]:
        """Yield what was in one place of a scope's list within the last `LOOK_S` seconds."""
        now = time.monotonic()
        for changed_s, fleet in self._before:
            if now - changed_s < LOOK_S:
                yield from _listed(fleet, scope)[index : index + 1]

    def _on_change(self, change: FleetChange) -> None:
        before, self._fleet = self._fleet, change.fleet
        if any(_offer(before.modules[name]) != _offer(change.fleet.modules[name]) for name in change.modules):
            self._before.append((time.monotonic(), before))


_offer = attrgetter("enabled", "offered")
"""Returns what the lists are made of."""
