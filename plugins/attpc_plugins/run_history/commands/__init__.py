"""The shell commands of the run history: `history`, `experiments` and `observables`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `attpc-ioc`."""
    from . import experiments, history, observables

    app.add_typer(history.app, name="history")
    app.add_typer(experiments.app, name="experiments")
    app.add_typer(observables.app, name="observables")
