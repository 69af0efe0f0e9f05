"""Headers that restrict what a browser does with a response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# The pages show output of agents. If any of it became markup, this policy would keep it from loading or running code.
PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# Unfold's pages need Alpine, which compiles the expressions in their attributes, and one of these sets a style.
PANEL_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src-attr 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# Everything else is no page, or a short error page without style. A browser still asks for the site's icon.
PLAIN_POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
# The console writes to the clipboard, so that right is not in the list.
PERMISSIONS_POLICY: Final = ", ".join(
    f"{name}=()"
    for name in (
        "accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "encrypted-media",
        "geolocation", "gyroscope", "hid", "identity-credentials-get", "magnetometer", "microphone", "midi", "payment",
        "publickey-credentials-get", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
    )
)  # fmt: skip

_PAGES: Final = ("/admin/login/", "/api/docs/")
_PANEL: Final = "/admin/"


def policy_of(path: str) -> str:
    """Return the policy of a path whose view sets none."""
    if path.startswith(_PAGES):
        return PAGE_POLICY
    return PANEL_POLICY if path.startswith(_PANEL) else PLAIN_POLICY


def unconditional_hsts() -> str | None:
    """Return the value of Strict-Transport-Security for all responses; None if Django adds it to the secure ones.

    Without ``BEHIND_PROXY`` nothing tells which calls are secure, although the address is https. Browsers ignore the
    header in a response over plain HTTP.
    """
    if not settings.HTTPS or settings.BEHIND_PROXY or not settings.SECURE_HSTS_SECONDS:
        return None
    more = "; includeSubDomains; preload" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
    return f"max-age={settings.SECURE_HSTS_SECONDS}{more}"


class SecurityHeadersMiddleware:
    """Add a Content-Security-Policy and a Permissions-Policy to every response of Django, also to errors.

    With an https address it also sees to Strict-Transport-Security.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._hsts = unconditional_hsts()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy_of(request.path))
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        if self._hsts:
            response.headers["Strict-Transport-Security"] = self._hsts
        return response
