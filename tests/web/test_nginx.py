"""The page behind nginx, with the configuration that the how-to shows."""

from __future__ import annotations

import aiohttp

from tests.support.browser import link, pages, shows, until_text
from tests.support.needs import needs
from tests.support.nginx import COOKIE, Front, nginx, proxy_section
from tests.support.patience import PATIENCE_S
from tests.support.web import WebRig, streaming, web_rig

pytestmark = needs("nginx")


def known(front: Front, name: str) -> dict[str, str]:
    """Let somebody be signed in; returns the headers of their browser."""
    front.people.add(name)
    return {"Cookie": f"{COOKIE}={name}"}


async def test_nginx_gives_the_name_and_holds_nothing_back(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch, proxy_section(tmp_path)) as it, nginx(tmp_path) as front:
        connector = aiohttp.TCPConnector(ssl=front.trust)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            page = WebRig(it.rig, it.plugin, front.url, client)
            # Who has no session sees how to get one, and nothing else.
            status, text = await page.get("/")
            assert (status, "Who are you?" in text) == (403, True)
            assert (await page.get("/api/v1/snapshot"))[0] == 401
            # Who has one is known, whatever else the browser says.
            alice = known(front, "alice")
            forged = alice | {"X-Remote-User": "mallory", "Authorization": "Bearer wrong"}
            status, session = await page.get("/api/v1/session", headers=forged)
            assert (status, session["name"], session["by"]) == (200, "alice", "proxy")
            assert session["sign_out"] == "/oauth2/sign_out"
            own = alice | {"Origin": front.url, "X-CSRF-Token": session["csrf"]}
            async with streaming(page, headers=alice) as stream:
                assert (await stream.next())[0] == "snapshot"
                assert (await page.put("Run:Title", "by nginx", **own))[0] == 200
                await stream.until(f"{it.rig.prefix}Run:Title", "by nginx")
            status, problem = await page.ask("DELETE", "/api/v1/session", headers=own)
            assert (status, "sign out there" in problem["detail"]) == (409, True)


async def test_the_page_leads_to_the_proxys_sign_in_and_out(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, proxy_section(tmp_path)):
        async with nginx(tmp_path) as front:
            page = await opened.open(front.url, live=False)
            await page.get_by_role("button", name="Sign in as alice").click()
            await shows(page, ".person", "alice")
            await page.get_by_role("link", name="alice").click()
            await page.get_by_role("link", name="Sign out").click()
            await page.get_by_role("button", name="Sign in as alice").click()
            await shows(page, ".person", "alice")
            await link(page, "live")
            # A click after the end of the proxy's session is not lost without a word.
            front.people.clear()
            await page.get_by_role("button", name="Stop run").click()
            await until_text(page, ".notice", "Stop run: Not signed in")
            await shows(page, ".person", "Sign in")
            await page.locator(".notice").get_by_role("button", name="Sign in again").click()
            await page.get_by_role("button", name="Sign in as alice").click()
            await shows(page, ".person", "alice")
            front.people.clear()
        # Nor does the page go on saying that the IOC is away.
        async with nginx(tmp_path, front):
            await page.get_by_role("button", name="Sign in as alice").wait_for()
