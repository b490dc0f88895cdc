"""Who signs in on the page starts and stops runs by clicks; what is refused says every reason."""

from __future__ import annotations

from attpc_plugins.web.tokens import Role
from playwright.async_api import Page

from attpc_ioc.model.command import RUN
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from tests.support.browser import PHONE, Pages, go, pages, shows, until_text, violations
from tests.support.history import NAME, connected, drained, given_plugins
from tests.support.run_records import used_config
from tests.support.web import WebRig, web_rig

STATE = ".runstate .word"


async def signed_in(opened: Pages, it: WebRig, name: str = "alice") -> Page:
    """Open the page and sign in with a new token, by keyboard."""
    page = await opened.open(f"{it.url}/#/signin")
    await page.get_by_label("Token").fill(it.token(name))
    await page.keyboard.press("Enter")
    await shows(page, ".person", name)
    await page.wait_for_selector('html[data-link="live"]')
    return page


async def test_a_run_is_started_and_stopped_by_clicks(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, mutant=True) as it:
        page = await signed_in(opened, it)
        await it.rig.select()
        await page.get_by_role("button", name="All to Ready").click()
        await it.rig.until_all(State.READY)
        await page.get_by_label("Title").fill("by clicks")
        await page.get_by_label("Title").press("Enter")
        await shows(page, ".title .v", "by clicks")
        await page.get_by_role("button", name="Start run").click()
        await shows(page, STATE, "Running")
        assert it.rig.run.state is RunState.RUNNING
        assert await it.rig.get_text("Run:Title") == "by clicks"
        # No question comes before a stop.
        await page.get_by_role("button", name="Stop run").click()
        await shows(page, STATE, "Stopped")
        await it.rig.until_run(RunState.STOPPED)
        # Going back asks first.
        await go(page, "fleet")
        await page.get_by_role("button", name="Idle", exact=True).click()
        assert "Those that are beyond it go back" in await page.get_by_role("dialog").inner_text()
        assert await violations(page) == []
        await page.keyboard.press("Escape")
        assert it.rig.module("cobo0").state is State.READY
        await page.get_by_role("button", name="Idle", exact=True).click()
        await page.get_by_role("dialog").get_by_role("button", name="Idle").click()
        await it.rig.until_all(State.IDLE)
        assert await opened.faults(it.url, expected=(503,)) == []


async def test_a_refusal_shows_every_reason(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, mutant=True) as it:
        page = await signed_in(opened, it)
        assert await page.get_by_role("button", name="Start run").is_disabled()
        await it.rig.until_all(State.IDLE)
        status, problem = await it.put("Run:Start", 1, it.token("bob"))
        assert status == 409
        assert len(problem["reasons"]) >= 1
        # As if the state changed between the last message and the click.
        await page.evaluate(
            "() => { const it = document.querySelector('button.start'); it.disabled = false; it.click(); }"
        )
        notice = page.locator(".notices .notice")
        await notice.wait_for()
        said = await notice.inner_text()
        assert "Start run: Refused" in said
        assert all(reason in said for reason in problem["reasons"]), (said, problem)
        assert await violations(page) == []
        await notice.get_by_role("button", name="Dismiss").click()
        # An entry keeps what was typed, with the reason beside it.
        await go(page, "sheet")
        field = page.get_by_label("Experiment")
        await field.fill("no <b>name</b>")
        await field.press("Enter")
        await until_text(page, ".entry .said", "cannot be an experiment's name")
        assert await field.input_value() == "no <b>name</b>"
        # It stays while another view is looked at.
        await go(page, "alarms")
        await go(page, "sheet")
        assert await field.input_value() == "no <b>name</b>"
        await field.press("Escape")
        await go(page, "alarms")
        await go(page, "sheet")
        assert await field.input_value() == await it.rig.get_text("Run:Experiment")


async def test_a_right_that_is_taken_away_is_gone_on_the_open_page(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch) as it:
        page = await signed_in(opened, it)
        stop = page.get_by_role("button", name="Stop run")
        assert await stop.is_enabled()
        assert it.plugin.tokens is not None
        it.plugin.tokens.revoke("alice")
        await shows(page, ".person", "Sign in")
        assert await stop.is_disabled()
        assert await page.locator(".offer").is_visible()
        await until_text(page, ".notices .notice", "Your token was revoked, or has expired")


