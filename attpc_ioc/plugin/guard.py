"""Calls into plugins: whatever they raise reaches the caller as an ordinary exception."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping
from typing import Any

import pluggy

from attpc_ioc.errors import AttpcError, PluginError


def call(impl: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    """Call an implementation with those of the arguments that it names.

    Raises what the plugin raises; a `SystemExit`, which would end the IOC, becomes `PluginError`.
    """
    try:
        return impl.function(*(arguments[name] for name in impl.argnames))
    except SystemExit as error:
        raise PluginError(f"it called sys.exit({error.code})") from error


async def tame(result: Awaitable[Any]) -> Any:
    """Await what a plugin returned; `SystemExit` and its own cancellation become `PluginError`."""
    try:
        return await result
    except SystemExit as error:
        raise PluginError(f"it called sys.exit({error.code})") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise PluginError("it cancelled itself") from error


async def bounded(result: Any, limit_s: float) -> Any:
    """Return a plugin's answer; an awaitable is awaited in its own task.

    Raises `PluginError` after `limit_s` seconds, even if the plugin resists cancellation; otherwise what the
    plugin raises.
    """
    if not inspect.isawaitable(result):
        return result
    task = asyncio.get_running_loop().create_task(tame(result))
    try:
        done, _ = await asyncio.wait((task,), timeout=limit_s)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    if not done:
        _abandon(task)
        raise PluginError(f"it took more than {limit_s:g} s")
    return task.result()


def _abandon(task: asyncio.Task[Any]) -> None:
    """Cancel a task without waiting for it, and ignore how it ends."""
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    task.cancel()


async def end(tasks: list[asyncio.Task[Any]], limit_s: float) -> int:
    """Cancel tasks and wait for at most `limit_s` seconds; returns how many did not end."""
    for task in tasks:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()
    if not tasks:
        return 0
    _, left = await asyncio.wait(tasks, timeout=limit_s)
    return len(left)


def reason_of(error: BaseException) -> str:
    """Return an exception as text for people; the program's own exceptions without their class name."""
    if isinstance(error, AttpcError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
