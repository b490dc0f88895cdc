"""Reads the configuration files of a run, from the ECC servers' hosts or from their replies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attpc_ioc.model.config import NOT_LOADED, UNKNOWN
from attpc_ioc.model.events import RunConfigText
from attpc_ioc.model.run import RunInfo
from attpc_plugins.data_routers.hosts.host import ConfigHost, HostError

from .loading import SELDOM, LoadedFiles, file_name

PARTS = ("describe", "prepare", "configure")

NO_HOST = "no table plugins.data_routers.ecc says where the files of this ECC server are"


@dataclass(frozen=True, slots=True)
class Gathered:
    """The texts for the history, and the files' exact bytes for the backup folder."""

    configs: tuple[RunConfigText, ...]
    files: dict[str, bytes]
    notes: tuple[str, ...] = ()
    """Which files have changed on the hosts since they were loaded."""

    @property
    def faults(self) -> tuple[str, ...]:
        """The distinct reasons why parts are missing."""
        return tuple(dict.fromkeys(f"{c.module}: {c.fault}" for c in self.configs if c.fault))


async def gather(
    run: RunInfo, hosts: Mapping[str, ConfigHost], loaded: LoadedFiles, replies: Mapping[str, str]
) -> Gathered:
    """Return the files that each member has loaded; a shared file is read once.

    `hosts` and `replies` (the whole text of the reply to Configure) are by member. A file that was read when
    it was loaded counts, else the one on the host now. If there is neither, the reply is taken as the
    configure part; a part without any text has a reason.
    """
    reads: dict[tuple[int, str], asyncio.Task[bytes | str]] = {}
    async with asyncio.TaskGroup() as group:
        for member in run.members:
            if (host := hosts.get(member)) is None:
                continue
            for part, name in _parts(run.loaded.get(member, "")):
                file = file_name(part, name)
                if (id(host), file) not in reads:
                    reads[id(host), file] = group.create_task(_read(host, file))
    texts: list[RunConfigText] = []
    files: dict[str, bytes] = {}
    changed: dict[str, list[str]] = {}
    for member in run.members:
        host = hosts.get(member)
        for part, name in _parts(run.loaded.get(member, "")):
            file = file_name(part, name)
            now = NO_HOST if host is None else reads[id(host), file].result()
            then = loaded.get(member, part, name)
            found = now if then is None else then
            if then is not None and isinstance(now, bytes) and now != then:
                changed.setdefault(file, []).append(member)
            reply = replies.get(member, "") if part == "configure" else ""
            if isinstance(found, bytes):
                texts.append(RunConfigText(member, part, name, text_of(found), "file"))
                files[_own_name(files, file, found, member)] = found
            elif reply:
                texts.append(RunConfigText(member, part, name, reply, "reply"))
                files[f"reply-to-configure.{member}.xml"] = reply.encode("utf-8", "surrogateescape")
            elif part != SELDOM:
                texts.append(RunConfigText(member, part, name, fault=found))
    notes = tuple(
        f"{file} was changed after {', '.join(members)} loaded it: the run has it as it was before"
        for file, members in changed.items()
    )
    return Gathered(tuple(texts), files, notes)


def text_of(content: bytes) -> str:
    """Return a file's text: UTF-8, or else Latin-1, which loses nothing."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


async def _read(host: ConfigHost, file: str) -> bytes | str:
    """Return the file, or the reason why it cannot be read, so that the others are still read."""
    try:
        return await host.read(file)
    except HostError as error:
        return str(error)


def _parts(loaded: str) -> Iterator[tuple[str, str]]:
    """Yield part and name of each loaded configuration, from the core's `describe/prepare/configure`."""
    for part, name in zip(PARTS, loaded.split("/"), strict=False):
        if name not in ("", NOT_LOADED, UNKNOWN):
            yield part, name


def _own_name(files: Mapping[str, bytes], file: str, content: bytes, member: str) -> str:
    """Return the name in the backup folder; with the member where hosts have different files of one name."""
    if files.get(file, content) == content:
        return file
    return f"{file.removesuffix('.xcfg')}.{member}.xcfg"
