"""Address of a proxy, for git and for agents; pure."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_proxy_url(text: str) -> bool:
    """Tell whether a text is only the address of an HTTP proxy, such as ``http://10.0.0.1:3128``.

    A password is refused: the address is an argument of git, which others on the shard can read.
    """
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    extra = parts.username is not None or parts.path or parts.query or parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and not extra
