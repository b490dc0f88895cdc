"""The page in a real browser: it shows what the PVs show, and never an old value as a present one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import replace

import pytest
from attpc_plugins.web.page import FOLDER, MEDIA

from attpc_ioc.model.command import RUN
from attpc_ioc.simulator.data.options import Access
from tests.support.browser import PHONE, VIEWS, WALL, go, link, pages, shows, violations
from tests.support.ca import free_port
from tests.support.data_rig import QUICK_DATA, SECTION, section
from tests.support.iocprocess import ioc_process
from tests.support.rig import rig
from tests.support.web import NAME, web_rig

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script> & "30P" \'x\''
STATE = ".runstate .word"
CUT = """() => {
    const below = (one) => one.getBoundingClientRect().bottom;
    const parts = [...document.querySelectorAll(".plot canvas, .plot .u-legend")];
    return parts.filter((one) => below(one) > below(one.closest(".card"))).map((one) => one.className);
}"""
"""What of a plot is outside of its card."""
SLEEP = """() => {
    const real = Date.now;
    Date.now = () => real() + 3600000;
    dispatchEvent(new Event("focus"));
}"""
"""As if the machine woke up after an hour."""


async def test_the_page_shows_the_state_and_follows_it(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, mutant=True) as it:
        page = await opened.open(it.url)
        await shows(page, STATE, "Stopped")
        await shows(page, ".runnumber .v", "\N{EN DASH}")
        await it.rig.select()
        await it.rig.ok("GoTo", "Ready")
        await shows(page, '[title*=":Run:Ready_RBV"]', "Ready")
        await it.rig.ok("Run:Start")
        await shows(page, STATE, "Running")
        await shows(page, ".runnumber .v", "0")
        assert await page.title() == "Running · run 0 · AT-TPC"
        assert await page.locator(".detectorcard .tile.good").count() == 3
        it.rig.fleet["cobo0"].faults.fail("Stop", times=1)
        assert not (await it.rig.submit("Stop", RUN)).ok
        await shows(page, ".runstate .was", "the stop is not complete: stop again")
        it.rig.fleet["cobo0"].faults.slow("Stop", extra_s=2)
        stop = asyncio.create_task(it.rig.ok("Run:Stop"))
        await shows(page, ".runstate .was", "waits for cobo0")
        await stop
        await shows(page, STATE, "Stopped")
        # On paper it says when that was.
        await page.pdf()
        await page.emulate_media(media="print")
        assert re.match(r"Printed at \d{4}-.* The values are of \d{4}-", await page.inner_text(".printed"))
        await page.emulate_media(media="screen")
        await go(page, "fleet/cobo0")
        await shows(page, ".tile.large", "Ready")
        assert await opened.faults(it.url) == []


async def test_texts_of_pvs_are_only_text(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch) as it:
        for name in ("Run:Title", "Run:Operator"):
            assert (await it.rig.put_text(name, HOSTILE)).code == 0
        await it.rig.put("Run:Experiment", "<b>refused</b>")
        page = await opened.open(it.url)
        await shows(page, ".title .v", HOSTILE)
        for view in VIEWS:
            await go(page, view)
            assert await page.locator("main img, main script, main b").count() == 0, view
        assert await page.title() == "Stopped · AT-TPC"
        assert await opened.faults(it.url, expected=(503,)) == []


async def test_without_a_name_it_is_read_only(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch) as it:
        page = await opened.open(it.url)
        for view in ("run", "fleet", "fleet/cobo0", "sheet"):
            await go(page, view)
            assert await page.locator("main button.command:enabled, main .entry input:enabled").count() == 0
            assert await page.locator("main button.command").count() > 0 or view == "sheet"
        await go(page, "run")
        await page.get_by_role("main").get_by_role("link", name="Sign in").click()
        await page.wait_for_selector("#token")
        assert await opened.faults(it.url) == []


async def test_what_is_old_does_not_look_like_the_present(tmp_path, monkeypatch, browser):
    section = {f"plugins.{NAME}": f"port = {(port := free_port())}"}
    async with (
        pages(browser) as opened,
        rig(tmp_path, monkeypatch, cobos=1, mutant=False, start=False, **section) as it,
        ioc_process(it) as ioc,
    ):
        page = await opened.open(f"http://127.0.0.1:{port}/")
        await shows(page, STATE, "Stopped")
        # An IOC that hangs is noticed by its silence.
        os.kill(ioc.pid, signal.SIGSTOP)
        try:
            assert await link(page, "lost") < 3.0
            await shows(page, STATE, "Not known")
            assert re.match(r"no connection; Stopped at \d{4}-", await page.inner_text(".runstate .was"))
            assert await page.title() == "No connection · AT-TPC"
            assert await page.get_by_role("alert").filter(has_text="No connection to the IOC").is_visible()
            for view in ("alarms", "fleet"):
                await go(page, view)
                assert "Not known" in await page.inner_text(".chip")
                assert await page.locator("main .tile.good").count() == 0
        finally:
            os.kill(ioc.pid, signal.SIGCONT)
        await link(page, "live")
        await go(page, "run")
        await shows(page, STATE, "Stopped")
        # One that has ended, at once; and the page finds the next one by itself.
        await ioc.kill()
        assert await link(page, "lost") < 3.0
        await shows(page, STATE, "Not known")
        await ioc.start()
        await link(page, "live")
        await shows(page, STATE, "Stopped")
        assert not await page.locator(".banner").is_visible()


async def test_an_alarm_has_what_is_not_known_because_of_it_and_says_what_to_do_once(
    tmp_path, monkeypatch, browser
):
    data = replace(QUICK_DATA, folder=tmp_path / "hosts", access=(Access.SENTRY,))
    routers = {SECTION: section()}
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, data=data, **routers) as it:
        page = await opened.open(it.url)
        await it.rig.fleet.routers["CoBo[0]"].stop()
        await go(page, "alarms")
        alarm = page.locator(".allalarms .alarm").filter(has_text="CoBo0:Router:Online_RBV")
        await alarm.filter(has_text="Major").filter(has_text="For the same reason").wait_for()
        text = await alarm.inner_text()
        assert "no process" in text
        assert "Router:DiskFree_RBV Invalid" in text
        assert text.count("What to do:") == 1
        await go(page, "run")
        await page.locator(".runstate").filter(has_text="CoBo0:Router:Online_RBV and ").wait_for()
        await go(page, "alarms")
        assert (
            await page.locator(".allalarms .alarm").filter(has_text="CoBo0:Router:DiskFree_RBV").count() == 0
        )
        assert await opened.faults(it.url) == []


async def test_after_sleep_it_connects_anew(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch) as it:
        page = await opened.open(it.url)
        async with page.expect_request("**/api/v1/stream"):
            await page.evaluate(SLEEP)
        await link(page, "live")
        await it.rig.ok("Run:Title", "after sleep")
        await shows(page, ".title .v", "after sleep")
        # If another version is served then, it loads itself anew.
        await page.evaluate("() => { window.old = true; }")
        assert it.plugin.service is not None
        files = it.plugin.service._web._page._files
        files["/"] = replace(files["/"], etag='"another"')
        await page.evaluate(SLEEP)
        await page.wait_for_function("() => !window.old")
        await link(page, "live")


async def test_nothing_is_wider_than_a_phone_or_cut(tmp_path, monkeypatch, browser):
    data = {"data": replace(QUICK_DATA, folder=tmp_path / "hosts", access=(Access.LOCAL,))}
    async with (
        pages(browser) as opened,
        web_rig(tmp_path, monkeypatch, mutant=True, **data, **{SECTION: section()}) as it,
    ):
        assert (await it.rig.put_text("Run:Title", "W" * 200)).code == 0
        page = await opened.open(it.url, size=PHONE)
        for view in VIEWS:
            await go(page, view)
            assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], view
        await go(page, "run")
        box = await page.get_by_role("button", name="Stop run").bounding_box()
        assert box is not None
        assert box["height"] >= 44
        assert box["y"] + box["height"] <= PHONE["height"]
        page = await opened.open(f"{it.url}/#/fleet")
        await page.wait_for_selector(".u-legend")
        assert await page.evaluate(CUT) == []
        assert await opened.faults(it.url, expected=(503,)) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_any_view(tmp_path, monkeypatch, browser, scheme):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, mutant=True) as it:
        await it.rig.until_all(it.rig.module("cobo0").state)
        page = await opened.open(it.url, size=WALL, scheme=scheme)
        for view in VIEWS:
            await go(page, view)
            assert await violations(page) == [], view
        await page.emulate_media(media="print")
        assert (
            await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
            == "rgb(255, 255, 255)"
        )
        await page.emulate_media(media="screen")
        it.rig.fleet["cobo0"].faults.die()
        await it.rig.until(lambda: not it.rig.module("cobo0").online)
        for view in ("run", "alarms", "fleet/cobo0"):
            await go(page, view)
            await page.wait_for_selector(".count:visible")
            assert await violations(page) == [], view
        await it.rig.stop_ioc()
        await link(page, "lost")
        assert await violations(page) == []


def test_the_page_is_light_and_whole():
    files = [path for path in FOLDER.iterdir() if path.suffix in MEDIA]
    assert sum(path.stat().st_size for path in files) < 250_000
    names = {path.name for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8")
        used = re.findall(r'/static/([\w.]+)|from "\./([\w.]+)"', text)
        assert {first or second for first, second in used} <= names, path.name
        assert "innerHTML" not in text, path.name
        if path.name != "uplot.js":
            assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=", html)
    assert "MIT" in (FOLDER / "uplot.LICENSE.txt").read_text(encoding="utf-8")
