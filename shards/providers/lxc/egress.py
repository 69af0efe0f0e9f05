"""Configuration of tinyproxy, the filtering proxy of the containers' network, which connects to listed hosts; pure.

Its filter matches the whole target of a request. Only the target of a CONNECT has the form ``host:443``, so one
anchored expression for each host checks the method, the exact name and the port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from myctobot.errors import InvalidRequest

_NAME = re.compile(r"\.?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?")
_MAX_LENGTH = 253
_MAX_CLIENTS = 500
# Responses of a model and large downloads may pause.
_IDLE_S = 600


def filter_text(hosts: Iterable[str]) -> str:
    """Return the filter file with one extended regular expression per line.

    Args:
        hosts: names such as ``github.com``, or ``.example.org`` for this name and all names below it.

    Raises:
        InvalidRequest: a host is not such a name; addresses are not allowed.
    """
    return "".join(f"^{_expression(host.lower())}:443$\n" for host in sorted(set(hosts)))


def _expression(host: str) -> str:
    if len(host) > _MAX_LENGTH or not _NAME.fullmatch(host):
        raise InvalidRequest(
            "This host cannot be allowed.",
            fields={"EGRESS_ALLOWED_HOSTS": [f"{host[:80]!r} is not a name such as example.org or .example.org."]},
        )
    below = r"([a-z0-9_-]+\.)*" if host.startswith(".") else ""
    return below + re.escape(host.removeprefix("."))


def configuration(
    listen: IPv4Address, port: int, clients: IPv4Network, filter_file: str, user: str | None = None
) -> str:
    """Return the configuration of tinyproxy.

    Args:
        user: user to switch to when root starts it.
    """
    return f"""\
{f"User {user}{chr(10)}Group {user}{chr(10)}" if user else ""}\
Listen {listen}
Port {port}
Allow {clients}
MaxClients {_MAX_CLIENTS}
Timeout {_IDLE_S}
ConnectPort 443
Filter "{filter_file}"
FilterURLs On
FilterExtended On
FilterCaseSensitive Off
FilterDefaultDeny Yes
DisableViaHeader Yes
LogLevel Connect
"""
