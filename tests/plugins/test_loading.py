"""What is refused at start-up, and that every hook has a document and a test."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import tests.plugins
from attpc_ioc.errors import PluginError, SettingsError
from attpc_ioc.model.command import RUN, SYSTEM, Command, CommandName
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.plan import Plan
from attpc_ioc.plugin import hookimpl
from attpc_ioc.plugin.checks import HOOKS
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.plugin.spec import DECISIONS, Specification
from tests.support.probe import COVERED
from tests.support.rig import rig


def plugin(**hooks):
    return type("Made", (), hooks)()


def marked(function):
    return hookimpl(function)


def misspelt(self, plan):
    return None


async def waits(self, plan):
    return None


def wrapped(self, plan):
    yield


def wrong_argument(self, plan, weather):
    return None


def unreadable():
    raise OSError("no file of limits")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (plugin(attpc_vetoo=marked(misspelt)), "unknown hook 'attpc_vetoo'"),
        (plugin(attpc_vetoo=lambda self, plan: None), "there is no hook attpc_vetoo"),
        (plugin(attpc_veto=lambda self, plan: None), "attpc_veto is not marked with @hookimpl"),
        (plugin(attpc_veto=marked(waits)), "attpc_veto is a decision: it must be a plain function"),
        (plugin(attpc_veto=hookimpl(wrapped, wrapper=True)), "attpc_veto is a wrapper"),
        (plugin(attpc_veto=marked(wrong_argument)), "weather"),
    ],
)
def test_a_slip_is_reported_at_start_up(made, reason):
    with pytest.raises(PluginError, match=r"plugin slip \(given\)") as raised:
        PluginHost().register(made, "slip", "given")
    assert reason in str(raised.value)


def test_names_of_plugins_are_parts_of_pv_names():
    with pytest.raises(PluginError, match="its name must be"):
        PluginHost().register(plugin(), "my plugin")
    host = PluginHost()
    host.register(plugin(), "twice")
    with pytest.raises(PluginError, match="of this name is already registered"):
        host.register(plugin(), "twice")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(unreadable, "OSError: no file of limits"), (lambda: 5, "attpc_settings gave 5, not a model")],
)
def test_settings_that_cannot_be_described_end_the_start_up(answer, reason):
    host = PluginHost()
    host.register(plugin(attpc_settings=marked(lambda self: answer())), "odd")
    with pytest.raises(PluginError, match="plugin odd") as raised:
        host.check_sections()
    assert reason in str(raised.value)


async def test_an_unknown_section_ends_the_start_up(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"plugins\.valv: no such plugin; installed are: mapping"):
        async with rig(tmp_path, monkeypatch, cobos=1, **{"plugins.valv": "x = 1"}):
            pass


def test_every_hook_has_a_document_and_a_test():
    for module in pkgutil.iter_modules(tests.plugins.__path__):
        importlib.import_module(f"tests.plugins.{module.name}")
    assert set(COVERED) == HOOKS
    for hook in HOOKS:
        document = inspect.getdoc(getattr(Specification, hook)) or ""
        # What kind it is tells what an exception does.
        word = "Decision" if hook in DECISIONS else "Notification"
        asynchronous = "Async" in document and hook not in DECISIONS
        assert word in document or asynchronous, hook


def installed(folder, **modules: str) -> None:
    """Put a distribution `attpc-made` with these modules as plugins into a folder."""
    info = folder / "attpc_made-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attpc-made\nVersion: 2.0\n")
    points = "".join(f"{name} = made_{name}\n" for name in modules)
    (info / "entry_points.txt").write_text(f"[attpc_ioc]\n{points}")
    for name, text in modules.items():
        (folder / f"made_{name}.py").write_text(text)


def test_installed_plugins_that_cannot_be_imported_are_named(tmp_path, monkeypatch):
    installed(
        tmp_path,
        fine="from attpc_ioc.plugin import hookimpl\n\n\n@hookimpl\ndef attpc_veto(plan):\n    return 'no'\n",
        lacks="import no_such_library\n",
        leaves="import sys\n\nsys.exit(4)\n",
        off="raise AssertionError('a plugin that is switched off is not even imported')\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    host = PluginHost({"off": {"enabled": False}})
    host.load_entry_points()
    shown = {name: (p.status.name, p.message) for name, p in host.plugins.items() if "made" in p.origin}
    assert shown == {
        "fine": ("OK", ""),
        "lacks": ("FAILED", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_library'"),
        "leaves": ("FAILED", "cannot be loaded: SystemExit: 4"),
        "off": ("OFF", "switched off in the settings"),
    }
    assert host.plugins["fine"].origin == "attpc-made 2.0"
    assert host.hooks_of("fine") == ["attpc_veto"]
    # They might have had a veto, or own the run numbers: no run is started without them.
    against = [str(reason) for reason in host.vetoes(Plan(Command(RUN, CommandName.START)), Fleet())]
    assert sorted(text.split()[1] for text in against if text.startswith("plugin")) == ["lacks", "leaves"]
    assert [str(r) for r in host.vetoes(Plan(Command(SYSTEM, CommandName.RESET)), Fleet())] == ["no"]
