"""Plans: what is sent to which module, in which order, from which states, and within which time."""

from __future__ import annotations

from dataclasses import dataclass

from .command import Command, Reason
from .states import Operation, State


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on one module.

    `start_states` are the states that it may start from; a module that is already at `target` is skipped.
    `limit_s` bounds sending and the wait for the arrival. `loaded_names` sends the names that are in the
    hardware instead of the selected ones.

    An `insistent` step is for Stop: it is done when the module was seen out of Running, whoever did that,
    and until then it is sent again whenever it could not be sent. It waits for no rule, and its limit counts
    from the beginning of the plan.
    """

    module: str
    operation: Operation
    start_states: frozenset[State]
    target: State
    limit_s: float
    loaded_names: bool = False
    insistent: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps that are sent together.

    The next stage is sent when all of them have arrived or, where they are insistent, as soon as none of them
    can arrive any more; with `advance_after_s` after that time at the latest. A failure ends the plan with
    its stage, unless they are insistent.
    """

    name: str
    steps: tuple[Step, ...]
    advance_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer of `attpc_plan` to a command: ordered stages, or the reasons why there is none."""

    command: Command
    stages: tuple[Stage, ...] = ()
    refusals: tuple[Reason, ...] = ()

    @property
    def modules(self) -> frozenset[str]:
        """The modules that the plan touches."""
        return frozenset(step.module for stage in self.stages for step in stage.steps)

    @property
    def goals(self) -> dict[str, State]:
        """Where the plan takes each module that it touches."""
        return {step.module: step.target for stage in self.stages for step in stage.steps}

    @property
    def steps(self) -> int:
        """How many operations the plan has."""
        return sum(len(stage.steps) for stage in self.stages)
