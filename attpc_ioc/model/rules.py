"""Rules of operation that need nothing but a snapshot: where a step may start, and the MuTAnT's clock.

The numbers are those of the rules of operation. The built-in mapping plans with these, and the core checks
every plan against them, including a site's own, before anything is sent and at each step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

from .command import Reason
from .config import LEVELS, RECORDS, UNKNOWN, WITHOUT, ConfigName, renewed
from .fleet import ModuleView
from .plan import Plan, Step
from .states import Kind, Operation, State, Transition

Modules = Mapping[str, ModuleView]

STOP_ASKS_S = 0.2
"""How long a Stop waits for a fresh answer before it is sent on the last one, however old (rule 1)."""


def level(module: ModuleView) -> State:
    """Return how far the module was configured when last seen; Off if it was never seen."""
    return LEVELS.get(module.last_state or State.OFF, State.OFF)


def cannot_move(module: ModuleView) -> str | None:
    """Return why no operation may be sent to this module at all, or None (rules 1 and 9)."""
    if module.state is State.OFFLINE:
        return f"{'is Offline' if module.seen else 'was not seen yet'}{_because(module)}"
    if module.outstanding is not None:
        return f"has not answered our {module.outstanding} yet"
    if module.transition is not Transition.NONE:
        return f"is in transition {module.transition.label}"
    if module.state is State.OFF:
        return off_advice(module)
    return None


def can_be_stopped(module: ModuleView) -> bool:
    """Return whether Stop may be sent on the last answer, however old (rule 1)."""
    return module.live and not module.moving


def another_stop_helps(left: Collection[ModuleView]) -> bool:
    """Return whether there is a module among those left Running that another Stop may bring out of it.

    A board that does not answer is not one: its ECC server goes on saying Running.
    """
    return not left or any(view.board_fault is None for view in left)


def off_advice(module: ModuleView) -> str:
    """Return what to do about a module in Off, which no operation leaves (rule 9)."""
    return f"is Off: restart the ECC server on {module.host}, then GoTo"


def seen_text(view: ModuleView) -> str:
    """Return what was last seen of a module, for messages about waiting."""
    if not view.online:
        return f"the server does not answer ({view.offline_reason})"
    if view.transition is not Transition.NONE:
        return f"seen in {view.state.label}, in transition {view.transition.label}"
    if view.outstanding is not None:
        return f"seen in {view.state.label}, {view.outstanding} is not answered"
    return f"seen in {view.state.label}"


def _because(module: ModuleView) -> str:
    return f" ({module.offline_reason})" if module.offline_reason else ""


def turning_point(module: ModuleView, target: State) -> State:
    """Return the lowest state that `GoTo` takes a module to on its way to `target` (rule 9).

    Without a selected config a module can still go down.
    """
    lowest = min(module.state, target)
    if module.clock_stale:
        lowest = min(lowest, State.DESCRIBED)
    if module.board_fault is not None:
        lowest = min(lowest, module.board_fault.back_to)
    if module.selected is not None or module.state <= target:
        differ = module.loaded.mismatches(module.selected, min(module.state, target))
        lowest = min((lowest, *(WITHOUT[part] for part in differ)))
    return lowest


def step_reason(step: Step, modules: Modules, clock: Clock | None = None) -> str | None:
    """Return why this step may not be sent now, or None. A module that is at the target needs no sending.

    `clock` is that of these modules, where the caller asks about several steps.
    """
    module = modules.get(step.module)
    if module is None:
        return "is not configured"
    if step.operation is Operation.STOP and can_be_stopped(module):
        return None
    hindrance = cannot_move(module)
    if hindrance is not None:
        return hindrance
    if module.state is step.target:
        return None
    if module.state not in step.start_states:
        allowed = " or ".join(s.label for s in sorted(step.start_states))
        return f"is in {module.state.label}; {step.operation} starts from {allowed}"
    if step.operation is Operation.START and module.board_fault is not None:
        return module.board_fault.text
    return config_reason(step, module) or (clock or Clock(modules)).reason(step.operation, module)


def config_reason(step: Step, module: ModuleView) -> str | None:
    """Return why the names that this step would send cannot be used, or None (rule 5)."""
    part = RECORDS.get(step.operation)
    if part is None:
        return None
    if step.loaded_names:
        unknown = [
            part for part, name in zip(WITHOUT, loaded_parts(module), strict=True) if name in (None, UNKNOWN)
        ]
        return f"what is loaded is not known ({module.loaded}): {renewed(unknown)}" if unknown else None
    return None if module.selected is not None else "no config is selected"


def config_of(step: Step, view: ModuleView) -> ConfigName | None:
    """Return the names that a step sends; None for an operation that reads none (rule 5)."""
    if step.operation not in RECORDS:
        return None
    if step.loaded_names:
        describe, prepare, configure = loaded_parts(view)
        if describe is None or prepare is None or configure is None:
            raise RuntimeError(f"{view.name}: what is loaded is not known")  # step_reason has checked it
        return ConfigName(describe, prepare, configure)
    return view.selected


def loaded_parts(module: ModuleView) -> tuple[str | None, str | None, str | None]:
    """Return the parts that a re-zero sends; a Prepared MuTAnT has its configure part from the selection."""
    loaded = module.loaded
    configure = loaded.configure
    if configure is None and module.state is State.PREPARED and module.selected is not None:
        configure = module.selected.configure
    return loaded.describe, loaded.prepare, configure


class Clock:
    """The MuTAnT's clock for one snapshot of the modules (rule 7).

    What depends on all modules is computed once, when first needed: a plan for a large fleet asks for each of
    its modules.
    """

    def __init__(self, modules: Modules) -> None:
        self._modules = modules

    def reason(self, operation: Operation, module: ModuleView) -> str | None:
        """Return why the clock forbids this operation of this module, or None."""
        if module.kind is Kind.COBO:
            if operation is Operation.PREPARE and self._missing:
                return f"the CoBos need the MuTAnT's clock, and {self._missing}: prepare the MuTAnT first"
            if operation is Operation.START and module.clock_stale:
                return stale_text()
        elif module.kind is Kind.MUTANT:
            if operation is Operation.CONFIGURE and self._unaligned:
                return f"the MuTAnT aligns the CoBos when they are all Ready, and {self._unaligned}"
            if operation is Operation.UNDO and module.state is State.PREPARED and self._clocked:
                return (
                    f"the MuTAnT clocks the CoBos, and {self._clocked}: take the CoBos back first; "
                    "the GoTo of all ECC servers does that"
                )
        return None

    @cached_property
    def _missing(self) -> str:
        return _listed(m for m in self._enabled(Kind.MUTANT) if not m.online or level(m) < State.PREPARED)

    @cached_property
    def _unaligned(self) -> str:
        return _listed(m for m in self._enabled(Kind.COBO) if m.state is not State.READY)

    @cached_property
    def _clocked(self) -> str:
        return _listed(m for m in self._enabled(Kind.COBO) if level(m) >= State.PREPARED)

    def _enabled(self, kind: Kind) -> Iterator[ModuleView]:
        return (m for m in self._modules.values() if m.enabled and m.kind is kind)


def mismatch_text(module: ModuleView) -> str:
    """Return what is wrong where the loaded config is not the selected one, and what to do (rule 5)."""
    loaded, selected = module.loaded, module.selected
    if UNKNOWN in (loaded.describe, loaded.prepare, loaded.configure):
        what = f"what is loaded is not known for sure ({loaded})"
    else:
        what = f"{loaded} is loaded"
    if selected is None:
        return f"{what}, no config is selected: select one with Config"
    differ = [part for part in WITHOUT if getattr(loaded, part) not in (None, getattr(selected, part))]
    return f"{what}, {selected} is selected: {renewed(differ or WITHOUT)}"


def stale_text() -> str:
    """Return what is wrong with a CoBo whose clock is stale, and what to do."""
    return "its clock is stale: the MuTAnT was taken back below Prepared; GoTo takes it down and up again"


def _listed(modules: Iterable[ModuleView]) -> str:
    return ", ".join(f"{m.name} is {m.state.label}" for m in modules)


def clocks_after(
    mutants: Collection[ModuleView], modules: Iterable[ModuleView]
) -> dict[str, tuple[bool, bool]]:
    """Return for each CoBo of `modules` whether it is `unclocked` and whether its clock is stale (rule 7).

    From what is seen now and what was known before. Without an enabled MuTAnT nothing clocks the CoBos and
    none is stale; but what they missed meanwhile counts as soon as a MuTAnT is enabled.
    """
    low = any(m.online and level(m) < State.PREPARED for m in mutants)
    clocked = any(m.enabled for m in mutants)
    found = {}
    for module in modules:
        if module.kind is Kind.COBO:
            # The memory holds until the CoBo is seen back in Described.
            high = level(module) >= State.PREPARED or not module.seen
            unclocked = high and (module.unclocked or (low and module.seen))
            found[module.name] = unclocked, high and (module.clock_stale or (clocked and unclocked))
    return found


def plan_reasons(plan: Plan, modules: Modules) -> list[Reason]:
    """Walk a plan through the states that it will pass, and return every reason why it may not run."""
    reasons: list[Reason] = []
    predicted = dict(modules)
    bad: set[str] = set()
    for stage in plan.stages:
        clock = Clock(predicted)
        for step in stage.steps:
            reason = None if step.module in bad else step_reason(step, predicted, clock)
            if reason is not None:
                bad.add(step.module)
                reasons.append(Reason(reason, step.module))
        for step in stage.steps:
            module = predicted.get(step.module)
            if module is not None and module.state is not step.target:
                predicted[step.module] = _arrived(module, step)
    return reasons


def _arrived(module: ModuleView, step: Step) -> ModuleView:
    return replace(
        module,
        state=step.target,
        last_state=step.target,
        transition=Transition.NONE,
        outstanding=None,
        clock_stale=module.clock_stale and step.target > State.DESCRIBED,
        unclocked=module.unclocked and step.target > State.DESCRIBED,
        board_fault=fault if (fault := module.board_fault) and step.target > fault.back_to else None,
    )
