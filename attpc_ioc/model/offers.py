"""The configurations on offer: an index chooses from the same lists that the PVs show."""

from __future__ import annotations

from .config import ConfigName, experiment_name
from .fleet import Fleet, ModuleView

LISTED_MOST = 1024
"""Names that a PV which lists them has places for; a server may offer some 4,000."""


class CommonNames:
    """The experiment-wide names that all enabled servers offer, in the order of the first of them.

    They are computed only when the offers have changed: with a thousand servers and hundreds of names each
    this would otherwise take most of a refresh.
    """

    def __init__(self) -> None:
        self._offers: tuple[tuple[ConfigName, ...] | None, ...] = ()
        self._names: tuple[str, ...] = ()

    def __call__(self, fleet: Fleet) -> tuple[str, ...]:
        """Return the names; none while a server has not reported what it offers."""
        offers = tuple(m.offered for m in fleet.enabled)
        if offers != self._offers:
            self._offers, self._names = offers, _in_all(offers)
        return self._names


def _in_all(offers: tuple[tuple[ConfigName, ...] | None, ...]) -> tuple[str, ...]:
    if not offers or any(offer is None for offer in offers):
        return ()
    lists = [dict.fromkeys(filter(None, map(experiment_name, offer or ()))) for offer in offers]
    first, *others = lists
    return tuple(name for name in first if all(name in other for other in others))


common_names = CommonNames()
"""For `ConfigNames_RBV` and for an index into it."""


def offered_names(module: ModuleView) -> tuple[str, ...]:
    """Return the full names that a module's server offers, in its order (of `Configs_RBV` and its index)."""
    return tuple(str(config) for config in module.offered or ())
