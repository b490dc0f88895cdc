"""Servers compared in rounds: arguments, medians, ratios, goals and tables."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = dict[str, float]
"""What was measured of a server, by the name of a row."""

Rounds = dict[str, list[Rows]]
"""What each round measured, by the kind of server."""

Work = Callable[[str, argparse.Namespace], Rows]
"""Measures a kind of server once."""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what all comparisons have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    add_monitors(parser)
    parser.add_argument("--page", type=Path, help="write the results into this page, between its marks")
    return parser


def add_monitors(parser: argparse.ArgumentParser, clients: int = 20, pvs: int = 400, hz: float = 5) -> None:
    """Add how many clients monitor how many PVs, and how often these change."""
    parser.add_argument("--clients", type=int, default=clients)
    parser.add_argument("--pvs", type=int, default=pvs)
    parser.add_argument("--hz", type=float, default=hz)


def in_rounds(args: argparse.Namespace, *parts: tuple[Work, Sequence[str]]) -> list[Rounds]:
    """Measure every kind of server of every part in turn, in every round; returns the rounds of each part."""
    found: list[Rounds] = [{kind: [] for kind in kinds} for _, kinds in parts]
    for turn in range(args.rounds):
        for (work, _), rounds in zip(parts, found, strict=True):
            for kind, measured in rounds.items():
                print(f"round {turn + 1} of {args.rounds}: {kind}", file=sys.stderr, flush=True)
                measured.append(work(kind, args))
    return found


def median_us(action: Callable[[], Any], seconds: float) -> float:
    """Return the median duration of an action, in microseconds."""
    took = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        action()
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e6


@dataclass(frozen=True)
class Goal:
    """The goal of a server: an upper or lower limit, a multiple of another's value, or how much more."""

    most: float = math.inf
    least: float = -math.inf
    times: float = math.inf
    more: float = math.inf

    def text(self, other: str) -> str:
        """Return its text for the table."""
        if self.times < math.inf:
            return f"≤ {self.times:g} x {other}"
        if self.more < math.inf:
            return f"≤ {self.more:g} more"
        return f"≥ {self.least:g}" if self.least > -math.inf else f"≤ {self.most:g}"

    def met(self, value: float, ratio: float, more: float) -> bool:
        """Whether it is met by a value, its ratio to the other's, and how much more it is."""
        return (
            self.least <= value <= self.most
            and (self.times == math.inf or ratio <= self.times)
            and (self.more == math.inf or more <= self.more)
        )


def table(
    rounds: Rounds, titles: Mapping[str, str], of: str, to: str, goal_of: Callable[[str], Goal | None]
) -> str:
    """Return medians in Markdown, the ratio of one kind of server to another, and whether goals are met.

    `titles` are the columns by kind. A ratio, or a difference, is the median of those of the rounds, so that
    what else the machine does meanwhile weighs on both sides.
    """
    rows = [["", *titles.values(), f"{titles[of]} / {titles[to]}", "goal", ""]]
    for name in rounds[of][0]:
        medians = {kind: statistics.median(one[name] for one in rounds[kind]) for kind in titles}
        pairs = [(one[name], other[name]) for one, other in zip(rounds[of], rounds[to], strict=True)]
        ratio = statistics.median(one / other if other else math.nan for one, other in pairs)
        more = statistics.median(one - other for one, other in pairs)
        row = [name, *map(_number, medians.values()), _number(ratio)]
        if goal := goal_of(name):
            row += [goal.text(titles[to]), "met" if goal.met(medians[of], ratio, more) else "MISSED"]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join((lines[0], "|" + "---|" * len(rows[0]), *lines[1:]))


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3g}" if math.isfinite(value) else "not all"
