"""Makes the back end that the settings ask for."""

from __future__ import annotations

from attpc_plugins.data_routers.settings import Access, DataRoutersSettings, EccHostSettings, RouterSettings

from .host import ConfigHost, FileHost, SentryHost
from .limits import CallLimits
from .local import LocalConfigHost, LocalHost
from .sentry import HttpSentryHost
from .ssh import SshConfigHost, SshHost, target_of


def host_for(router: RouterSettings, settings: DataRoutersSettings) -> FileHost | SentryHost:
    """Return the host of a data router; nothing is connected before the first call."""
    limits = CallLimits.of(settings)
    if router.access is Access.LOCAL:
        return LocalHost(router, limits)
    if router.access is Access.SSH:
        return SshHost(router, target_of(router, settings), limits)
    return HttpSentryHost(router, limits)


def config_host_for(ecc: EccHostSettings, settings: DataRoutersSettings) -> ConfigHost:
    """Return where an ECC server's files are; nothing is connected before the first call."""
    limits = CallLimits.of(settings)
    if ecc.access is Access.LOCAL:
        return LocalConfigHost(ecc, limits)
    return SshConfigHost(ecc, target_of(ecc, settings), limits)
