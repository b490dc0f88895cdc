"""The state directory: what has to be there after a restart, in atomically replaced JSON files.

One IOC owns a state directory at a time (a lock on the file `lock`). A file is written to a temporary name,
synced and renamed, so that it is always whole: the old one or the new one. A file that is damaged all the
same is kept aside under another name and reported, at this start and at every later one until there is a new
file; nothing of it is guessed.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attpc_ioc.errors import StateDirError
from attpc_ioc.files import make_private, private, refusal_for_root
from attpc_ioc.log import get_logger

log = get_logger(__name__)

RETRY_S = 5.0


class StateStore:
    """Reads and writes the JSON files of one state directory.

    `save` returns at once and writes in a thread, the newest document of each name only; `flush` waits until
    what was saved before is on disk. `fault` says why writing does not work at present; empty when it does.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        """Take a folder; `prefix` is the IOC's, by which another that wants the folder names it."""
        self.folder = folder
        self._prefix = prefix
        self.fault = ""
        self.damaged: dict[str, str] = {}
        self._pending: dict[str, Any] = {}
        self._wake = asyncio.Event()
        self._saved = 0
        self._written = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._writing: asyncio.Future[None] | None = None
        self._under_way: dict[str, Any] = {}
        """What `_writing` writes."""
        self._lock_file: int | None = None
        self._on_fault: list[Callable[[], None]] = []

    def open(self) -> None:
        """Make the folder and take the lock; raises `StateDirError` where that fails."""
        try:
            if refusal := refusal_for_root(self.folder):
                raise StateDirError(f"state directory {self.folder}: {refusal}: ioc.state_dir")
            make_private(self.folder)
            self._lock_file = private(str(self.folder / "lock"), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StateDirError(
                f"state directory {self.folder}: {error.strerror}; make it writable, or set ioc.state_dir"
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(os.pread(self._lock_file, 512, 0).decode(errors="replace"))
            os.close(self._lock_file)
            self._lock_file = None
            raise StateDirError(
                f"state directory {self.folder}: another IOC ({owner}) is using it; "
                "stop that one, or give this one an ioc.state_dir of its own"
            ) from error
        try:
            os.ftruncate(self._lock_file, 0)
            text = f"{os.getpid()} {socket.gethostname()} {self._prefix}\n"
            os.pwrite(self._lock_file, text.encode(), 0)
        except OSError as error:
            self._set_fault(f"state directory {self.folder}: {error.strerror}")

    def load(self, name: str) -> dict[str, Any] | None:
        """Return the document `name`, or None where there is none or it is damaged (then see `damaged`)."""
        path = self._path(name)
        try:
            document = _object_in(path)
        except FileNotFoundError:
            aside = sorted(self.folder.glob(f"{name}.damaged-*"))
            if not aside:
                return None
            # It was found damaged by an earlier start, and nothing was written in its place since.
            self.damaged[name] = f"{path} was damaged and is kept as {aside[-1].name}"
        except OSError as error:
            self.damaged[name] = f"{path} cannot be read: {error.strerror}"
        except (ValueError, RecursionError) as error:
            self.set_aside(name, str(error))
            return None
        else:
            return document
        log.error("state file damaged", file=path, reason=self.damaged[name])
        return None

    def set_aside(self, name: str, reason: str, *, in_part: bool = False) -> str:
        """Keep a damaged file under another name; returns the text that is in `damaged` from now on.

        Where it is damaged `in_part` only it stays until what is good of it was saved.
        """
        path = self._path(name)
        aside = path.with_suffix(f".damaged-{int(time.time())}")
        try:
            if in_part:
                with path.open("rb") as source, open(aside, "wb", opener=private) as copy:
                    shutil.copyfileobj(source, copy)
            else:
                path.rename(aside)
        except OSError as error:
            text = f"{path} is damaged ({reason}) and cannot be moved: {error.strerror}"
        else:
            text = f"{path} is damaged ({reason}); it is kept as {aside.name}"
        self.damaged[name] = text
        log.error("state file damaged", file=path, reason=text)
        return text

    def save(self, name: str, document: dict[str, Any]) -> None:
        """Write a document soon; a newer one of the same name takes its place.

        Documents are written in the order in which they were last saved.
        """
        self._pending.pop(name, None)
        self._pending[name] = document
        self._saved += 1
        self._wake.set()

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until everything saved before is on disk; raises `StateDirError` where it cannot be."""
        if self._written >= self._saved and not self.fault:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._saved, waiter))
        self._wake.set()
        try:
            async with asyncio.timeout(limit_s):
                await waiter
        except TimeoutError:
            raise StateDirError(f"state directory {self.folder}: not written within {limit_s:g} s") from None

    async def run(self) -> None:
        """Write what is saved, for ever; after a failure try again every 5 s and with each save."""
        while True:
            await self._wake_or_retry()
            self._wake.clear()
            upto = self._saved
            documents, self._pending = self._pending, {}
            self._under_way = documents
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._write_all, documents))
            try:
                await asyncio.shield(self._writing)
            except (OSError, ValueError, TypeError) as error:
                self._pending = {**documents, **self._pending}
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                self._set_fault(f"state directory {self.folder} cannot be written: {reason}")
                self._finish(upto, StateDirError(self.fault))
            else:
                self._written = upto
                self._set_fault("")
                self._finish(upto, None)

    async def close(self) -> None:
        """Write what is left and release the lock."""
        if self._writing is not None:
            # Two writers at once would spoil each other's temporary file, and the older could come last.
            await asyncio.wait((self._writing,))
            if self._writing.exception() is not None:
                # `run` was ended before it could see that.
                self._pending = {**self._under_way, **self._pending}
        documents, self._pending = self._pending, {}
        try:
            if documents:
                await asyncio.to_thread(self._write_all, documents)
        except (OSError, ValueError, TypeError) as error:
            lost = ", ".join(documents)
            log.error("state not written at shutdown", folder=self.folder, lost=lost, reason=error)
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def _wake_or_retry(self) -> None:
        if not self.fault:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(RETRY_S):
                await self._wake.wait()
        except TimeoutError:
            return

    def _finish(self, upto: int, error: StateDirError | None) -> None:
        waiting, self._waiters = self._waiters, []
        for number, waiter in waiting:
            if number > upto:
                self._waiters.append((number, waiter))
            elif not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)

    def _set_fault(self, text: str) -> None:
        if text == self.fault:
            return
        self.fault = text
        if text:
            log.error("state not written", reason=text)
        else:
            log.info("state written again", folder=self.folder)
        for listener in self._on_fault:
            listener()

    def on_fault(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `fault` changes."""
        self._on_fault.append(listener)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _write_all(self, documents: dict[str, Any]) -> None:
        if not documents:
            # A flush while writing fails: find out whether it works again.
            probe = self.folder / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        for name, document in documents.items():
            path = self._path(name)
            temporary = path.with_suffix(".new")
            with open(temporary, "w", encoding="utf-8", opener=private) as file:
                file.write(_text(document))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        if documents:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _owner(text: str) -> str:
    """Return who has the lock, from what it wrote: process, host, and the prefix where it is an IOC."""
    process, host, prefix, *_ = [*text.split(), "", "", ""]
    words = f"process {process or 'unknown'}"
    # The lock holds over network file systems and between containers, where a number alone says little.
    words += f" on {host}" if host else ""
    return words + (f", prefix {prefix}" if prefix else "")


def _text(document: dict[str, Any]) -> str:
    """Return the document as JSON, with a line for each entry and each entry of an entry.

    Each line is made without indentation, by the encoder that is written in C: a document of a thousand
    modules would otherwise hold up the event loop from the thread that writes it.
    """
    entries = {
        key: _braced({k: _line(v) for k, v in value.items()}, " ")
        if isinstance(value, dict) and value
        else _line(value)
        for key, value in document.items()
    }
    return _braced(entries, "")


def _braced(texts: dict[str, str], indent: str) -> str:
    inner = ",\n".join(f"{indent} {_line(str(key))}: {text}" for key, text in texts.items())
    return f"{{\n{inner}\n{indent}}}"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _object_in(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(document, dict):
        return document
    raise ValueError("it holds no JSON object")
