"""One module: its ECC server's client and poller, what is known of it, and our operation on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from attpc_ioc.control.emitter import Emitter
from attpc_ioc.control.state import FleetState
from attpc_ioc.ecc.client import EccClient, Observation
from attpc_ioc.ecc.messages import PartialConfig
from attpc_ioc.ecc.poller import Poller
from attpc_ioc.errors import EccError, EccUnreachable
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import IOC_ITSELF, Who
from attpc_ioc.model.config import ConfigName, Loaded
from attpc_ioc.model.events import OperationEnded, OperationStarting, Origin, StateChanged
from attpc_ioc.model.fleet import ModuleView, Sent
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.ratelimit import Counted, RateLimit
from attpc_ioc.settings import EccSettings, LimitSettings, PollSettings

from .boards import taken_from_others, wrong_boards
from .freshness import Freshness
from .offered import OfferedConfigs
from .operation import OngoingOperation, Verdict, board_fault_after, loaded_after, names_of

log = get_logger(__name__)

DIAGNOSTICS_PERIOD_S = 1.0

CHANGES_S = 60.0
CHANGES_MOST = 60
"""Changes of state that no command of ours explains: a faulty server may show another with each poll."""

EXTERNAL = "External: "
"""Beginning of the message on a change of state that no command of ours explains."""


class ModuleControl:
    """Watches one ECC server for ever and sends it at most one operation at a time (rules 1 to 6)."""

    def __init__(
        self,
        ecc: EccSettings,
        *,
        state: FleetState,
        poll: PollSettings,
        limits: LimitSettings,
        emitter: Emitter,
        on_observed: Callable[[str], None],
        on_arrived: Callable[[str, State], None],
        undo: Callable[[OngoingOperation], Coroutine[Any, Any, str]],
        asking_configs: asyncio.Semaphore,
    ) -> None:
        """Take what the module is made of, and whom it calls.

        `on_observed` gets the name after each poll, `on_arrived` also the state to which an operation of ours
        has taken the module; `undo` undoes a Describe and returns how that went.
        """
        self.name = ecc.name
        self.ecc = ecc
        self.operation: OngoingOperation | None = None
        self._state = state
        self._limits = limits
        self._emitter = emitter
        self._on_observed = on_observed
        self._on_arrived = on_arrived
        self._undo = undo
        self._client = EccClient(ecc.url, name=ecc.name, poll_timeout_s=poll.timeout_s)
        self._poller = Poller(self._client, poll, self._on_seen, self._on_lost, self._on_failed_poll)
        self.answers = Freshness(self._poller.poll_now, limits.freshness_s)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.configs = OfferedConfigs(ecc, self._client, state, asking_configs, self._spawn)
        self._closed = False
        self._involved = 0
        self._diagnostics_at_s = 0.0
        self._poll_errors = 0
        self._changes = RateLimit(self._report_counted, window_s=CHANGES_S, each=CHANGES_MOST)
        kept = state.modules[ecc.name].unseen_end
        self._before_restart = kept is not None
        """That is an operation of an earlier life of the IOC: it may not even have begun."""
        self._explains_until_s = time.monotonic() + limits.of(kept.operation) if kept else 0.0

    @property
    def view(self) -> ModuleView:
        """What is known of the module now."""
        return self._state.modules[self.name]

    async def run(self) -> None:
        """Poll for ever; never ends but by cancellation."""
        await self._poller.run()

    async def close(self) -> None:
        """End every task, and take no further poll; operations under way go on in the server."""
        self._closed = True
        self._changes.end()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def involve(self, yes: bool) -> None:
        """Poll fast while a command is running on this module."""
        self._involved += 1 if yes else -1
        self._set_pace()

    def _set_pace(self) -> None:
        self._poller.set_moving(self._involved > 0 or self.view.moving)

    # ------------------------------------------------------------------ sending

    def send(
        self, operation: Operation, target: State, config: ConfigName | None, who: Who = IOC_ITSELF
    ) -> OngoingOperation:
        """Send an operation now. The caller has checked rule 1 in the same turn of the loop."""
        if self.operation is not None:
            raise RuntimeError(f"{self.name} has not answered {self.operation.operation}")
        view = self.view
        ongoing = OngoingOperation(self.name, operation, view.last_state or view.state, target, config, who)
        self.operation = ongoing
        self._before_restart, self._explains_until_s = False, 0.0
        self._state.update_module(self.name, outstanding=operation, unseen_end=Sent(operation, target))
        self._set_pace()
        log.info("operation sent", module=self.name, operation=operation, config=config, who=who)
        self._emitter.emit_new(
            OperationStarting,
            module=self.name,
            operation=operation,
            config=config,
            who=who,
        )
        names = config or names_of(view)
        ongoing.call = self._spawn(self._call(ongoing, names), f"{operation} {self.name}")
        return ongoing

    def withdraw(self, ongoing: OngoingOperation, reason: str) -> None:
        """Never send an operation that has no connection yet; one that is on its way goes on (rules 1, 2)."""
        if ongoing.verdict is None and not ongoing.on_its_way and ongoing.call is not None:
            ongoing.call.cancel()
            ongoing.answered(None, EccUnreachable(f"no connection to {self.ecc.url} {reason}"))
            self._finish(ongoing, self.view.loaded, unseen_end=None)

    async def _call(self, ongoing: OngoingOperation, names: ConfigName | PartialConfig) -> None:
        """Await the reply for as long as it takes; never cancelled but by the end of the IOC (rule 2)."""
        try:
            reply = await self._client.transition(
                ongoing.operation, names, self.view.sources, ongoing.connected
            )
        except (EccError, ValueError) as error:
            ongoing.answered(None, error)
        else:
            ongoing.answered(reply, None)
            if ongoing.operation is Operation.DESCRIBE:
                self._doubt_others(reply.text)
        if ongoing.verdict is not None:
            self._finish(ongoing, self.view.loaded, unseen_end=None)
        else:
            # Also where the server is Offline just now: one that was stalled answers polls again.
            self._poller.poll_now()

    def _finish(self, ongoing: OngoingOperation, loaded: Loaded, **more: Any) -> ModuleView:
        """Put the end of an operation into the view, and tell; returns the view."""
        self.operation = None
        old = self.view
        more["board_fault"] = board_fault_after(ongoing, old.board_fault, old.host)
        ok = ongoing.verdict is Verdict.ARRIVED
        if ongoing.given_up:
            # The reply carries the only text of an error, and no command is there to show it (rule 2).
            message = f"Late: {ongoing.reason or f'{ongoing.operation} arrived in {ongoing.target.label}'}"
            more["result"] = old.result.noted(message)
        elif ok and old.result.message.startswith(EXTERNAL):
            more["result"] = old.result.unnoted  # it is no longer where somebody else took it
        self._state.update_module(
            self.name,
            outstanding=None,
            loaded=loaded,
            error_code=ongoing.code,
            transition_time_s=ongoing.duration_s,
            **more,
        )
        if ok:
            self._on_arrived(self.name, ongoing.target)
        self._set_pace()
        report = log.info if ok else log.warning
        report(
            "operation ended",
            module=self.name,
            operation=ongoing.operation,
            ok=ok,
            duration_s=round(ongoing.duration_s, 4),
            **({} if ok else {"reason": ongoing.reason}),
        )
        self._emitter.emit_new(
            OperationEnded,
            module=self.name,
            operation=ongoing.operation,
            ok=ok,
            reason=ongoing.reason,
            code=ongoing.code,
            duration_s=ongoing.duration_s,
            who=ongoing.who,
            config=ongoing.config,
            text=ongoing.reply.text if ongoing.reply else "",
            run=self._state.run.of(self.name),
        )
        return self.view

    # ------------------------------------------------------------------ seeing

    def _on_seen(self, seen: Observation) -> None:
        """Take an answered poll."""
        if self._closed:
            return
        self.answers.last = seen
        old, ongoing = self.view, self.operation
        was_online = old.online
        changes: dict[str, Any] = {
            "state": seen.state,
            "last_state": seen.state,
            "transition": seen.transition,
            "offline_reason": "",
            "connects": False,
            **self._diagnostics(seen, came_back=not was_online),
        }
        if ongoing is None:
            changes["loaded"] = old.loaded.observed(seen.state)
            if (fault := old.board_fault) is not None and seen.state <= fault.back_to:
                changes["board_fault"] = None
        else:
            ongoing.observe(seen, self._limits.arrival_grace_s)
        if ongoing is not None and ongoing.verdict is not None:
            self._check_senders(ongoing)
            sent = self._finish(ongoing, loaded_after(ongoing, old, seen.state), **changes).unseen_end
        else:
            sent = self._state.update_module(self.name, **changes).unseen_end
            self._set_pace()
        reported = self._tell_change(old, seen.state, sent)
        ended = self.operation is None and seen.transition is Transition.NONE
        # What a killed IOC had sent may still wait in a stalled server.
        over = sent is not None and (seen.state is sent.target or time.monotonic() >= self._explains_until_s)
        if ended and over:
            self._state.update_module(self.name, unseen_end=None)
        if not was_online and reported:
            self.configs.refresh()
        self._on_observed(self.name)

    def _diagnostics(self, seen: Observation, *, came_back: bool) -> dict[str, Any]:
        """Return poll time and errors, at most once a second: they are no news for plans."""
        if not came_back and seen.seen_at_s - self._diagnostics_at_s < DIAGNOSTICS_PERIOD_S:
            return {}
        self._diagnostics_at_s = seen.seen_at_s
        return {
            "seen_at_s": seen.seen_at_s,
            "poll_time_ms": seen.round_trip_ms,
            "poll_errors": self._poll_errors,
        }

    def _tell_change(self, old: ModuleView, new: State, sent: Sent | None) -> bool:
        """Report a change of state or reachability, and whose doing it was (rule 4).

        Returns False where there is none, or too many for each to be reported.
        """
        changed = old.last_state is not None and old.last_state is not new
        if not changed and old.online:
            return False
        ours = sent is not None and (
            new is sent.target or (sent.operation is Operation.BREAKUP and new is State.OFF)
        )
        origin = Origin.OURS if ours or not changed else Origin.EXTERNAL
        reason = ""
        if origin is Origin.EXTERNAL:
            assert old.last_state is not None
            reason = f"{old.last_state.label} -> {new.label} by no command of this IOC"
            result = self.view.result.noted(f"{EXTERNAL}{reason}")
            self._state.update_module(self.name, result=result)
        if not ours and not self._changes.passes(self.name, old.state):
            return False
        if origin is Origin.EXTERNAL:
            assert old.last_state is not None
            log.warning("external change", module=self.name, old=old.last_state.label, new=new.label)
        else:
            log.info("state", module=self.name, old=old.state.label, new=new.label)
            if changed and sent is not None and self._before_restart:
                text = f"Late: {sent.operation}, sent before a restart of the IOC, arrived in {new.label}"
                self._state.update_module(self.name, result=self.view.result.noted(text))
        self._emit_change(old.state, origin, reason)
        return True

    def _emit_change(self, old: State, origin: Origin, reason: str) -> None:
        view = self.view
        self._emitter.emit_new(
            StateChanged,
            module=self.name,
            old=old,
            new=view.state,
            transition=view.transition if view.online else Transition.NONE,
            origin=origin,
            reason=reason,
            run=self._state.run.of(self.name),
        )

    def _report_counted(self, counted: list[Counted[State]]) -> None:
        """Report changes that were too many, and ask for what was not asked for because of them."""
        (changes,) = counted  # `first` is the state before the first of them
        number, label = changes.number, self.view.state.label
        log.warning("more changes of state", module=self.name, changes=number, state=label)
        reason = f"{number} more changes of state within {CHANGES_S:g} s, which were only counted"
        self._emit_change(changes.first, Origin.EXTERNAL, reason)
        if self.view.online and not self._closed:
            self.configs.refresh()

    def _on_failed_poll(self, _error: EccError, _failures: int) -> None:
        self._poll_errors += 1
        now = time.monotonic()
        if now - self._diagnostics_at_s >= DIAGNOSTICS_PERIOD_S:
            self._diagnostics_at_s = now
            self._state.update_module(self.name, poll_errors=self._poll_errors)

    def _on_lost(self, error: EccError, _failures: int) -> None:
        """Take that the server does not answer any more."""
        if self._closed:
            return
        old = self.view
        reason = str(error)
        reported = old.online and self._changes.passes(self.name, old.state)
        if reported or not (old.online or old.offline_reason):
            log.warning("ECC server lost", module=self.name, reason=reason)
        self.answers.last = None
        self._state.update_module(
            self.name,
            state=State.OFFLINE,
            offline_reason=reason,
            connects=not isinstance(error, EccUnreachable),
            poll_errors=self._poll_errors,
        )
        ongoing = self.operation
        if ongoing is not None:
            ongoing.lost(reason)
            if ongoing.verdict is not None:
                self._finish(ongoing, old.loaded.unknown(ongoing.operation))
        if reported:
            self._emit_change(old.state, Origin.EXTERNAL, reason)
        self._on_observed(self.name)

    # ------------------------------------------------------------------ whose boards (rule 6)

    def _check_senders(self, ongoing: OngoingOperation) -> None:
        """Undo a Describe at once whose reply does not list exactly the configured data sources."""
        if ongoing.operation is not Operation.DESCRIBE or ongoing.verdict is not Verdict.ARRIVED:
            return
        if not (reason := wrong_boards(ongoing, self.view)):
            return
        ongoing.overrule(reason)
        ongoing.cleanup = self._spawn(self._undo_wrong_board(ongoing), f"undo {self.name}")

    def _doubt_others(self, text: str) -> None:
        """Take that our Describe has made its boards anew: their own modules have lost what was loaded."""
        changes = taken_from_others(text, self.name, self._state.modules.values())
        for name in changes:
            log.error("board taken over", module=name, by=self.name)
        self._state.update_modules(changes)

    async def _undo_wrong_board(self, describe: OngoingOperation) -> str:
        """Undo; returns how that went."""
        how = await self._undo(describe)
        if describe.given_up:
            # Nobody is there to show it.
            message = f"Late: {describe.reason}; {how}"
            self._state.update_module(self.name, result=self.view.result.noted(message))
        return how

    def _spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
