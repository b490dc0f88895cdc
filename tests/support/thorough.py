"""How much of what has no end is tried: `make test-thorough` tries more, for a night or a release."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

One = TypeVar("One")
Other = TypeVar("Other")

THOROUGH = bool(os.environ.get("THOROUGH"))


def examples(usual: int, thorough: int) -> int:
    """Return how many are tried."""
    return thorough if THOROUGH else usual


def taking_turns(
    ones: Sequence[One], others: Iterable[Other], key: Callable[[One], Hashable]
) -> list[tuple[One, Other]]:
    """Return pairs in which each of `others` meets each `key`: those of `ones` with the same key take turns.

    `make test-thorough` tries each with each.
    """
    groups: defaultdict[Hashable, list[One]] = defaultdict(list)
    for one in ones:
        groups[key(one)].append(one)
    return [
        (one, other)
        for turn, other in enumerate(others)
        for number, group in enumerate(groups.values())
        for one in (group if THOROUGH else [group[(turn + 3 * number) % len(group)]])
    ]
