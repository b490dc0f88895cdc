"""The reference page of the hooks, generated from the hook specifications."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from importlib.util import resolve_name
from typing import Any

from attpc_ioc.plugin import contract, spec
from attpc_ioc.plugin.checks import HOOKS

HEAD = """# Hooks

Generated from `attpc_ioc/plugin/spec.py` and `contract.py`. For a step-by-step guide see
[Write a plugin](../tutorial/write-a-plugin.md).
"""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Life", ("attpc_startup", "attpc_shutdown")),
    (
        "What a plugin contributes",
        ("attpc_settings", "attpc_pvs", "attpc_write", "attpc_cli", "attpc_online_check"),
    ),
    ("Planning and permission", ("attpc_plan", "attpc_veto", "attpc_access")),
    (
        "Run numbers and the record of runs",
        ("attpc_run_numbers", "attpc_run_records"),
    ),
    ("Events", ("attpc_event", "attpc_prepare_run")),
)
"""The hooks in the order in which a reader meets them."""


def hooks_page() -> str:
    """Return the page as Markdown. Raises `ValueError` where a hook has no document."""
    shown = {name for _, names in GROUPS for name in names}
    groups = [*GROUPS, ("More", tuple(sorted(HOOKS - shown)))]
    blocks = [HEAD, _paragraphs(spec.__doc__).partition("\n\n")[2] + "\n"]
    for title, names in groups:
        if names:
            blocks.append(f"## {title}\n")
            blocks += (_block(getattr(spec.Specification, name)) for name in names)
    blocks += _context()
    blocks.append(f"## Where the types are\n\n{''.join(_types())}")
    return "\n".join(blocks)


def _block(function: Callable[..., Any]) -> str:
    return f"### `{_signature(function)}`\n\n{_paragraphs(function.__doc__)}\n"


def _context() -> Iterator[str]:
    yield f"## `PluginContext`\n\n{_paragraphs(contract.PluginContext.__doc__)}\n"
    for name, member in vars(contract.PluginContext).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            yield _block(member)


def _types() -> Iterator[str]:
    """Yield a line for each module from which the specifications take types of the program."""
    for node in ast.walk(ast.parse(inspect.getsource(spec))):
        if isinstance(node, ast.ImportFrom) and (node.level or str(node.module).startswith("attpc_ioc.")):
            module = resolve_name("." * node.level + str(node.module), spec.__package__)
            yield f"- `{module}`: {', '.join(f'`{name.name}`' for name in node.names)}\n"


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    wanted = [p for p in signature.parameters.values() if p.name != "self"]
    # Annotations are texts and would be shown in quotes; an empty default keeps its own.
    shown = re.sub(r"''|'([^']+)'", lambda found: found[1] or "''", str(signature.replace(parameters=wanted)))
    asynchronous = "async " if inspect.iscoroutinefunction(function) else ""
    return f"{asynchronous}{function.__name__}{shown}"


def _paragraphs(text: str | None) -> str:
    if not text or not text.strip():
        raise ValueError("something on the page has no document")
    return inspect.cleandoc(text)
