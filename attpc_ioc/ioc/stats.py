"""Values for the devIocStats names under `IOC:`."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version

import psutil

from attpc_ioc.ioc.ca import ServerStats
from attpc_ioc.ioc.pvaccess import PvaStats
from attpc_ioc.pvs.row import Value
from attpc_ioc.settings import IocSettings

_TOD_FORMAT = "%m/%d/%Y %H:%M:%S"
"""devIocStats' own."""
_HALF = 39
"""Characters of a path that each of `APP_DIR1` and `APP_DIR2` shows."""

LOAD_PERIOD_S = 10
"""devIocStats' periods: loads and memory every 10 s, file descriptors every 20 s. Clients every second."""
FILES_PERIOD_S = 20
_HEARTBEAT_MAX = 2**31 - 1


RATES = {
    "CA_EVENT_RATE": "events",
    "CA_GET_RATE": "gets",
    "CA_PUT_RATE": "puts",
    "CA_SEARCH_RATE": "searches",
}
"""PVs that show a rate over the last second, by the count it is made from."""

COUNTS = {
    "CA_CLNT_CNT": "clients",
    "CA_CONN_CNT": "channels",
    "CA_SUB_CNT": "subscriptions",
    "CA_QUEUED": "queued",
    "CA_QUEUED_BYTES": "queued_bytes",
    "CA_QUEUE_MAX": "deepest_queue",
    "CA_DROPPED": "dropped",
    "CA_DISCON_CNT": "disconnected",
    "CA_REFUSED": "rejected",
}
"""PVs that show a count of the Channel Access server."""


PVA_COUNTS = {"PVA_CLNT_CNT": "clients", "PVA_PV_CNT": "pvs", "PVA_REFUSED": "refused"}
"""PVs that show a count of the PVAccess server."""


def up_time(seconds: float) -> str:
    """Return an uptime as devIocStats writes it: `3 days, 04:05:06`."""
    whole = int(seconds)
    days = whole // 86400
    head = "" if days == 0 else "1 day, " if days == 1 else f"{days} days, "
    return f"{head}{whole // 3600 % 24:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Stats:
    """Reads the process and the host; calls `publish` with the name after `IOC:` and the value."""

    def __init__(
        self,
        settings: IocSettings,
        publish: Callable[[str, Value], None],
        clients: Callable[[], ServerStats],
        pva: Callable[[], PvaStats],
        records: int,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._clients = clients
        self._pva = pva
        self._last_stats = ServerStats()
        self._last_stats_at_s = time.monotonic()
        self._records = records
        self._process = psutil.Process()
        self._began = time.monotonic()
        self._beat = 0
        self._cpus = psutil.cpu_count() or 1

    def publish_constants(self) -> None:
        """Publish the constants, and everything else for the first time."""
        for part, value in self._constants().items():
            self._publish(part, value)
        # The first reading of a load only starts an interval; its value means nothing.
        psutil.cpu_percent()
        self._process.cpu_percent()
        self._publish_clients()
        self._publish_files()
        self._publish_memory()
        self._publish_time()

    def tick(self) -> None:
        """Publish what is due; call it once a second."""
        self._beat = self._beat + 1 if self._beat < _HEARTBEAT_MAX else 1
        self._publish("HEARTBEAT", float(self._beat))
        self._publish_time()
        self._publish_clients()
        if self._beat % LOAD_PERIOD_S == 0:
            self._publish("SYS_CPU_LOAD", psutil.cpu_percent())
            self._publish("IOC_CPU_LOAD", self._process.cpu_percent() / self._cpus)
            self._publish_memory()
        if self._beat % FILES_PERIOD_S == 0:
            self._publish_files()

    def _constants(self) -> Mapping[str, Value]:
        directory = _directory()
        caproto = f"caproto {version('caproto')}"
        return {
            "STARTTOD": _now(),
            "RECORD_CNT": float(self._records),
            "CPU_CNT": float(self._cpus),
            "MEM_MAX": float(psutil.virtual_memory().total),
            "KERNEL_VERS": f"{platform.system()} {platform.release()}",
            "EPICS_VERS": caproto,
            "EPICS_VERSION": caproto,
            "HOSTNAME": platform.node(),
            "APP_DIR1": directory[:_HALF],
            "APP_DIR2": directory[_HALF : 2 * _HALF],
            "APP_DIR": directory,
            "ENGINEER": self._settings.engineer or os.environ.get("ENGINEER", ""),
            "LOCATION": self._settings.location or os.environ.get("LOCATION", ""),
            "PROCESS_ID": float(os.getpid()),
            "PARENT_ID": float(os.getppid()),
        }

    def _publish_time(self) -> None:
        self._publish("TOD", _now())
        self._publish("UPTIME", up_time(time.monotonic() - self._began))

    def _publish_clients(self) -> None:
        stats, last = self._clients(), self._last_stats
        for part, count in COUNTS.items():
            self._publish(part, float(getattr(stats, count)))
        pva = self._pva()
        for part, count in PVA_COUNTS.items():
            self._publish(part, float(getattr(pva, count)))
        now_s = time.monotonic()
        past_s = max(now_s - self._last_stats_at_s, 0.001)
        for part, count in RATES.items():
            self._publish(part, round((getattr(stats, count) - getattr(last, count)) / past_s, 1))
        self._last_stats, self._last_stats_at_s = stats, now_s

    def _publish_files(self) -> None:
        count = self._process.num_fds()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = float(limit) if limit != resource.RLIM_INFINITY else 0.0
        self._publish("FD_CNT", float(count))
        self._publish("FD_MAX", most)
        # 1000 means "no limit", as in devIocStats.
        self._publish("FD_FREE", most - count if most else 1000.0)

    def _publish_memory(self) -> None:
        self._publish("MEM_USED", float(self._process.memory_info().rss))
        self._publish("MEM_FREE", float(psutil.virtual_memory().available))


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _now() -> str:
    return datetime.now().astimezone().strftime(_TOD_FORMAT)
