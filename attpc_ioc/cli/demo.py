"""The command `demo`: a complete system on loopback, with settings for its IOC."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attpc_ioc.cli.options import LogJson, LogLevel, set_up_log
from attpc_ioc.cli.simulate import ADMIN_PORT
from attpc_ioc.settings.demo_place import VARIABLE

if TYPE_CHECKING:
    from attpc_ioc.simulator.data.options import DataOptions
    from attpc_ioc.simulator.fleet import SimulatedFleet

PREFIX = "DEMO:"
SENTRY_WAITS_S = 5.0
COBOS = 10
WEB_PORT = 8064
"""Of the demo's page, if it is free."""

HEADING = """\
# Settings of the demo. The simulated data files are sparse and use almost none of this disk, however full
# it is: hence the low disk limits. The simulated routers end two seconds after a stop and the sentries wait
# for five, real ones take longer: hence the short `quiet_s` and `sentry_waits_s`.

"""

_DATA = {
    "plugins.data_routers.limits": """
disk_minor_gb = 0.2
disk_major_gb = 0.1
start_min_gb = 0.1
full_minor_h = 0.0""",
    "plugins.data_routers.closing": f"quiet_s = 5.0\nsentry_waits_s = {SENTRY_WAITS_S}",
}
"""The settings of the data routers' plugin in the demo."""

TRY_NEXT = """\
The demo is running: {cobos} CoBos and a MuTAnT, prefix {prefix}, loopback only. In another terminal, try

  {setting}
  caput -S {prefix}Config e20009
  caput -c -w 60 {prefix}GoTo Ready
  caput -c -w 60 {prefix}Run:Start 1
  caget {prefix}State_RBV {prefix}Run:State_RBV {prefix}Run:Number_RBV && caput -c -w 60 {prefix}Run:Stop 1
{data}
Ctrl-C here ends it."""

TRY_PAGE = """
Its page for browsers is http://127.0.0.1:{port}/
where you can do what operators may once you sign in with the token that this makes:

  attpc-ioc web token add me --role operator
"""

TRY_DATA = """
While the run is on, its data rate is shown by

  caget {prefix}CoBo0:Router:Rate_RBV {prefix}Run:Written_RBV

and some seconds after it has stopped its files are in {folder}/cobo0/data/unnamed/ and so on.
"""

TRY_FAULTS = """
Faults of the simulated fleet are switched by

  attpc-ioc fault cobo1 die{where}
  attpc-ioc fault all clear{where}

and shown by `attpc-ioc fault{where}`; docs/simulator.md lists the faults.
"""


def demo(
    prefix: Annotated[str, typer.Option(help="Prefix of every PV name.")] = PREFIX,
    cobos: Annotated[int, typer.Option(min=1, max=100, help="Number of CoBos.")] = COBOS,
    log_level: LogLevel = "WARNING",
    log_json: LogJson = False,
) -> None:
    """Serve a complete system on loopback: the IOC with a simulated fleet, until Ctrl-C."""
    set_up_log(log_level, log_json)
    asyncio.run(_demo(prefix, cobos))


async def _demo(prefix: str, cobos: int) -> None:
    from attpc_ioc.app import serve
    from attpc_ioc.cli.fleets import running_fleets, shown_as_running
    from attpc_ioc.errors import StateDirError
    from attpc_ioc.files import make_private, refusal_for_root
    from attpc_ioc.settings import demo_directory, demo_file, load_settings
    from attpc_ioc.simulator.admin import taking_orders
    from attpc_ioc.simulator.fleet import SimulatedFleet

    # Loopback only, unless the user's environment says otherwise.
    for name, also in (
        ("EPICS_CAS_INTF_ADDR_LIST", ()),
        ("EPICS_CAS_BEACON_ADDR_LIST", ("EPICS_CA_ADDR_LIST", "EPICS_CAS_AUTO_BEACON_ADDR_LIST")),
        ("EPICS_PVAS_INTF_ADDR_LIST", ()),
    ):
        if not any(os.environ.get(n) for n in (name, *also)):
            os.environ[name] = "127.0.0.1"
    state_dir, file = demo_directory(), demo_file()
    if refusal := refusal_for_root(state_dir):
        raise StateDirError(f"state directory {state_dir}: {refusal}: XDG_STATE_HOME")
    # Not deleted: shell commands such as `attpc-ioc history` find the database with it.
    make_private(state_dir)
    data = demo_data(state_dir)
    before = _before(file)
    ports = _ports_before(before)
    async with contextlib.AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(SimulatedFleet(cobos, data=data, ports=ports))
        admin = await stack.enter_async_context(taking_orders(fleet, ADMIN_PORT))
        stack.enter_context(shown_as_running(admin.url, f"demo, PV prefix {prefix}, settings {file}"))
        web_port = free_port(_page_before(before), WEB_PORT) if _installed("web") else 0
        _write_private(file, demo_text(fleet, prefix, state_dir, web_port))
        shown = TRY_DATA.format(prefix=prefix, folder=data.folder) if data else ""
        alone = [one.admin for one in running_fleets()] == [admin.url]
        shown += TRY_FAULTS.format(where="" if alone else f" --admin {admin.url}")
        page = TRY_PAGE.format(port=web_port) if web_port else ""
        greeting = TRY_NEXT.format(prefix=prefix, cobos=cobos, setting=_setting(file), data=page + shown)
        await serve(load_settings(file), greeting)


