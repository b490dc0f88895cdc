"""The rules of an access security file, and the rights that they grant; pure data.

The meaning is that of EPICS base's `asLib`: a client has the highest right that any rule of the group grants
it. A rule applies to fields of its own level and below, and to the users and hosts that it names; one
that names none applies to all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

DEFAULT = "DEFAULT"
"""The group for PVs whose own group is not in the file."""

VALUE_LEVEL = 0
"""Level (ASL) of a record's value in EPICS base, with few exceptions."""
FIELD_LEVEL = 1
"""Level of a record's other fields."""


class Right(IntEnum):
    """The right that a rule grants; writing includes reading."""

    NONE = 0
    READ = 1
    WRITE = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """`RULE(level, right)` of a group; None for users or hosts means all of them.

    `hosts` are in lower case.
    """

    level: int
    right: Right
    users: frozenset[str] | None = None
    hosts: frozenset[str] | None = None

    def matches(self, level: int, user: str, host: str) -> bool:
        """Whether it applies to a field of this level and this client; `host` in lower case."""
        if level > self.level:
            return False
        if self.users is not None and user not in self.users:
            return False
        return self.hosts is None or host in self.hosts


@dataclass(frozen=True, slots=True)
class Rules:
    """All groups (ASG) of a file. A group that it lacks has the rules of `DEFAULT`, or else none."""

    groups: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that any rule names."""
        return frozenset().union(
            *(rule.hosts for rules in self.groups.values() for rule in rules if rule.hosts is not None)
        )

    def with_hosts(self, other: Mapping[str, Collection[str]]) -> Rules:
        """Return the rules with each host replaced, for instance by its addresses."""
        groups = {
            group: tuple(
                rule
                if rule.hosts is None
                else replace(rule, hosts=frozenset(new for host in rule.hosts for new in other[host]))
                for rule in rules
            )
            for group, rules in self.groups.items()
        }
        return Rules(groups)

    def right(self, group: str, level: int, user: str, host: str) -> Right:
        """Return what this user on this host may do with a field of this level in this group."""
        host = host.lower()
        right = Right.NONE
        for rule in self.groups.get(group, self.groups.get(DEFAULT, ())):
            if rule.right > right and rule.matches(level, user, host):
                right = rule.right
        return right
