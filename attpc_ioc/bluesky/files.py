"""What a run leaves in Bluesky's documents: readings in events, and its files as streams."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from bluesky.protocols import Reading, StreamAsset
from event_model import ComposeStreamResource, DataKey
from ophyd_async.core import (
    DetectorDataLogic,
    ReadableDataProvider,
    SignalR,
    StreamableDataProvider,
    merge_gathered_dicts,
)
from typing_extensions import override

from .acquire import RunLogic

log = logging.getLogger(__name__)

GRAW = "application/x-graw"
"""Frames of the GET electronics, as its data routers write them."""
OTHER = "application/octet-stream"


class ReadingsLogic(DetectorDataLogic):
    """The values of signals after each run; those of `hinted` are shown and plotted by default."""

    def __init__(self, runs: RunLogic, signals: Sequence[SignalR], hinted: Sequence[SignalR]) -> None:
        self._runs = runs
        self._signals = signals
        self._hinted = hinted

    @override
    async def prepare_single(self, datakey_name: str) -> ReadableDataProvider:
        """Return what has the readings."""
        return _Readings(self._runs, self._signals)

    @override
    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        """Return the names of the hinted signals."""
        return [signal.name for signal in self._hinted]


class _Readings(ReadableDataProvider):
    def __init__(self, runs: RunLogic, signals: Sequence[SignalR]) -> None:
        self._runs = runs
        self._signals = signals

    async def make_datakeys(self) -> dict[str, DataKey]:
        return await merge_gathered_dicts(signal.describe() for signal in self._signals)

    async def make_readings(self) -> dict[str, Reading]:
        return self._runs.closed[-1].readings if self._runs.closed else await self._runs.read()


class FilesLogic(DetectorDataLogic):
    """The files of each run: a stream resource for each, with one stream datum for the run's event."""

    datakey_suffix = "-files"

    def __init__(self, runs: RunLogic, source: Callable[[], str | None]) -> None:
        self._runs = runs
        self._source = source

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        """Return what makes the documents, for the runs from now on."""
        self._runs.count_anew()
        return _Files(self._runs, datakey_name, self._source())


class _Files(StreamableDataProvider):
    """`source` is where the files are known from; None where nothing is: then there are no documents."""

    def __init__(self, runs: RunLogic, data_key: str, source: str | None) -> None:
        # Counts starts, so that a wait for it is over at once: runs and closings have limits of their own.
        self.collections_written_signal = runs.started
        self._runs = runs
        self._data_key = data_key
        self._source = source
        self._emitted = 0

    @override
    async def make_datakeys(self, collections_per_event: int) -> dict[str, DataKey]:
        if self._source is None:
            return {}
        key = DataKey(
            source=self._source, shape=[1, None], dtype="array", dtype_numpy="|u1", external="STREAM:"
        )
        return {self._data_key: key}

    @override
    async def make_stream_docs(
        self, collections_written: int, collections_per_event: int
    ) -> AsyncIterator[StreamAsset]:
        """Yield the documents of the runs whose files are closed and were not yielded before."""
        while self._emitted < len(self._runs.closed):
            manifest, index = self._runs.closed[self._emitted].files, self._emitted
            self._emitted += 1
            if "reason" in manifest:
                log.warning("no stream resources for run %s: %s", manifest["run"], manifest["reason"])
            for doc in stream_docs(manifest, self._data_key, index):
                yield doc


def stream_docs(manifest: dict[str, Any], data_key: str, index: int) -> Iterator[StreamAsset]:
    """Yield the documents of a run's files, from the value of `Run:Manifest_RBV`."""
    compose = ComposeStreamResource()
    for router in manifest["routers"] or ():
        for file in router["files"] or ():
            bundle = compose(
                mimetype=GRAW if file["name"].endswith(".graw") else OTHER,
                uri=file_uri(router["host"], router["folder"], file),
                data_key=data_key,
                parameters={
                    "run": manifest["run"],
                    "experiment": manifest["experiment"],
                    "router": router["router"],
                    "sources": router["sources"],
                    **{key: file[key] for key in ("size", "modified_s", "sha256") if key in file},
                },
                uid=None,
                validate=True,
            )
            yield "stream_resource", bundle.stream_resource_doc
            yield "stream_datum", bundle.compose_stream_datum({"start": index, "stop": index + 1})


def file_uri(host: str, folder: str, file: dict[str, Any]) -> str:
    """Return the URI of a file in a manifest; `name_bytes` has the name of one that is not in UTF-8."""
    name = bytes.fromhex(file["name_bytes"]) if "name_bytes" in file else file["name"]
    return f"file://{host}{quote(folder)}/{quote(name, safe='')}"
