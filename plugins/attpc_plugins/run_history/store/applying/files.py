"""Data files and configuration files of runs: writes reports of them, and reads texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import fields

from attpc_ioc.model.events import RunConfigs, RunFiles
from attpc_plugins.run_history.store.connections import Connection, Connections, clean, moment
from attpc_plugins.run_history.store.errors import StoreRejected
from attpc_plugins.run_history.store.model.history import ConfigUse, FramesCheck, RouterFiles
from attpc_plugins.run_history.store.rows import CONTENT_MAX, values_of, write_newest


class Files(Connections):
    """Reading the texts of configuration files."""

    async def config_texts(self, digests: Iterable[str]) -> dict[str, str]:
        """Return the stored texts among these SHA-256, by SHA-256."""
        wanted = sorted(set(digests))
        async with self._use() as connection:
            rows = await connection.fetch(
                "SELECT sha256, content FROM attpc.config_texts WHERE sha256 = ANY($1::text[])", wanted
            )
        return {row["sha256"]: row["content"] for row in rows}


def digest_of(content: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal, as `sha256sum` computes it for a file."""
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


async def apply_files(connection: Connection, run_id: int, record: RunFiles) -> None:
    """Apply a report of a router's files, unless there is a later one, and what it means for the run."""
    own = ("told_at", "frames_check")
    known = {item.name: getattr(record, item.name) for item in fields(RouterFiles) if item.name not in own}
    known |= {"files": max(0, record.files), "data_bytes": max(0, record.data_bytes)}
    told = RouterFiles(**known, told_at=moment(record.time_s), frames_check=_CHECKS[record.checked])
    await write_files(connection, run_id, (told,))
    await sum_up(connection, run_id)


async def sum_up(connection: Connection, run_id: int) -> None:
    """Write what all routers' files say together into the run."""
    await connection.execute(_SUM_UP, run_id)


_CHECKS = {None: FramesCheck.NOT_RUN, True: FramesCheck.NO_FAULTS, False: FramesCheck.FAULTS}

_SUMS = (
    *("files_state", "event_count", "missing_events", "resets", "damaged_frames", "sync"),
    *("unequal_events", "frames_check"),
)
_SUM_UP = f"""
    UPDATE attpc.runs r SET {", ".join(f"{name} = f.{name}" for name in _SUMS)}
    FROM attpc.files_of_runs f WHERE f.run_id = r.id AND r.id = $1
"""


async def apply_configs(connection: Connection, run_id: int, record: RunConfigs) -> None:
    """Apply which configuration files a run used."""
    at = moment(record.time_s)
    # Members share many texts.
    texts = {text: clean(text, CONTENT_MAX) for text in {c.text for c in record.configs if not c.fault}}
    kept = {text: (digest_of(cleaned), cleaned) for text, cleaned in texts.items()}
    uses = [
        ConfigUse(c.module, c.part, c.name, at, c.source, *(("", None) if c.fault else kept[c.text]), c.fault)
        for c in record.configs
    ]
    await write_configs(connection, run_id, uses)


async def write_configs(connection: Connection, run_id: int, uses: Sequence[ConfigUse]) -> None:
    """Add which configuration files a run used; raises `StoreRejected` if a text differs from its SHA-256.

    Stores the texts that are given; a missing one may be stored already, or is unknown.
    """
    texts = {use.sha256: clean(use.text, CONTENT_MAX) for use in uses if use.text is not None}
    for digest, text in texts.items():
        if digest_of(text) != digest:
            raise StoreRejected(f"a configuration file's text is not the one of SHA-256 {digest[:16]}...")
    if texts:
        await connection.executemany(
            "INSERT INTO attpc.config_texts (sha256, content) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            list(texts.items()),
        )
    rows = [{"run_id": run_id, **values_of(use, "text"), "sha256": use.sha256 or None} for use in uses]
    await write_newest(connection, "run_configs", ("run_id", "module", "part"), rows, "told_at")


async def write_files(connection: Connection, run_id: int, files: Sequence[RouterFiles]) -> None:
    """Add the reports of routers' files; one without a manifest leaves that which is there."""
    for told in files:
        row = {"run_id": run_id, **values_of(told, *(() if told.manifest else ("manifest",)))}
        await write_newest(connection, "run_files", ("run_id", "router"), [row], "told_at")
