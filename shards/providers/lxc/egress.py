"""The filtering proxy of the containers' network: tinyproxy, which connects to names of a list alone. Pure.

Its filter looks at a request's whole target. Only that of a CONNECT reads ``host:443``, so one anchored expression a
host says it all: the method, the name as it is written, and the port. What is spelled in any other way is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from myctobot.errors import InvalidRequest

_NAME = re.compile(r"\.?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?")
_LONGEST = 253
_MOST_CLIENTS = 500
# A model's answer or a large fetch may pause.
_IDLE_S = 600


def filter_text(hosts: Iterable[str]) -> str:
    """The filter file: one extended regular expression a line.

    Args:
        hosts: names such as ``github.com``, or ``.example.org`` for that and all names below it.

    Raises:
        InvalidRequest: one is no such name; addresses are none.
    """
    return "".join(f"^{_expression(host.lower())}:443$\n" for host in sorted(set(hosts)))


def _expression(host: str) -> str:
    if len(host) > _LONGEST or not _NAME.fullmatch(host):
        raise InvalidRequest(
            "This host cannot be allowed.",
            fields={"EGRESS_ALLOWED_HOSTS": [f"{host[:80]!r} is no name such as example.org or .example.org."]},
        )
    below = r"([a-z0-9_-]+\.)*" if host.startswith(".") else ""
    return below + re.escape(host.removeprefix("."))


def configuration(
    listen: IPv4Address, port: int, clients: IPv4Network, filter_file: str, user: str | None = None
) -> str:
    """Tinyproxy's configuration.

    Args:
        user: who it becomes, when root starts it.
    """
    return f"""\
{f"User {user}{chr(10)}Group {user}{chr(10)}" if user else ""}\
Listen {listen}
Port {port}
Allow {clients}
MaxClients {_MOST_CLIENTS}
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
