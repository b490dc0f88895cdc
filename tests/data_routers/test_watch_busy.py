"""A host that is busy closing files is left alone, and what was seen of it stands meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time

from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.settings import DataRoutersSettings
from attpc_plugins.data_routers.watch.poll import Watch

from tests.support.simfleet import wait_until

PERIOD_S = 0.1


async def test_a_busy_host_is_not_looked_at_and_stays_valid(tmp_path):
    settings = DataRoutersSettings.model_validate(
        {"router": [{"sources": ["CoBo0"], "access": "local", "staging": str(tmp_path), "process": ""}]}
    )
    host = host_for(settings.router[0], settings)
    busy, looks = False, list[float]()
    watch = Watch(
        "CoBo0",
        host,
        period_s=PERIOD_S,
        timeout_s=1.0,
        wanted=lambda: None,
        busy=lambda: busy,
        on_poll=lambda: looks.append(time.monotonic()),
    )
    task = asyncio.create_task(watch.run())
    try:
        await wait_until(lambda: len(looks) >= 3, what="three looks")
        busy = True
        began_s = time.monotonic()
        await wait_until(lambda: time.monotonic() > began_s + 6 * PERIOD_S, what="six periods")
        # One may have been under way when it began.
        assert len([at_s for at_s in looks if at_s > began_s + PERIOD_S]) == 0
        assert watch.answering
        assert watch.fault == ""
        busy = False
        count = len(looks)
        await wait_until(lambda: len(looks) >= count + 2, what="looks again")
        # It goes away while it is busy: that is known within two periods of being asked again.
        busy = True
        busy_s = time.monotonic()
        await wait_until(lambda: time.monotonic() > busy_s + 2 * PERIOD_S, what="the last look is over")
        tmp_path.rename(tmp_path.with_name("away"))
        gone_s = time.monotonic()
        await wait_until(lambda: time.monotonic() > gone_s + 3 * PERIOD_S, what="three periods")
        assert watch.answering
        busy = False
        await wait_until(lambda: watch.answering is False, 0.2 + 2 * PERIOD_S + 0.3, "it is gone")
        assert "there is no" in watch.fault
        tmp_path.with_name("away").rename(tmp_path)
        await wait_until(lambda: watch.answering is True, what="it is back")
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await host.disconnect()
