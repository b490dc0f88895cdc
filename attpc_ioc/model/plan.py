"""Plans: what is sent to which module, in which order, from which states, and within which time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .command import Command, Reason
from .states import Operation, State


class OnFailure(StrEnum):
    """What the executor does with the rest of a plan when a step fails."""

    STOP_PLAN = "stop plan"
    """Let the other steps of the stage finish, send nothing further."""
    GO_ON = "go on"
    """Go on with the next stage; the plan still ends as Failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on one module.

    `start_states` are the states that it may start from; a module that is already at `target` is
    skipped. `limit_s` bounds the wait for its arrival. `loaded_names` sends the names that are in the
    hardware instead of the selected ones.
    """

    module: str
    operation: Operation
    start_states: frozenset[State]
    target: State
    limit_s: float
    on_failure: OnFailure = OnFailure.STOP_PLAN
    loaded_names: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps that are sent together; the next stage waits until all of them have arrived.

    With `advance_after_s` the next stage is sent after that time even if a step has not arrived.
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
