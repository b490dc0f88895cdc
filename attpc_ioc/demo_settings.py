"""The configuration of the demo: a simulated fleet, and the settings of an IOC for it."""

from __future__ import annotations

import json
import socket
from importlib.metadata import entry_points
from pathlib import Path

from attpc_ioc.plugin.spec import PROJECT
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.fleet import SimulatedFleet

PREFIX = "DEMO:"
COBOS = 10

_DATA = {
    "plugins.data_routers.limits": """\
# The files are sparse: they use next to nothing of the disk that this demo is on, however full that is.
disk_minor_gb = 0.2
disk_major_gb = 0.1
start_min_gb = 0.1
full_minor_h = 0.0""",
    "plugins.data_routers.closing": """\
# The simulated routers end two seconds after a stop; real ones take longer, and the default is 30 s.
quiet_s = 5.0""",
}
"""The settings of the data routers' plugin in the demo."""


def demo_data(state_dir: Path) -> DataOptions | None:
    """Return how the demo's data are written; None where the data routers' plugin is not installed."""
    if "data_routers" not in entry_points(group=PROJECT).names:
        return None
    # Every kind of host; of the runs of earlier demos each keeps the newest ones.
    reached = (Access.SSH, Access.SSH, Access.SENTRY, Access.SENTRY, Access.LOCAL)
    return DataOptions(state_dir / "data", reached, spread=0.1, drain_s=2.0, catalog_wait_s=5.0, keep_runs=20)


def demo_text(fleet: SimulatedFleet, prefix: str, state_dir: Path) -> str:
    """Return the settings file of the demo's IOC, for a fleet that was started with `demo_data`."""
    # Named, because its addresses are others each time: it stays one fleet in the run history.
    history = f"fleet = {json.dumps(f'demo on {socket.gethostname()}')}"
    return fleet.settings_toml(
        prefix=prefix,
        state_dir=str(state_dir),
        data_routers=fleet.has_data,
        **(_DATA if fleet.has_data else {}),
        **{"plugins.run_history": history},
    )
