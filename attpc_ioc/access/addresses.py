"""The hosts of the rules as addresses, for sites that do not trust the names that clients send."""

from __future__ import annotations

import socket

from .rules import Rules


def by_address(rules: Rules) -> tuple[Rules, list[str]]:
    """Return the rules with IPv4 addresses for hosts, and the hosts that have none.

    It asks the name server and may take long, so call it in a thread. A host without an address matches no
    client: neither does a rule that names only such hosts.
    """
    found = {host: _addresses(host) for host in rules.hosts}
    return rules.with_hosts(found), sorted(host for host, addresses in found.items() if not addresses)


def _addresses(host: str) -> tuple[str, ...]:
    try:
        return tuple(
            dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, None, socket.AF_INET))
        )
    except (OSError, UnicodeError):
        return ()
