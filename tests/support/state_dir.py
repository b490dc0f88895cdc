"""The state directory as tests spoil it, and as a program writes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attpc_ioc.control.store import StateStore


def make_unwritable(folder: Path) -> None:
    """Put a file where the folder is: nobody, root included, can write into it."""
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way")


def make_writable(folder: Path) -> None:
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)


async def save(folder: Path, name: str, document: dict[str, object]) -> None:
    """Write one document as an IOC does."""
    store = StateStore(folder)
    store.open()
    writer = asyncio.create_task(store.run())
    store.save(name, document)
    await store.flush()
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await store.close()
