"""The durations of transitions."""

from __future__ import annotations

import random
from dataclasses import dataclass

from attpc_ioc.model.states import Transition


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations of the transitions in seconds.

    Each one is multiplied by a random number between 1 - `jitter` and 1 + `jitter`. `exit_s` is the time from
    `ServerExit` to the end of the process.
    """

    describe_s: float = 0.03
    prepare_s: float = 4.7
    configure_s: float = 0.05
    start_s: float = 0.1
    stop_s: float = 0.5
    pause_s: float = 0.5
    resume_s: float = 0.5
    breakup_s: float = 0.5
    undo_s: float = 0.0
    exit_s: float = 7.0
    jitter: float = 0.1

    def of(self, transition: Transition, dice: random.Random) -> float:
        """Return the duration of `transition` this time, in seconds."""
        base = float(getattr(self, f"{transition.name.lower()}_s"))
        return base * dice.uniform(1 - self.jitter, 1 + self.jitter)


REAL = Durations()
"""As observed on an ECC server with simulated boards; real boards are slower."""

BRISK = Durations(
    prepare_s=0.3,
    stop_s=0.15,
    pause_s=0.15,
    resume_s=0.15,
    breakup_s=0.15,
    undo_s=0.01,
    exit_s=0.3,
)
"""For demonstrations and tests: the proportions of real durations, but short."""

INSTANT = Durations(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
"""Every transition ends at once; for tests that are not about durations."""
