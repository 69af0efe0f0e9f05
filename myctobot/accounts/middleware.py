"""Middleware that holds back sessions of staff without their second factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from myctobot.accounts.second_factor import MissingStep, missing_step
from myctobot.api.errors import error_body

_ALLOWED: Final = ("second-factor", "logout", "admin:logout", "admin:jsi18n")
# The same for all callers, so the session does not matter.
_PUBLIC: Final = ("api-schema",)


class SecondFactorMiddleware:
    """End a session without its user's second factor, and send staff to the page that sets one up.

    Such a session began before the user had a second factor, or has proved one that was removed since.

    A request without a session, such as one with an API key, costs nothing.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or request.path in map(reverse, _PUBLIC):
            return self._get_response(request)
        step = missing_step(request.user, request.session)
        if step is MissingStep.LOGIN:
            # The views treat the request as anonymous.
            logout(request)
        elif step is MissingStep.SET_UP and request.path not in map(reverse, _ALLOWED):
            return _to_set_up(request)
        return self._get_response(request)


def _to_set_up(request: HttpRequest) -> HttpResponseBase:
    page = reverse("second-factor")
    if request.path.startswith("/api/"):
        body: dict[str, Any] = error_body(
            "second_factor_required", f"Staff must use a second factor here. Set one up at {page}."
        )
        return JsonResponse(body, status=403)
    if request.headers.get("HX-Request") == "true":
        # The page must not replace a part of another page.
        return HttpResponse(status=403, headers={"HX-Redirect": page})
    return redirect(page)
