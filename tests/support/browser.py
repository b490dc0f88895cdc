"""A real browser: one Chromium for each test worker, and pages in it that notice every fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Response, async_playwright

from tests.support.needs import browser
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S

WALL = {"width": 1920, "height": 1080}
PHONE = {"width": 375, "height": 812}
VIEWS = ("run", "fleet", "fleet/cobo0", "runs", "sheet", "alarms", "pvs", "signin")


@contextlib.contextmanager
def chromium() -> Iterator[str]:
    """Run Chromium without a screen; gives the address at which it is driven."""
    program = browser()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as folder:
        options = ["--headless", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-first-run"]
        # A window of its own that is still being made can hold up whoever connects meanwhile.
        options.append("--no-startup-window")
        options += ["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        # A sandbox cannot be made by root, nor where no user namespace can.
        options.append("--no-sandbox")
        process = subprocess.Popen(
            [program, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield f"http://127.0.0.1:{_port(Path(folder), process)}"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it has started: Debian's `chromium-headless-shell` is a script."""
    until = time.monotonic() + PATIENCE_S
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < until:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _port(folder: Path, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            return int((folder / "DevToolsActivePort").read_text().splitlines()[0])
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start: exit code {process.poll()}")


class Pages:
    """Pages of one test. What goes wrong in any of them is in `faults`."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._failed: list[tuple[str, int, str]] = []
        self._said: list[str] = []

    async def open(
        self, url: str, *, size: dict[str, int] = WALL, scheme: Any = "light", live: bool = True
    ) -> Page:
        """Open a page of the IOC in a session of its own, and wait until it is `live`."""
        phone = size is PHONE
        context = await self._browser.new_context(
            viewport=size,  # pyright: ignore[reportArgumentType]
            color_scheme=scheme,
            is_mobile=phone,
            has_touch=phone,
            ignore_https_errors=True,
        )
        context.set_default_timeout(PATIENCE_S * 1000)
        page = await context.new_page()
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self._said.append(str(error)))
        page.on("response", self._response)
        await page.goto(url)
        if live:
            await page.wait_for_selector('html[data-link="live"]')
        return page

    def _console(self, kind: str, text: str) -> None:
        # Chromium says of each answer that is an error what `_response` knows better.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self._said.append(text)

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            request = response.request
            self._failed.append((request.method, response.status, response.url))

    async def faults(self, url: str, *, expected: tuple[int, ...] = ()) -> list[object]:
        """Return what went wrong, but for `expected` status codes."""
        async with aiohttp.ClientSession() as client, client.get(f"{url}/api/v1/openapi.json") as response:
            offered = (await response.json())["paths"]
        failed = [one for one in self._failed if one[1] not in expected and _is_offered(one[2], url, offered)]
        return [*self._said, *failed]


def _is_offered(address: str, url: str, offered: dict[str, Any]) -> bool:
    path = address.removeprefix(url).partition("?")[0]
    return not path.startswith("/api/") or any(
        path == one or ("{" in one and path.startswith(one.partition("{")[0])) for one in offered
    )


@contextlib.asynccontextmanager
async def pages(driven_at: str) -> AsyncIterator[Pages]:
    """Open pages in the browser for the length of a block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(driven_at)
        try:
            yield Pages(browser)
        finally:
            for context in browser.contexts:
                await context.close()
            await browser.close()


async def go(page: Page, view: str) -> None:
    """Show a view, and wait until it has what it asked for."""
    await page.evaluate("view => { location.hash = `#/${view}`; }", view)
    await page.wait_for_selector(f'main[data-view="{view.partition("/")[0]}"]')
    await page.wait_for_selector('main [aria-busy="true"]:not(button)', state="detached")


async def violations(page: Page) -> list[str]:
    """Return what axe finds, one line each: the rule and the element."""
    results = await Axe().run(page)
    found: list[str] = []
    for one in results.response["violations"]:
        rule = one["id"]
        for node in one["nodes"]:
            found.append(f"{rule}: {node['html'][:160]}: {node.get('failureSummary', '')[:300]}")
    return found


async def shows(page: Page, selector: str, text: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until an element has exactly this text."""
    await page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent === text",
        arg=[selector, text],
        timeout=limit_s * 1000,
    )


async def until_text(page: Page, selector: str, part: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until any such element has this in its text."""
    await page.locator(selector).filter(has_text=part).first.wait_for(timeout=limit_s * 1000)


async def link(page: Page, state: str, limit_s: float = PATIENCE_S) -> float:
    """Wait until the page says that its connection is so; returns the seconds that it took."""
    taking = Stopwatch(programs=True)
    async with asyncio.timeout(limit_s):
        await page.wait_for_selector(f'html[data-link="{state}"]')
    return taking.s
