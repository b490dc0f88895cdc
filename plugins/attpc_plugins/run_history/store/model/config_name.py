"""The config name of a run, from what each member had loaded."""

from __future__ import annotations

from collections.abc import Iterable

from .history import Module

UNKNOWN = "?"


def config_name_of(modules: Iterable[Module]) -> str:
    """Return the config name of a run: `e20009` if all members agree.

    A member's is the name of its prepare and configure files, `prepare/configure` if they differ; its
    describe name stands for the board, not the experiment. If members differ, each name lists its members:
    `e20009: cobo0 cobo1; e15250: mutant`. Empty if no name is known.
    """
    members: dict[str, list[str]] = {}
    for module in modules:
        parts = (module.prepare or UNKNOWN, module.configure or UNKNOWN)
        name = parts[0] if parts[0] == parts[1] else "/".join(parts)
        members.setdefault(name, []).append(module.name)
    if len(members) > 1:
        return "; ".join(f"{name}: {' '.join(names)}" for name, names in members.items())
    name = next(iter(members), "")
    return "" if name == UNKNOWN else name
