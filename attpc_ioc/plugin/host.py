"""The plugin host: calls decisions and delivers notifications, isolating plugins from each other."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attpc_ioc.errors import PluginError, Refused
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import RUN, Command, CommandName, Reason, Who
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.online import OnlineAnswer
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.run import RunInfo
from attpc_ioc.pvs.row import Row

from .contract import RunNumbers, RunRecords
from .guard import bounded, call, reason_of
from .mailbox import Mailbox
from .registry import Plugin, PluginRegistry
from .sections import Sections
from .status import PluginStatus

if TYPE_CHECKING:
    from .context import Context

log = get_logger(__name__)

MAPPING = "mapping"
"""The plugin name of the built-in mapping of commands to plans."""

NUMBER_MAX = 2**31 - 1
"""The largest run number that `Run:Number_RBV` can show."""

ONLINE_LIMIT = "online_limit_s"
"""The attribute of a plugin's settings with a longer limit for its answers to `check --online`."""

ONLINE_GRACE_S = 5.0
"""Extra time that a plugin has for all its answers to `check --online`, beyond the limit of one."""

SETTLED_S = 1.5
"""Time without an exception after which a decision counts as good: all are called once a second."""

STOP_EACH_S = 0.5
STOP_ALL_S = 1.0
"""Limits of one plugin's shutdown and of all together: the IOC ends within 2 s."""

STOP_LEAST_S = 0.1
"""Time that each plugin has in any case, however long those before it took."""