def _before(file: Path) -> dict[str, Any]:
    """Return the settings of the last demo; empty if there was none, or somebody has changed its file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _ports_before(before: dict[str, Any]) -> dict[str, int]:
    """Return the ports of the last demo's ECC servers: its IOC would take others for other servers."""
    try:
        return {ecc["name"]: int(ecc["port"]) for ecc in before["ecc"]}
    except (ValueError, TypeError, KeyError):
        return {}


def _page_before(before: dict[str, Any]) -> int:
    """Return the port of the last demo's page, as one that is still open looks for it there; 0 if none."""
    try:
        return range(1 << 16)[int(before["plugins"]["web"]["port"])]
    except (ValueError, TypeError, KeyError, IndexError):
        return 0


def _write_private(file: Path, text: str) -> None:
    from attpc_ioc.files import private

    with open(file, "w", encoding="utf-8", opener=private) as stream:
        stream.write(text)


def _setting(file: Path) -> str:
    """Return the shell line that makes the installed programs, this IOC and its settings available."""
    from attpc_ioc.ioc.ca.address import server_port

    words = [f'PATH="{Path(sys.executable).parent}:$PATH"']
    words += ["EPICS_CA_ADDR_LIST=127.0.0.1", "EPICS_CA_AUTO_ADDR_LIST=NO"]
    words += ["EPICS_PVA_ADDR_LIST=127.0.0.1", "EPICS_PVA_AUTO_ADDR_LIST=NO"]
    if os.environ.get("EPICS_CAS_SERVER_PORT") or os.environ.get("EPICS_CA_SERVER_PORT"):
        words.append(f"EPICS_CA_SERVER_PORT={server_port(os.environ)}")
    if port := os.environ.get("EPICS_PVAS_BROADCAST_PORT") or os.environ.get("EPICS_PVA_BROADCAST_PORT"):
        words.append(f"EPICS_PVA_BROADCAST_PORT={shlex.quote(port)}")
    words.append(f"{VARIABLE}={shlex.quote(str(file))}")
    return f"export {' '.join(words)}"


def _installed(plugin: str) -> bool:
    from attpc_ioc.plugin.spec import PROJECT

    return plugin in entry_points(group=PROJECT).names


def demo_data(state_dir: Path) -> DataOptions | None:
    """Return how the demo writes data; None if the data routers' plugin is not installed."""
    from attpc_ioc.simulator.data.options import Access, DataOptions

    if not _installed("data_routers"):
        return None
    # One of every kind of host; each keeps the newest runs of earlier demos.
    reached = (Access.SSH, Access.SSH, Access.SENTRY, Access.SENTRY, Access.LOCAL)
    # Few events, that are long: an event uses a block of the disk for each AsAd board.
    return DataOptions(
        state_dir / "data",
        reached,
        trigger_hz=5.0,
        spread=0.1,
        tick_s=0.5,
        drain_s=2.0,
        catalog_wait_s=SENTRY_WAITS_S,
        keep_runs=20,
    )


def free_port(*wanted: int) -> int:
    """Return a TCP port of loopback that nobody listens at now: the first of the wanted ones that can be."""
    for port in (*filter(None, wanted), 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as server:
            return server.getsockname()[1]
    return 0


def demo_text(fleet: SimulatedFleet, prefix: str, state_dir: Path, web_port: int = 0) -> str:
    """Return the settings file of the demo's IOC, for a fleet that was started with `demo_data`."""
    import tomlkit

    # Named, because its addresses change each time: the run history must see the same fleet.
    history = tomlkit.dumps({"fleet": f"demo on {socket.gethostname()}"})
    return HEADING + fleet.settings_toml(
        prefix=prefix,
        state_dir=str(state_dir),
        data_routers=fleet.has_data,
        **(_DATA if fleet.has_data else {}),
        **{"plugins.run_history": history},
        **({"plugins.web": f"port = {web_port}"} if web_port else {}),
    )
