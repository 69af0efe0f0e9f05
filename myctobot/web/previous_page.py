"""Page of ours from which a browser came."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme


def previous_page(request: HttpRequest) -> str:
    """Return the path and query of the page that sent a request; empty if it is not one of this host."""
    referrer = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(referrer, {request.get_host()}, require_https=request.is_secure()):
        return ""
    path = urlsplit(referrer)._replace(scheme="", netloc="", fragment="").geturl()
    # Two slashes would begin the name of another host.
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") else ""
