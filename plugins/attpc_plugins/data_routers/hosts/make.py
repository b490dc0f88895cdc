"""Makes the host object that the settings ask for.

The SSH and HTTP libraries are imported only if a host needs them: they take a fifth of the IOC's start-up.
"""

from __future__ import annotations

from attpc_ioc.model.fleet import Fleet
from attpc_plugins.data_routers.settings import Access, DataRoutersSettings, EccHostSettings, RouterSettings

from .host import ConfigHost, FileHost, FrameHost, SentryHost
from .limits import CallLimits
from .local.host import LocalConfigHost, LocalHost


def host_for(router: RouterSettings, settings: DataRoutersSettings) -> FileHost | SentryHost:
    """Return the host of a data router; nothing is connected before the first call."""
    limits = CallLimits.of(settings)
    if router.access is Access.LOCAL:
        return LocalHost(router, limits)
    if router.access is Access.SSH:
        from .ssh.host import SshHost, target_of

        return SshHost(router, target_of(router, settings), limits)
    from .sentry import HttpSentryHost

    return HttpSentryHost(router, limits)


def frame_host_for(
    router: RouterSettings, settings: DataRoutersSettings, host: FileHost | SentryHost
) -> FrameHost | None:
    """Return the host on which a router's frames are looked at: `host`, or another way to it, or None."""
    if isinstance(host, FrameHost) or router.frames is None:
        return host if isinstance(host, FrameHost) else None
    beside = router.model_copy(
        update={
            "access": router.frames,
            "host": "" if router.frames is Access.LOCAL else router.host,
            "port": router.frames_port,
        }
    )
    found = host_for(beside, settings)
    return found if isinstance(found, FrameHost) else None


def config_host_for(ecc: EccHostSettings, settings: DataRoutersSettings) -> ConfigHost:
    """Return the host of an ECC server's files; nothing is connected before the first call."""
    limits = CallLimits.of(settings)
    if ecc.access is Access.LOCAL:
        return LocalConfigHost(ecc, limits)
    from .ssh.host import SshConfigHost, target_of

    return SshConfigHost(ecc, target_of(ecc, settings), limits)


def config_hosts(settings: DataRoutersSettings, fleet: Fleet) -> dict[str, ConfigHost]:
    """Return the hosts of the ECC servers' files; a table without names is for all others."""
    named = {name for ecc in settings.ecc for name in ecc.names}
    found: dict[str, ConfigHost] = {}
    for ecc in settings.ecc:
        host = config_host_for(ecc, settings)
        for name in ecc.names or [module for module in fleet.modules if module not in named]:
            found[name] = host
    return found
