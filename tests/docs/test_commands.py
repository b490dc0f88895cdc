"""The commands that the documents show, given to the demo and to the shell, and the generated pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from attpc_ioc.cli.demo import TRY_NEXT
from attpc_ioc.cli.program import app
from attpc_ioc.settings import parse_settings
from tests.docs.pages import PAGES
from tests.support.ca import ca_place, caget
from tests.support.pages import ROOT, commands, dialogue
from tests.support.process import FORKED, Running, environment, started

DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.fixture
def place():
    place = ca_place()
    yield place
    place.close()


def plain(line: str) -> str:
    return " ".join(line.split())


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-run.md"])
async def test_what_a_page_shows_of_the_demo(page, tmp_path, place, state_home):
    env = environment(place, tmp_path, state_home)
    async with started(FORKED, "demo", env=env, folder=tmp_path) as demo:
        await demo.until("Ctrl-C here ends it.")
        kept = Path(state_home["XDG_STATE_HOME"]) / "attpc-ioc/demo/demo.toml"
        assert 'fleet = "demo on ' in kept.read_text()  # the same at each start, whatever its ports
        assert kept.stat().st_mode & 0o777 == 0o600
        await offered(place)
        async with started("sh", "-c", script(page), env=env, folder=tmp_path) as shell:
            assert await shell.wait(60) == 0, shell.text
        said = [(c, lines) for c, lines in dialogue(page) if not c.startswith("export ")]
        for (command, expected), shown in zip(said, split(shell), strict=True):
            for line in expected:
                assert as_shown(line, shown), f"{command}: {shown}"
        assert (await demo.end())[0] == 0
        assert "error" not in demo.text


def script(page: str) -> str:
    """The page's commands as one shell script that says what it does."""
    lines = [command for command, _ in dialogue(page) if not command.startswith("export ")]
    return "\n".join(f"echo '=== {line}'\n{line}" for line in lines)


def split(shell: Running) -> list[list[str]]:
    """What each command of the script printed."""
    found: list[list[str]] = []
    for line in shell.lines:
        if line.startswith("=== "):
            found.append([])
        else:
            found[-1].append(plain(line))
    return found


def as_shown(line: str, shown: list[str]) -> bool:
    """Whether a line of the page was printed; one that ends in dots may go on."""
    line = plain(line)
    if line.endswith("…"):
        return any(other.startswith(line.removesuffix("…")) for other in shown)
    return line in shown


async def offered(place) -> None:
    """Wait until the servers have told what they offer, as a person who reads on has done."""
    names = ""
    for _ in range(100):
        names = (await caget(place, "-t", "DEMO:ConfigNames_RBV")).out
        if "e20009" in names:
            return
    raise AssertionError(f"the demo offers {names}")


async def test_the_readme_shows_the_lines_that_the_demo_prints(place, tmp_path):
    in_readme = commands("README.md", "demo")
    printed = [
        line.strip()
        for line in TRY_NEXT.format(prefix="DEMO:", cobos=10, setting="export", data="").splitlines()
    ]
    assert in_readme[0].startswith("export PATH=")
    assert in_readme[1:] == printed[3:7]


@pytest.mark.parametrize("name", PAGES)
def test_reference_pages_are_up_to_date(name):
    shown, made = (ROOT / "docs/reference" / name).read_text(), PAGES[name]()
    if name == "commands.md":
        # The layout is typer's and differs a little from version to version; the words are ours.
        words = set(re.findall(r"--[a-z-]+|^## `[a-z -]+`", made, re.MULTILINE))
        assert words == set(re.findall(r"--[a-z-]+|^## `[a-z -]+`", shown, re.MULTILINE)), "make docs"
        assert {"## `run`", "## `history export`", "## `observables add`", "## `db restore`"} <= words
    else:
        assert shown == made, "make docs"


def test_shell_commands_of_the_documents_exist():
    known = set(typer.main.get_command(app).list_commands(None))
    # Plugins of this project bring their own, by `attpc_cli`.
    plugins = "".join(path.read_text() for path in (ROOT / "plugins").rglob("*.py"))
    for page in DOCUMENTS:
        fenced = re.findall(
            r"^```(?:sh|console)$(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
        )
        given = re.findall(r"^(?:\$ )?attpc-ioc ([a-z-]+)", "\n".join(fenced), re.MULTILINE)
        unknown = {name for name in given if name not in known and f'"{name}"' not in plugins}
        assert not unknown, page


@pytest.mark.parametrize("page", DOCUMENTS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


async def test_the_settings_that_the_documents_have_written_are_right(tmp_path, place):
    page = (ROOT / "docs/how-to/set-up-a-fleet.md").read_text()
    lines = re.findall(r"^attpc-ioc init .*$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        async with started(
            "sh", "-c", f"{line} --output -", env=environment(place, tmp_path), folder=tmp_path
        ) as init:
            assert await init.wait() == 0
        assert parse_settings(init.text, line).ecc


def test_the_service_runs_what_there_is():
    unit = (ROOT / "deploy/attpc-ioc.service").read_text()
    assert "ExecStart=/opt/attpc-ioc/bin/attpc-ioc run " in unit
    sections = re.findall(r"^\[(\w+)\]$", unit, re.MULTILINE)
    assert sections == ["Unit", "Service", "Install"]


MESSAGES = (
    "not Ready",
    "stop it first",
    "is in transition ",
    "was not seen yet",
    "no ECC server is enabled",
    "no config is selected",
    "is running; Abort ends that",
    "the CoBos need the MuTAnT's clock",
    "prepare the MuTAnT first",
    "the MuTAnT aligns the CoBos when they are all Ready",
    "the IOC is shutting down",
    "stop again to go on with the rest",
    "was not seen out of Running",
    "restart the ECC server on ",
    "its clock is stale: the MuTAnT was taken back below Prepared; GoTo takes it down and up again",
    "GoTo Ready takes it back to ",
    "another stop does not help",
    "a board does not answer, or was switched off and on: see that it is on, then GoTo Ready",
    "what was loaded is lost, and where it is ",
    "is used up",
    "this ECC server drives",
    "does not offer",
    "nothing was changed",
    "is using it",
    "cannot be written",
    "it is kept as",
    "give the next number with",
    "has not answered our ",
    "has not arrived after",
)


@pytest.mark.parametrize("words", MESSAGES)
def test_messages_of_the_how_to_are_those_of_the_program(words):
    page = plain((ROOT / "docs/how-to/when-something-is-wrong.md").read_text())
    source = "".join(path.read_text() for path in (ROOT / "attpc_ioc").rglob("*.py"))
    assert words.strip() in page
    assert words in source
