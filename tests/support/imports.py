"""Which modules of the program import which, and the circles in that."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from grimp import build_graph

HOUSE = ("attpc_ioc", "attpc_plugins")


def circles(packages: tuple[str, ...] = HOUSE) -> list[str]:
    """Return circles of imports, `a -> b -> a`; none of them shares an import with one before it.

    Every import counts: one for types only, or in a function, too needs the other module to be understood.
    """
    graph = build_graph(*packages, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}
    found: list[str] = []
    while True:
        try:
            TopologicalSorter(imports).prepare()
        except CycleError as error:
            # graphlib names it from what is imported to what imports it.
            circle: list[str] = error.args[1][::-1]
            found.append(" -> ".join(circle))
            for importer, imported in pairwise(circle):
                imports[importer] = imports[importer] - {imported}
        else:
            return found
