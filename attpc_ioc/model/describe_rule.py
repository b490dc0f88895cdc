"""The rule of an ECC server for its describe name.

An ECC server that gets another board's describe file takes that board over, while the board's own server
still reports Running (observed). So each server accepts only the names of its own boards.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .config import ConfigName

EXPERIMENT = "{experiment}"
"""In a pattern: the name of the configure part, which is the experiment's name."""


def pattern_fault(pattern: str) -> str:
    """Return what is wrong with a pattern of a describe rule, as "must be ..."; empty if it is right."""
    if not pattern or pattern != pattern.strip():
        return "must be a name without white space around it, and not empty"
    if not pattern.isprintable():
        return "must not have control characters"
    if "/" in pattern:
        return "must be the describe name alone, without '/'"
    rest = pattern.replace(EXPERIMENT, "")
    if "{" in rest or "}" in rest:
        return f"has a placeholder that does not exist: the only one is {EXPERIMENT}"
    return ""


@dataclass(frozen=True, slots=True)
class DescribeRule:
    """The describe names that an ECC server accepts: any that one of the patterns matches.

    A pattern is a name, or has `*`, `?` and `[...]` as in file names of a shell, or `{experiment}` for the
    same name as the configure part. Upper and lower case differ, as they do in the names of the xcfg files.
    Raises `ValueError` for no pattern and for a wrong one.
    """

    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ValueError("a describe rule needs at least one name")
        for pattern in self.patterns:
            if fault := pattern_fault(pattern):
                raise ValueError(f"the describe name {pattern!r} {fault}")

    def accepts(self, name: ConfigName) -> bool:
        """Return whether this server accepts the describe part of `name`."""
        # A `*` in the experiment's name must match only itself.
        experiment = glob.escape(name.configure)
        return any(fnmatchcase(name.describe, p.replace(EXPERIMENT, experiment)) for p in self.patterns)

    def names_for(self, experiment: str, offered: Iterable[ConfigName]) -> tuple[ConfigName, ...]:
        """Return the offered names of an experiment: accepted, and its name in prepare and configure."""
        return tuple(
            name for name in offered if name.prepare == name.configure == experiment and self.accepts(name)
        )

    def __str__(self) -> str:
        words = []
        for pattern in self.patterns:
            if pattern == EXPERIMENT:
                words.append("the experiment's name")
            elif EXPERIMENT in pattern or any(c in pattern for c in "*?["):
                words.append(f"a name like '{pattern}'")
            else:
                words.append(f"'{pattern}'")
        return " or ".join(words)