async def test_sign_in_and_out(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch) as it:
        page = await opened.open(f"{it.url}/#/signin")
        await page.get_by_label("Token").fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await until_text(page, ".said", "wrong, has expired or was revoked")
        page = await signed_in(opened, it)
        await go(page, "signin")
        await until_text(page, "main", "Signed in as alice (operator)")
        assert await violations(page) == []
        await page.get_by_role("button", name="Sign out").click()
        await shows(page, ".person", "Sign in")
        assert await page.evaluate("document.cookie") == ""


async def test_runs_are_looked_for_and_edited(tmp_path, monkeypatch, dsn, browser):
    section = {f"plugins.{NAME}": f'dsn = "{dsn}"'}
    async with (
        pages(browser) as opened,
        web_rig(tmp_path, monkeypatch, plugins=given_plugins(), alone=False, **section) as it,
    ):
        await connected(it.rig)
        for title in ("first <i>light</i>", "gain scan"):
            await it.rig.ok("Run:Title", title)
            await it.rig.start_run()
            assert (await it.rig.submit("Stop", RUN)).ok
            await it.rig.until_run(RunState.STOPPED)
        await drained(it.rig)
        for number, gain in enumerate(("120", "240")):
            await used_config(dsn, "unnamed", number, f"<Setup>\n<Gain>{gain}</Gain>\n</Setup>\n")
        page = await signed_in(opened, it)
        await go(page, "runs")
        await page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 2")
        assert await page.locator("tbody th").all_inner_texts() == ["1", "0"]
        await page.get_by_label("Text").fill("light")
        await page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 1")
        assert await violations(page) == []
        await page.get_by_role("link", name="0", exact=True).click()
        await until_text(page, ".title", "first <i>light</i>")
        await go(page, "runs/unnamed/1")
        await until_text(page, "tr", "Titlefirst <i>light</i>gain scan")
        await until_text(page, ".diff .added", "+<Gain>240</Gain>")
        await page.get_by_label("Comment").fill("beam <b>tripped</b>")
        await page.get_by_label("Quality").select_option("Bad")
        await page.get_by_role("button", name="Save").click()
        await until_text(page, "dd", "beam <b>tripped</b>")
        await until_text(page, "tr", "alice")
        assert await violations(page) == []
        _, run = await it.get("/api/v1/runs/unnamed/1")
        assert (run["run"]["comment"], run["run"]["quality"]) == ("beam <b>tripped</b>", "Bad")
        assert await page.locator("main i, main b").count() == 0
        # What goes on is followed, and does not look like the present without a connection.
        await it.rig.start_run()
        await drained(it.rig)
        await go(page, "runs/unnamed/2")
        await until_text(page, "dd .tile", "running")
        await until_text(page, "main", "No configuration files are on record for run 2.")
        await page.get_by_label("Comment").fill("kept")
        assert (await it.rig.submit("Stop", RUN)).ok
        await until_text(page, "dd", "stopped")
        assert await page.get_by_label("Comment").input_value() == "kept"
        await go(page, "runs")
        await go(page, "runs/unnamed/2")
        assert await page.get_by_label("Comment").input_value() == "kept"
        # A wall screen shows the run whole, however long the log is.
        for _ in range(25):
            assert (await it.put("Run:Experiment", "no name", it.token("alice")))[0] != 200
        it.rig.fleet["cobo0"].faults.die()
        await page.set_viewport_size({"width": 1920, "height": 820})
        await go(page, "run")
        await page.wait_for_function("() => document.querySelectorAll('.log li').length >= 20")
        await page.wait_for_selector(".alarm")
        assert await page.evaluate("document.documentElement.scrollHeight") == 820
        await page.set_viewport_size(PHONE)  # pyright: ignore[reportArgumentType]
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert await opened.faults(it.url) == []


async def test_where_only_named_people_may_look_the_page_asks_who_one_is(tmp_path, monkeypatch, browser):
    async with pages(browser) as opened, web_rig(tmp_path, monkeypatch, 'view = "named"') as it:
        page = await opened.open(it.url, live=False)
        await page.get_by_label("Token").wait_for()
        assert await page.locator(".v, .tile").count() == 0
        assert await violations(page) == []
        await page.get_by_label("Token").fill(it.token("alice", Role.VIEWER))
        await page.keyboard.press("Enter")
        await shows(page, STATE, "Stopped")
        assert await page.locator("main button.command:enabled").count() == 0
        assert await opened.faults(it.url, expected=(401,)) == []
        assert it.plugin.tokens is not None
        it.plugin.tokens.revoke("alice")
        await page.get_by_label("Token").wait_for()
