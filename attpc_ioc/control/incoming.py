"""Commands as they come in, before anything depends on their fields.

Clients' commands are made from the PV table, a plugin's by hand. What a command does not need is put right
rather than refused, such as a reason that is no text: no stop may fail for that.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from attpc_ioc.model.command import COMMANDS, GOTO_TARGETS, Command, CommandName, Scope, ScopeKind, Who
from attpc_ioc.model.states import State

TARGETS = tuple(target for target in GOTO_TARGETS if target is not None)


def checked(command: Command, modules: Container[str]) -> tuple[Command, str]:
    """Return the command with fields of the right kinds, and why it cannot be done; empty where it can.

    `modules` are the names of the ECC servers.
    """
    command = replace(command, who=_who(command.who), reason=_text(command.reason))
    scope, name = _scope(command.scope), _name(command.name)
    if scope is None or scope.kind not in COMMANDS:
        # A scope without commands, for the text of the outcome.
        shown = scope or Scope(ScopeKind.IOC, _text(command.scope))
        return replace(command, scope=shown, target=None), f"{shown} has no commands"
    if scope.kind is ScopeKind.ECC and scope.name not in modules:
        return replace(command, scope=scope, target=None), f"there is no ECC server {scope.name!r}"
    if name is None or name not in COMMANDS[scope.kind]:
        offered = ", ".join(COMMANDS[scope.kind])
        return (
            replace(command, scope=scope, target=None),
            f"{scope} has no command {_text(command.name)!r}: it has {offered}",
        )
    if name is not CommandName.GOTO:
        return replace(command, scope=scope, name=name, target=None), ""
    target = _target(command.target)
    fault = f"the target is {command.target!r}: give {', '.join(t.label for t in TARGETS)}"
    return replace(command, scope=scope, name=name, target=target), "" if target is not None else fault


def _scope(scope: Any) -> Scope | None:
    if not isinstance(scope, Scope) or not isinstance(scope.name, str):
        return None
    try:
        kind = ScopeKind(scope.kind)
    except ValueError:
        return None
    return Scope(kind, _text(scope.name) if kind not in (ScopeKind.SYSTEM, ScopeKind.RUN) else "")


def _name(name: Any) -> CommandName | None:
    try:
        return CommandName(name)
    except ValueError:
        return None


def _target(target: Any) -> State | None:
    return next((state for state in TARGETS if target is state), None)


def _who(who: Any) -> Who:
    if not isinstance(who, Who):
        return Who(user=_text(who))
    return Who(_text(who.user), _text(who.host), _text(who.address), _text(who.via))


def _text(value: Any) -> str:
    """Return a text that can be written to a file; empty for None."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()
