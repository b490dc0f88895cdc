"""The plugins that are included, without other installed ones."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from attpc_ioc.pvs.row import Row

DISTRIBUTION = "attpc-ioc"


def included_plugins() -> Iterator[tuple[str, Any]]:
    """Yield the name and an object of each."""
    for point in sorted(entry_points(group="attpc_ioc"), key=lambda point: point.name):
        if point.dist is not None and point.dist.name == DISTRIBUTION:
            plugin = point.load()
            yield point.name, plugin() if inspect.isclass(plugin) else plugin


def rows_of(plugin: Any) -> list[Row]:
    """Return the rows of a plugin with its default settings; none if it has no PVs."""
    if not hasattr(plugin, "attpc_pvs"):
        return []
    given = {
        "settings": plugin.attpc_settings()(),
        "prefix": "",
        "state_dir": str(Path(__file__).parent / "none"),
    }
    wanted = inspect.signature(plugin.attpc_pvs).parameters
    return list(plugin.attpc_pvs(**{name: given[name] for name in wanted}))
