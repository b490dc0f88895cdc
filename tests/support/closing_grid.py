"""One run's files on four hosts, each reached in another way, and what may go wrong while they are closed.

The test is the router: it opens a file by its name for each piece that it writes, and knows every byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import Closing
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.events import RunFiles
from attpc_ioc.settings import load_settings
from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access
from tests.support.closings import entries_of
from tests.support.data_rig import QUICK_DATA, data_rig, section, start_run, stop_run
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.patience import PATIENCE_S
from tests.support.probe import Probe
from tests.support.rig import Rig
from tests.support.smalldisk import small_disk
from tests.support.sshd import Sshd

S = CloseState
WAYS = {"folder": Access.LOCAL, "ssh": Access.SSH, "sshd": Access.SSH, "sentry": Access.SENTRY}
DATA = replace(QUICK_DATA, catalog_wait_s=0.4, drain_s=0.0, asads=1, trigger_hz=1.0)
PASSED = {"router_down": "warn", "router_restarted": "warn"}
"""The test writes the files, whatever becomes of a router."""
CLOSING = {"quiet_s": 0.4, "checksums": True, "sentry_waits_s": DATA.catalog_wait_s}
_LATE = re.compile(r"\.late9*[1-9](?=\.graw$)")


@dataclass
class Router:
    """What a data router has written, by name; `folder` may be its staging folder, `rng` gives the bytes."""

    folder: Path
    rng: random.Random
    wrote: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, most: int = 3000) -> None:
        """Append to a file, which is made where it is no longer there."""
        data = self.rng.randbytes(self.rng.randrange(1, most))
        with (self.folder / name).open("ab") as file:
            file.write(data)
        self.wrote[name] = self.wrote.get(name, b"") + data

    def check(self, *folders: Path, names: Collection[str]) -> None:
        """See that these files are in the folders, in this order, every byte once and in order."""
        found: defaultdict[str, bytes] = defaultdict(bytes)
        seen: set[int] = set()
        for path in (path for folder in folders for path in sorted(folder.glob("*.graw"))):
            # While it is moved, a file has two names.
            if (name := _LATE.sub("", path.name)) in names and (inode := path.stat().st_ino) not in seen:
                seen.add(inode)
                found[name] += path.read_bytes()
        assert found == {name: self.wrote[name] for name in names}


def stream(number: int, asad: int = 0) -> str:
    """Return the stream of an AsAd board in a run; the time in the name makes it one run's."""
    return f"CoBo0_AsAd{asad}_2026-11-22T04:{number // 60:02d}:{number % 60:02d}.000"


def names_of(number: int, parts: int = 2) -> list[str]:
    """Return the names of a run's files."""
    return [f"{stream(number, asad)}_{part:04d}.graw" for asad in (0, 1) for part in range(parts)]


def checked_manifest(place: Path) -> manifest.Manifest:
    """Return the manifest of a run's folder, all of whose files are as it says."""
    record = manifest.load((place / manifest.FILE_NAME).read_bytes(), "it")
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.iterdir()
        if path.name != manifest.FILE_NAME
    }
    said = {file.name: file.sha256 for file in record.files}
    assert said == there, (place, said, there)
    return record


@dataclass
class Spot:
    """One of the hosts in one run."""

    grid: Grid
    way: str
    host: DataHost
    number: int
    router: Router
    experiment: str
    counted: int = -1
    """How many files a sentry knows of, where it does not know of all."""

    @property
    def staging(self) -> Path:
        return self.host.staging

    @property
    def place(self) -> Path:
        return self.staging / self.experiment / f"run_{self.number:04d}"

    @property
    def gathering(self) -> Path:
        return self.place.with_name(f".run_{self.number:04d}.closing")

    @property
    def is_sentry(self) -> bool:
        return self.host.access is Access.SENTRY

    @property
    def names(self) -> list[str]:
        return [name.replace("CoBo0", self.host.source) for name in names_of(self.number)]

    @property
    def closing(self) -> Closing | None:
        found = entries_of(self.grid.state)
        return next((c for c in found if c.run.number == self.number and c.router == self.host.source), None)

    async def reach(self, state: CloseState, text: str = "") -> None:
        """Wait for a state of the closing with a text in its message."""

        def there() -> bool:
            found = self.closing
            return found is not None and found.state is state and text in found.message

        await until(there, lambda: f"{self.way}: {state} {text!r}: {self.closing}")
        assert there()

    def left(self) -> list[str]:
        """Return the names of the files in the staging folder."""
        return sorted(path.name for path in self.staging.glob("*.graw"))

    def untouched(self) -> None:
        """Nothing was moved."""
        there = {path.name: path.read_bytes() for path in self.staging.glob("*.graw")}
        assert there == {name: self.router.wrote[name] for name in there}
        assert there.keys() == set(self.names)

    async def done(self) -> None:
        """The run is closed, every byte is where the record says."""

        def closed() -> bool:
            known = self.closing
            return known is not None and known.state is S.DONE and not (known.late or self.left())

        await until(closed, lambda: f"{self.way}: {self.left()} {self.closing}")
        self.router.check(self.place, names=self.router.wrote.keys())
        files = list(self.place.glob("*.graw"))
        size = sum(path.stat().st_size for path in files)

        def told() -> RunFiles | None:
            events = self.grid.probe.of(RunFiles)
            mine = [e for e in events if e.number == self.number and e.router == self.host.source]
            return mine[-1] if mine else None

        await until(
            lambda: (e := told()) is not None and e.state == "Done" and e.files in (len(files), self.counted),
            lambda: f"{self.way}: {told()} {files}",
        )
        event = told()
        assert event is not None
        assert "no file was written" not in event.message
        assert not self.gathering.exists()
        if self.is_sentry:
            assert event.data_bytes <= size, "a sentry tells what was there when it was asked"
            assert (event.location, event.manifest) == (f"{self.experiment}/{self.place.name}", "")
        else:
            assert (event.data_bytes, event.location) == (size, str(self.place))
            record = checked_manifest(self.place)
            assert manifest.load(event.manifest.encode(), "the event") == record
            assert record.run.number == self.number


