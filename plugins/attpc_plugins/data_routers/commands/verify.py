"""`attpc-ioc files verify`: compares a run's files with its manifests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.manifest import Manifest, ManifestError
from attpc_plugins.data_routers.closing.steps import amount, names_text
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.hosts.names import stream_of, streams_in
from attpc_plugins.data_routers.model import FileEntry
from attpc_plugins.data_routers.settings import RouterSettings

from .base import run_of, setup_of, with_hosts
from .unclosed import NOT_ALL, no_manifest, unclosed


def verify_command(file: Path, number: int, experiment: str, labels: tuple[str, ...]) -> None:
    """Compare and print; exit code 1 if anything differs, or `NOT_ALL`."""
    setup = setup_of(file)
    run = run_of(setup, number, experiment, guess=True)

    async def poll(router: RouterSettings, host: FileHost | SentryHost) -> tuple[str, list[str]]:
        if not isinstance(host, FileHost):
            return "not checked: a sentry shows no files", []
        try:
            return await compare(router, host, run)
        except (HostError, ManifestError) as error:
            return "", [str(error)]

    routers = setup.routers(labels)
    waiting = asyncio.run(unclosed(setup, run, routers))
    closed = tuple(router for router in routers if router.label not in waiting.closings)

    async def work(hosts: dict[str, FileHost | SentryHost]) -> list[tuple[str, list[str]]]:
        return await asyncio.gather(*(poll(router, hosts[router.label]) for router in closed))

    found = asyncio.run(with_hosts(setup, closed, work))
    by_label = {router.label: one for router, one in zip(closed, found, strict=True)}
    wrong = False
    for router in routers:
        text, faults = by_label.get(router.label) or (waiting.text(router.label), [])
        for line in faults or [text]:
            typer.echo(f"{router.label}: {line}")
        wrong = wrong or bool(faults)
    if waiting.closings:
        typer.echo(waiting.advice(setup, run, waiting.closings), err=True)
    if wrong or waiting.failed:
        raise typer.Exit(1)
    if waiting.closings:
        raise typer.Exit(NOT_ALL)


async def compare(router: RouterSettings, host: FileHost, run: RunRef) -> tuple[str, list[str]]:
    """Return what was compared, and the faults."""
    raw = await host.manifest(run)
    where = f"{router.staging}/{run}"
    if raw is None:
        return "", [no_manifest(router, run)]
    record = manifest.load(raw, f"{where}/{manifest.FILE_NAME}")
    checksums = any(file.sha256 for file in record.files)
    there = await host.gathered(run, closed=True, checksums=checksums)
    text = f"{amount(len(there), record.data_bytes)}: all as in the manifest"
    if record.missing:
        text += f", which lists as missing since the run was closed: {names_text(record.missing)}"
    faults = list(differences(record, there, run, router.label))
    if late := await late_files(host, record):
        faults.append(
            f"late data of this run are still in {router.staging}: {names_text(late)}; the IOC moves them, "
            f"or `attpc-ioc files close {run.number}`"
        )
    return text, faults


async def late_files(host: FileHost, record: Manifest) -> list[str]:
    """Return the files of a closed run's streams that are in the staging folder."""
    streams = streams_in(file.name for file in record.files)
    return [file.name for file in await host.list_staging() if stream_of(file.name) in streams]


def differences(record: Manifest, there: Sequence[FileEntry], run: RunRef, label: str) -> Iterator[str]:
    """Yield a line for each difference from the manifest."""
    if record.run != run or record.router != label:
        yield f"the manifest belongs to {record.run} of {record.router}"
    expected = {file.name: file for file in record.files}
    found = {file.name: file for file in there}
    if gone := expected.keys() - found.keys():
        yield f"missing: {names_text(gone)}"
    if extra := found.keys() - expected.keys():
        yield f"not in the manifest: {names_text(extra)}"
    for name in sorted(expected.keys() & found.keys()):
        one, other = expected[name], found[name]
        if one.size != other.size:
            yield f"{names_text([name])}: {other.size} bytes, {one.size} in the manifest"
        elif one.sha256 and one.sha256 != other.sha256:
            yield f"{names_text([name])}: its SHA-256 differs from the manifest, its contents have changed"
