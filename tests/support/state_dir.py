"""The state directory as tests look into it, spoil it, and as a program writes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from attpc_ioc.eventlog import EventLog

DATABASE = "state.db"


def make_unwritable(folder: Path) -> None:
    """Put a file where the folder is: nobody, root included, can write into it."""
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")


def make_writable(folder: Path) -> None:
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)


def kept(folder: Path, topic: str) -> dict[str, Any]:
    """What the database has of a topic, by key, whoever writes it at present."""
    rows = query(folder, "SELECT key, value FROM kept WHERE topic = ?", topic)
    return {key: json.loads(value) for key, value in rows}


def query(folder: Path, sql: str, *arguments: object) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, arguments).fetchall()


def change(folder: Path, sql: str, *arguments: object) -> None:
    """Change the database of an IOC that does not run."""
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        connection.execute(sql, arguments)


def put_row(folder: Path, topic: str, key: str, text: str) -> None:
    """Put a text where the JSON of a row is."""
    change(folder, "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", topic, key, text)


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[EventLog]:
    """Give a log that is open and written, as in a program."""
    event_log = EventLog(folder)
    event_log.open()
    writer = asyncio.create_task(event_log.run())
    try:
        yield event_log
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await event_log.close()
