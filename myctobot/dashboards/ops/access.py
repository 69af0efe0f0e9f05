"""What every page of operators goes through: only staff, logged in, may look; members of tenants may not."""

from __future__ import annotations

from functools import wraps

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from myctobot.dashboards.pages import P, View, protected, to_login
from myctobot.tenants.authentication import find_caller


def is_operator(request: HttpRequest) -> bool:
    """As ``IsOperator`` of the API; nobody comes here with a key."""
    return request.user.is_authenticated and request.user.is_staff


def operator_page(view: View[P]) -> View[P]:
    """A page of operators."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return protected(to_login(request))
        if not is_operator(request):
            return protected(render(request, "dashboards/ops/refused.html", status=403))
        # Operators who belong to a tenant keep its menu.
        request.caller = find_caller(request, None)  # type: ignore[attr-defined]  # for the page's frame
        return protected(view(request, *args, **kwargs))

    return wrapped
