"""Takes the pictures of the page for browsers, of a demo of its own: `python -m tests.docs.web_pictures DIR`.

A run goes on for some minutes before, so that the plots have lines.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import async_playwright

from tests.support.browser import PHONE, WALL, chromium
from tests.support.ca import ca_place
from tests.support.process import ATTPC_IOC

PREFIX = "DEMO:"
RUN_S = 240.0


async def main(folder: Path) -> None:
    """Take both pictures."""
    place = ca_place()
    with tempfile.TemporaryDirectory() as state, chromium() as browser:
        env = place.env | {"XDG_STATE_HOME": state}
        demo = await asyncio.create_subprocess_exec(
            str(ATTPC_IOC), "demo", "--prefix", PREFIX, env=env, stdout=asyncio.subprocess.PIPE
        )
        try:
            url, file = await _told(demo)
            token = await _output(
                "web", "token", "add", "edna", "--role", "expert", "--settings", file, env=env
            )
            await _run(url, token.strip())
            await _pictures(browser, url, token.strip(), folder)
        finally:
            demo.terminate()
            await demo.wait()
            place.close()


async def _told(demo: asyncio.subprocess.Process) -> tuple[str, str]:
    """Return the page's address and the settings file, which the demo prints."""
    assert demo.stdout is not None
    text = ""
    while "Ctrl-C here ends it." not in text:
        line = await demo.stdout.readline()
        assert line, text
        text += line.decode()
    found = re.search(r"browsers is (http\S+)/", text), re.search(r"ATTPC_IOC_SETTINGS=(\S+)", text)
    assert found[0] is not None
    assert found[1] is not None
    return found[0][1], found[1][1]


async def _output(*words: str, env: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        str(ATTPC_IOC), *words, env=env, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0].decode()


async def _run(url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as client:

        async def put(name: str, value: Any) -> None:
            path = f"{url}/api/v1/pvs/{PREFIX}{name}?wait=true"
            async with client.put(path, json={"value": value}) as response:
                assert response.status == 200, await response.text()

        for name, value in (
            ("Config", "e20009"),
            ("Run:Title", "30P on H2, 300 Torr"),
            ("Run:Operator", "A. Lovelace, C. Babbage"),
            ("Run:Class", "Beam"),
            ("Run:MaxDuration", 3600),
            ("GoTo", "Ready"),
            ("Run:Start", 1),
            ("Run:Comment", "Beam tuned"),
            ("Run:Quality", "Good"),
        ):
            await put(name, value)
    await asyncio.sleep(RUN_S)


async def _pictures(at: str, url: str, token: str, folder: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(at)
        for name, size, scheme in (("web.png", WALL, "light"), ("phone.png", PHONE, "dark")):
            context = await browser.new_context(
                viewport=size,  # pyright: ignore[reportArgumentType]
                color_scheme=scheme,
                is_mobile=size is PHONE,
            )
            page = await context.new_page()
            await page.goto(f"{url}/#/signin")
            await page.get_by_label("Token").fill(token)
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_selector(".runstate.good")
            await page.wait_for_selector(".plots canvas")
            await page.wait_for_timeout(3000)
            await page.screenshot(path=folder / name)
            await context.close()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