class PluginHost(PluginRegistry):
    """Holds the plugins. Decisions never raise; a failing notification affects no other plugin.

    Implementations are called one by one, because one that raises would stop a plain pluggy call
    and leave the others' coroutines un-awaited.
    """

    def __init__(self, sections: Sections | None = None) -> None:
        super().__init__(sections)
        self._raised_s: dict[tuple[str, str], float] = {}
        self._number_owner: tuple[str, RunNumbers] | None = None

    # ------------------------------------------------------------------ decisions

    def plan(self, command: Command, fleet: Fleet) -> Plan:
        """Ask for the plan of a command; a plugin that raises refuses it."""
        for name, impl in self._impls("attpc_plan"):
            try:
                plan = call(impl, {"command": command, "fleet": fleet})
                if plan is not None and not isinstance(plan, Plan):
                    raise PluginError(f"it gave {plan!r}, not a Plan")
            except Exception as error:  # the contract: a decision that raises counts as "no"
                return Plan(command, refusals=(self._no(name, "attpc_plan", error),))
            if (name, "attpc_plan") in self._raised_s:
                self._good(name, "attpc_plan")
            if plan is not None:
                return plan if plan.command == command else dataclasses.replace(plan, command=command)
        return Plan(command, refusals=(Reason("no plugin knows how to do this"),))

    def vetoes(self, plan: Plan, fleet: Fleet) -> list[Reason]:
        """Collect every reason why the plan may not run now; a stop or an Abort has none.

        A plugin that is switched on but could not be loaded might have a veto or own the run numbers:
        run starts are refused until it is repaired or switched off.
        """
        reasons: list[Reason] = []
        command = plan.command
        if command.name in (CommandName.STOP, CommandName.ABORT):
            return reasons
        arguments = {
            "plan": plan,
            "scope_kind": command.scope.kind,
            "command_name": command.name,
            "fleet": fleet,
        }
        if command.scope == RUN:
            reasons += [
                Reason(
                    f"plugin {p.name} {p.broken}: repair it, or switch it off "
                    f"([plugins.{p.name}] enabled = false)"
                )
                for p in self.plugins.values()
                if p.broken
            ]
        for name, impl in self._impls("attpc_veto"):
            try:
                answer = call(impl, arguments)
                if answer is not None:
                    items = [answer] if isinstance(answer, str | Reason) else list(answer)
                    reasons += [item if isinstance(item, Reason) else Reason(str(item)) for item in items]
            except Exception as error:  # the contract: a decision that raises counts as "no"
                reasons.append(self._no(name, "attpc_veto", error))
            else:
                if (name, "attpc_veto") in self._raised_s:
                    self._good(name, "attpc_veto")
        return reasons

    @cached_property
    def plans_by_plugins(self) -> bool:
        """Whether a plugin makes plans: those may depend on more than the snapshot."""
        return any(name != MAPPING for name, _ in self._impls("attpc_plan"))

    @cached_property
    def distinguishes_modules(self) -> bool:
        """Whether a plugin may answer differently for modules that differ only in their names."""
        return self.plans_by_plugins or any("plan" in impl.argnames for _, impl in self._impls("attpc_veto"))

    def may_write(self, who: Who, row: Row) -> bool:
        """Return whether somebody may write a PV; a plugin that raises denies it."""
        for name, impl in self._impls("attpc_access"):
            try:
                answer = call(impl, {"who": who, "row": row})
            except Exception as error:  # the contract: a decision that raises counts as "no"
                self._no(name, "attpc_access", error)
                return False
            if (name, "attpc_access") in self._raised_s:
                self._good(name, "attpc_access")
            if answer is not None:
                return bool(answer)
        return True

    def rows(self, prefix: str, folder: Path) -> list[Row]:
        """Collect the plugins' rows for the PV table; a plugin that raises is taken out.

        `folder` has the plugins' own folders, by name.
        """
        rows: list[Row] = []
        for entry in self.active():
            try:
                own = [
                    _owned(row, entry.name)
                    for impl in self._of("attpc_pvs", entry)
                    for row in call(
                        impl,
                        {
                            "settings": entry.settings,
                            "prefix": prefix,
                            "state_dir": str(folder / entry.name),
                        },
                    )
                ]
            except Exception as error:  # a plugin's fault is its own
                log.error("plugin's rows failed", plugin=entry.name, reason=reason_of(error))
                self._break(entry, f"failed in attpc_pvs: {reason_of(error)}")
            else:
                rows += own
        return rows

    def next_number(self, experiment: str) -> int | None:
        """Return the number that the next run would get; None if it is unknown."""
        name, hook = "", "attpc_run_numbers"
        try:
            name, owner = self.number_owner()
            number = owner.next(experiment)
            if number is not None and not _is_number(number):
                raise PluginError(f"it gave {number!r}, not a run number")
        except Exception as error:  # the contract: a decision that raises counts as "no"
            if name:
                self._no(name, hook, error)
            return None
        if (name, hook) in self._raised_s:
            self._good(name, hook)
        return number

    def _no(self, name: str, hook: str, error: Exception) -> Reason:
        """Note that a decision raised; `_good` clears that."""
        text = f"plugin {name} failed in {hook}: {reason_of(error)}"
        if text not in self.plugins[name].message:
            log.error("plugin failed", plugin=name, hook=hook, reason=reason_of(error))
        self._raised_s[name, hook] = time.monotonic()
        self.fault(name, hook, text)
        return Reason(text)

    def _good(self, name: str, hook: str) -> None:
        """Note that a decision answered; the fault stays a while: it may still raise for other questions."""
        if time.monotonic() - self._raised_s[name, hook] > SETTLED_S:
            del self._raised_s[name, hook]
            self.clear(name, hook)

    # ------------------------------------------------------------------ the owner of run numbers

    def number_owner(self) -> tuple[str, RunNumbers]:
        """Return the owner of the run numbers and its plugin's name; raises `PluginError` if it failed."""
        if self._number_owner is None:
            for name, impl in self._impls("attpc_run_numbers"):
                try:
                    owner = call(impl, {})
                    if owner is not None and not isinstance(owner, RunNumbers):
                        raise PluginError(f"it gave {owner!r}, not an owner of run numbers")
                except Exception as error:  # never a fallback to another source
                    raise PluginError(self._no(name, "attpc_run_numbers", error).text) from error
                if owner is not None:
                    self._number_owner = name, owner
                    break
            else:
                raise PluginError("no plugin owns the run numbers")
        return self._number_owner

    @cached_property
    def run_records(self) -> RunRecords | None:
        """The record of runs; None if no plugin has one."""
        for name, impl in self._impls("attpc_run_records"):
            try:
                records = call(impl, {})
                if records is not None and not isinstance(records, RunRecords):
                    raise PluginError(f"it gave {records!r}, not a record of runs")
            except Exception as error:  # a plugin's fault is its own
                self._no(name, "attpc_run_records", error)
                return None
            if records is not None:
                return records
        return None

    async def reserve_number(self, experiment: str, limit_s: float) -> int:
        """Reserve the next run number within `limit_s` seconds; raises `PluginError` with the reason."""
        name, owner = self.number_owner()
        try:
            number = await bounded(owner.reserve(experiment), limit_s)
        except Exception as error:  # never a fallback to another source
            raise PluginError(f"{name} gave no run number: {reason_of(error)}") from error
        if not _is_number(number):
            raise PluginError(f"{name} gave {number!r}, not a run number")
        return number

    async def release_number(self, experiment: str, number: int, limit_s: float) -> None:
        """Release a number to its owner; a failure is logged, and the number stays unused."""
        name, owner = self.number_owner()
        try:
            await bounded(owner.release(experiment, number), limit_s)
        except Exception as error:  # an unused number does no harm
            log.warning("run number not released", plugin=name, number=number, reason=reason_of(error))

    async def open_run(self, limit_s: float) -> RunInfo | None:
        """Return the open run on the number owner's record; None if there is none or no answer in time."""
        name = ""
        try:
            name, owner = self.number_owner()
            info = await bounded(owner.open_run(), limit_s)
            if info is not None and not isinstance(info, RunInfo):
                raise PluginError(f"it gave {info!r}, not a RunInfo")
        except Exception as error:  # without an answer only the fleet's states count
            log.warning("open run not known", plugin=name, reason=reason_of(error))
            return None
        return info

    # ------------------------------------------------------------------ notifications

    def notify(self, hook: str, **arguments: Any) -> list[asyncio.Future[bool]]:
        """Queue a notification for every plugin that implements it, and return at once.

        Each future is done when one plugin has handled it, with whether that succeeded.
        """
        kind = type(arguments["event"]).__name__
        return [
            mailbox.post(f"{hook} {kind}", lambda impl=impl: call(impl, arguments))
            for name, impl in self._impls(hook)
            if (mailbox := self.plugins[name].mailbox) is not None
        ]

    # ------------------------------------------------------------------ writes to plugins' PVs

    async def write(self, plugin: str, pv: str, value: Any, who: Who, limit_s: float = 10.0) -> bool:
        """Pass a write to the plugin that owns the PV; False if it has no `attpc_write`.

        Raises `Refused` with the plugin's own text or the failure.
        """
        entry = self.plugins[plugin]
        for impl in self._of("attpc_write", entry):
            if not entry.started:
                raise Refused(f"plugin {plugin} is not running: {entry.message}")
            arguments = {"ctx": entry.context, "pv": pv, "value": value, "who": who}
            try:
                await bounded(call(impl, arguments), limit_s)
            except Refused as refusal:
                self.note(plugin, f"{pv} refused: {refusal}")
                raise
            except Exception as error:
                log.exception("plugin failed", plugin=plugin, hook="attpc_write", pv=pv)
                text = f"plugin {plugin} failed in attpc_write: {reason_of(error)}"
                self.fault(plugin, "attpc_write", text)
                raise Refused(text) from error
            self.clear(plugin, "attpc_write")
            return True
        return False

    # ------------------------------------------------------------------ life

    async def start(self, make_context: Callable[[Plugin], Context], limit_s: float = 10.0) -> None:
        """Start every plugin; one that fails or takes longer than `limit_s` is Failed, the others go on.

        Notifications sent meanwhile reach each plugin once it has started. One that did not start gets no
        notifications and no writes. Its decisions are still called: a veto does not go away because
        something else failed.
        """
        for entry in self.active():
            # Queues what earlier plugins send before this one has started.
            entry.mailbox = Mailbox(
                entry.name,
                lambda cause, text, name=entry.name: self.fault(name, cause, text),
                lambda cause, name=entry.name: self.clear(name, cause),
            )
        for entry in self.active():
            entry.context = make_context(entry)
            try:
                for impl in self._of("attpc_startup", entry):
                    await bounded(call(impl, {"ctx": entry.context}), limit_s)
            except Exception as error:  # a plugin's fault is its own
                log.error("plugin failed to start", plugin=entry.name, reason=reason_of(error))
                self.fault(entry.name, "start", f"did not start: {reason_of(error)}", PluginStatus.FAILED)
                mailbox, entry.mailbox = entry.mailbox, None
                if mailbox is not None:
                    mailbox.give_up()
                continue
            entry.started = True
            if entry.mailbox is not None:
                entry.mailbox.start()

    async def stop(self) -> None:
        """Empty the queues, all at once, and then stop the plugins in reverse order, within 2 s in all."""
        boxes = [entry.mailbox for entry in self.plugins.values() if entry.mailbox is not None]
        for entry in self.plugins.values():
            entry.mailbox = None
        await asyncio.gather(*(box.close(STOP_EACH_S / 2) for box in boxes))
        deadline = time.monotonic() + STOP_ALL_S
        for entry in reversed(self.active()):
            left_s = max(STOP_LEAST_S, min(STOP_EACH_S, deadline - time.monotonic()))
            for impl in self._of("attpc_shutdown", entry) if entry.context else []:
                try:
                    await bounded(call(impl, {"ctx": entry.context}), left_s)
                except Exception as error:  # the others must be stopped too
                    log.error("plugin failed to stop", plugin=entry.name, reason=reason_of(error))
        contexts = [entry.context for entry in self.plugins.values() if entry.context is not None]
        await asyncio.gather(*(context.end_tasks(STOP_EACH_S / 2) for context in contexts))

    async def online_check(self, timeout_s: float) -> list[OnlineAnswer]:
        """Call every plugin's online check, all at once; one that raises counts as a failed answer."""

        async def ask(entry: Plugin) -> list[OnlineAnswer]:
            found: list[OnlineAnswer] = []
            arguments = {"settings": entry.settings, "timeout_s": timeout_s}
            limit_s = max(timeout_s, getattr(entry.settings, ONLINE_LIMIT, 0.0)) + ONLINE_GRACE_S
            for impl in self._of("attpc_online_check", entry):
                try:
                    answers = await bounded(call(impl, arguments), limit_s)
                    found += answers or ()
                except Exception as error:  # a plugin's fault is its own
                    found.append(OnlineAnswer(f"plugin {entry.name}", "", reason_of(error), False))
            return found

        parts = await asyncio.gather(*(ask(entry) for entry in self.active()))
        return [answer for part in parts for answer in part]

    def add_commands(self, app: Any) -> list[str]:
        """Let the plugins add their shell commands; returns the failures as text."""
        failures = []
        for name, impl in self._impls("attpc_cli"):
            try:
                call(impl, {"app": app})
            except Exception as error:  # the program goes on without them
                failures.append(f"plugin {name}: {reason_of(error)}")
        return failures


def _owned(row: Row, plugin: str) -> Row:
    if not isinstance(row, Row):
        raise TypeError(f"attpc_pvs gave {row!r}, not a Row")
    return dataclasses.replace(row, plugin=plugin)


def _is_number(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= NUMBER_MAX