@dataclass
class Grid:
    """Four hosts under one IOC."""

    it: Rig
    probe: Probe
    state: Path
    rng: random.Random
    spots: dict[str, Spot] = field(default_factory=dict)

    async def begin(self) -> None:
        """Start a run, and write its files."""
        await start_run(self.it) if not self.spots else await self._again()
        run = self.it.run
        hosts = zip(WAYS, self.it.fleet.data, strict=False)
        self.spots = {
            way: Spot(self, way, host, run.number, Router(host.staging, self.rng), run.experiment)
            for way, host in hosts
        }
        for spot in self.spots.values():
            for name in spot.names:
                spot.router.write(name)

    async def _again(self) -> None:
        await self.it.until(lambda: not self.it.run.checklist, PATIENCE_S, f"start: {self.it.run.checklist}")
        await start_run(self.it)

    async def end(self) -> None:
        """Stop the run."""
        await stop_run(self.it)

    async def command(self, *words: object) -> tuple[int, str]:
        """Give a command to the IOC's settings."""
        ran = await forked(
            SHELL, "files", *map(str, words), "--settings", self.it.settings_file, stdout=PIPE, stderr=STDOUT
        )
        said, _ = await ran.communicate()
        assert ran.returncode is not None
        return ran.returncode, said.decode()


async def until(done: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for a condition that only looking can tell."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110 - another process may make it so
                await asyncio.sleep(0.02)
            return
    raise AssertionError(what())


@contextlib.asynccontextmanager
async def grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Sshd, rng: random.Random
) -> AsyncIterator[Grid]:
    """Run an IOC with a host for each of `WAYS`; the folders of all but the sentry's are small disks."""
    probe = Probe()
    options = replace(DATA, folder=tmp_path / "hosts", access=tuple(WAYS.values()))
    async with contextlib.AsyncExitStack() as stack:
        for number, access in enumerate(WAYS.values()):
            if access is not Access.SENTRY:
                staging = tmp_path / "hosts" / f"cobo{number}" / "data"
                staging.mkdir(parents=True)
                with contextlib.suppress(pytest.skip.Exception):
                    stack.enter_context(small_disk(staging, "1m"))
        it = await stack.enter_async_context(
            data_rig(
                tmp_path,
                monkeypatch,
                data=options,
                access=None,
                text=section(watch={"timeout_s": 5.0}, closing=CLOSING, interlocks=PASSED),
                cobos=len(WAYS),
                mutant=False,
                plugins=[("probe", probe)],
                start=False,
            )
        )
        await _behind_a_gate(it, server)
        await it.start_ioc()
        for host in it.fleet.data:
            host.faults.stopped = True
        yield Grid(it, probe, tmp_path / "state", rng)


async def _behind_a_gate(it: Rig, server: Sshd) -> None:
    """Lead the way to one host to the real server."""
    hosts, number = it.fleet.data, list(WAYS).index("sshd")
    host, keys = hosts[f"CoBo[{number}]"], hosts.ssh_keys
    assert host.gate is not None
    assert keys is not None
    await host.gate.lead_to("127.0.0.1", server.port)
    lines = keys.known_hosts.read_text().splitlines(keepends=True)
    key = server.host_key.with_suffix(".pub").read_text()
    way = f"[{host.gate.host}]:{host.gate.port}"
    lines = [f"{way} {key}" if line.startswith(f"{way} ") else line for line in lines]
    keys.known_hosts.write_text("".join(lines))
    keys.config.write_text(f"{keys.config.read_text()}{server.config.read_text()}")
    own = f'sources = ["{host.source}"]'
    text = it.settings_file.read_text()
    assert own in text
    it.settings_file.write_text(text.replace(own, f'{own}\nuser = "{server.user}"\nprocess = "sshd"'))
    it.settings = load_settings(it.settings_file)
