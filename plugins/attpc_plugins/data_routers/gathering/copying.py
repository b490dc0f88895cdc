"""Copies a run to `run_0042`, built under a hidden name; a repeated attempt goes on where the last one ended.

A file has its own name only once it is complete, verified and synced; before, it is `.<name>.part`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from attpc_ioc.errors import system_reason
from attpc_plugins.data_routers.closing.steps import names_text
from attpc_plugins.data_routers.hosts.host import HostError, HostTimeout, HostUnreachable, SourceHost
from attpc_plugins.data_routers.hosts.words import bytes_of

from .layout import MANIFESTS, GatherError, Item, Plan, Unfinished

CHUNK = 1 << 20

ZEROS = bytes(4096)
"""A block that is left out where it is written, so that sparse files stay sparse."""

T = TypeVar("T")


@dataclass
class Progress:
    """How far a run is: bytes that are there, bytes that were copied now, and data routers at work."""

    total: int
    there: int = 0
    copied: int = 0
    linked: int = 0
    working: int = 0


class Gathering:
    """Brings one run to a folder. `carry_out` raises `GatherError` with every fault, a line each."""

    def __init__(self, plan: Plan, to: Path, hosts: Mapping[str, SourceHost]) -> None:
        self._plan = plan
        self._hosts = hosts
        self._final = to / plan.run.folder
        self._hidden = to / f".{plan.run.folder}.gathering"
        self.progress = Progress(plan.data_bytes)

    @property
    def is_there(self) -> bool:
        """Whether the run is in its folder already: all files and manifests of the plan, no others."""
        return self._final.is_dir() and not self._differs()

    def _differs(self) -> str:
        """Return in what its folder differs from the plan in the first place; empty if it does not."""
        sizes = {item.place: item.file.size for item in self._items()}
        sizes |= {f"{MANIFESTS}/{label}.json": len(text) for label, text in self._plan.manifests.items()}
        found = {_name_in(self._final, path): path.stat().st_size for path in _files_of(self._final)}
        both = found.keys() & sizes.keys()
        groups = (
            ("not of this run", found.keys() - sizes.keys()),
            ("of another size", {name for name in both if found[name] != sizes[name]}),
            ("missing", sizes.keys() - found.keys()),
            ("no folder", {name for name in self._plan.folders if not (self._final / name).is_dir()}),
        )
        return next((f"{what}: {names_text(names)}" for what, names in groups if names), "")

    def _items(self) -> Iterator[Item]:
        for items in self._plan.items.values():
            yield from items

    async def carry_out(self) -> None:
        """Copy or link all that is not there yet, and give the folder its name at the end."""
        async with _locked(self._hidden, self._other):
            await _in_thread(self._prepare)
            errors = await asyncio.gather(*(self._of_router(label) for label in self._plan.items))
            found = {label: error for label, error in zip(self._plan.items, errors, strict=True) if error}
            if found:
                lines = [f"{label}: {line}" for label in found for line in str(found[label]).splitlines()]
                passing = (HostTimeout, HostUnreachable)
                raise Unfinished(lines, again=all(isinstance(error, passing) for error in found.values()))
            await _in_thread(self._finish)

    def _other(self) -> str:
        """Return why the run cannot get its folder; empty if it can."""
        if not os.path.lexists(self._final):
            return ""
        what = self._differs() if self._final.is_dir() else "it is no folder"
        why = what or "it came meanwhile"
        return f"{self._final} exists and is another ({why}): move it away, or gather elsewhere"

    def _prepare(self) -> None:
        for name in self._plan.folders:
            (self._hidden / name).mkdir(exist_ok=True)
        known = {item.place: item.file.size for item in self._items()}
        for path in _files_of(self._hidden):
            name = _name_in(self._hidden, path)
            if path.name.endswith(".part") or name.startswith(f"{MANIFESTS}/"):
                path.unlink()  # of an attempt that was interrupted
            elif name not in known or path.stat().st_size != known[name]:
                raise GatherError(f"{str(path)!r} is not of {self._plan.run}: move {self._hidden} aside")
            else:
                self.progress.there += known[name]

    async def _of_router(self, label: str) -> HostError | GatherError | None:
        """Bring the files of one data router; return what was in the way."""
        host, last = self._hosts[label], asyncio.create_task(asyncio.sleep(0))
        self.progress.working += 1
        try:
            for item in self._plan.items[label]:
                if await asyncio.to_thread(_path_of(self._hidden, item).exists):
                    continue
                if await self._linked(host, item):
                    continue
                after = await self._copied(host, item)
                await last
                # The disk takes this one while the next one comes.
                last = asyncio.create_task(_in_thread(after))
            await last
        except (HostError, GatherError) as error:
            return error
        finally:
            self.progress.working -= 1
            with contextlib.suppress(GatherError):
                await last
        return None

    async def _linked(self, host: SourceHost, item: Item) -> bool:
        part = _part_of(self._hidden, item)
        if not await host.link(self._plan.run, item.file, part):
            return False
        await _in_thread(lambda: self._check_link(part, item))
        self.progress.linked += item.file.size
        return True

    def _check_link(self, part: Path, item: Item) -> None:
        sum_ = hashlib.sha256()
        if item.file.sha256:
            with part.open("rb") as file:
                while data := file.read(CHUNK):
                    sum_.update(data)
        self._verify(item, part.stat().st_size, sum_.hexdigest())
        part.rename(_path_of(self._hidden, item))

    async def _copied(self, host: SourceHost, item: Item) -> Callable[[], None]:
        """Copy a file to its hidden name; return what verifies, syncs and renames it, which blocks."""
        part, sum_, size = _part_of(self._hidden, item), hashlib.sha256(), 0
        number = await _in_thread(lambda: os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))

        def sink(data: bytes) -> None:
            nonlocal size
            if item.file.sha256:
                sum_.update(data)
            with _words(part):
                write_sparse(number, data, size)
            size += len(data)
            self.progress.copied += len(data)

        def finish() -> None:
            try:
                self._verify(item, size, sum_.hexdigest())
                os.ftruncate(number, size)  # it may end with a hole
                os.fsync(number)
                os.utime(part, (item.file.modified_s, item.file.modified_s))
                part.rename(_path_of(self._hidden, item))
            finally:
                os.close(number)

        try:
            await host.send(self._plan.run, item.file, sink)
        except BaseException:
            os.close(number)
            raise
        return finish

    def _verify(self, item: Item, size: int, sha256: str) -> None:
        if size != item.file.size:
            raise GatherError(f"{item.file.name!r} came with {size} bytes, and should have {item.file.size}")
        if item.file.sha256 and sha256 != item.file.sha256:
            raise GatherError(
                f"{item.file.name!r}: its SHA-256 differs from the manifest: its contents have changed, see "
                "`attpc-ioc files verify`"
            )

    def _finish(self) -> None:
        for label, text in self._plan.manifests.items():
            with (self._hidden / MANIFESTS / f"{label}.json").open("xb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for name in (*self._plan.folders, "."):
            _sync(self._hidden / name)
        if os.path.lexists(self._final):
            raise GatherError(f"{self._final} exists: nothing was changed there")
        self._hidden.rename(self._final)
        _sync(self._final.parent)


def write_sparse(number: int, data: bytes, at: int) -> None:
    """Write to a new file at an offset; blocks of zeros become holes. Cut the file to its size at the end."""
    view, begin, end = memoryview(data), 0, 0
    while end < len(data):
        stop = end + len(ZEROS) - (at + end) % len(ZEROS)
        if data[end:stop] == ZEROS:
            _write(number, view[begin:end], at + begin)
            begin = stop
        end = stop
    _write(number, view[begin:], at + begin)


def _write(number: int, left: memoryview, at: int) -> None:
    while left:
        done = os.pwrite(number, left, at)
        left, at = left[done:], at + done


def _path_of(folder: Path, item: Item) -> Path:
    return folder / item.folder / os.fsdecode(bytes_of(item.file.name))


def _part_of(folder: Path, item: Item) -> Path:
    path = _path_of(folder, item)
    return path.with_name(f".{path.name}.part")


def _files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]


def _name_in(folder: Path, path: Path) -> str:
    return os.fsencode(path.relative_to(folder)).decode("utf-8", "surrogateescape")


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(number)


@contextlib.contextmanager
def _words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GatherError(f"{path}: {system_reason(error)}") from error


async def _in_thread(work: Callable[[], T]) -> T:
    """Do what blocks on the destination; a system error becomes a `GatherError`."""

    def body() -> T:
        try:
            return work()
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            raise GatherError(f"{name}{system_reason(error)}") from error

    return await asyncio.to_thread(body)


@contextlib.asynccontextmanager
async def _locked(hidden: Path, other: Callable[[], str]) -> AsyncIterator[None]:
    """Make the hidden folder, and keep another command out of it, unless `other()` says why not."""

    def lock() -> int:
        if fault := other():
            raise GatherError(fault)
        hidden.mkdir(parents=True, exist_ok=True)
        number = os.open(hidden, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            raise GatherError(f"another command is gathering into {hidden}") from None
        except OSError:
            pass  # this file system has no locks
        return number

    number = await _in_thread(lock)
    try:
        yield
    finally:
        os.close(number)
