"""The plugin's shell commands, imported only when one of them is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

PACKAGE = __package__ or ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of commands: its name, the module whose `app` has them, and its help."""

    name: str
    module: str
    help: str


GROUPS = (
    Group("db", "database", "The database of the run history: migrate, status, url, backup, restore."),
    Group("history", "history", "The runs: list, show, edit, export and import; and all puts."),
    Group("experiments", "experiments", "The experiments of the run history."),
    Group("observables", "observables", "The run sheet: quantities recorded for every run."),
)


def add_commands(app: typer.Typer) -> None:
    """Add every group to the shell command."""
    for group in GROUPS:
        app.add_typer(
            typer.Typer(
                cls=_lazy(group),
                no_args_is_help=True,
                help=group.help,
                callback=_nothing,
                rich_markup_mode=None,  # help as plain as the core's
            ),
            name=group.name,
        )


def _nothing() -> None:
    """Do nothing: a group with a callback stays a group even without commands."""


def _lazy(group: Group) -> type[TyperGroup]:
    class LazyGroup(TyperGroup):
        """A group that loads its module's commands when needed."""

        _loaded: TyperGroup | None = None

        def _group(self) -> TyperGroup:
            if self._loaded is None:
                module: Any = importlib.import_module(f"{PACKAGE}.{group.module}")
                self._loaded = typer.main.get_group(module.app)
            return self._loaded

        def list_commands(self, ctx: Any) -> list[str]:
            return self._group().list_commands(ctx)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return self._group().get_command(ctx, cmd_name)

    return LazyGroup
