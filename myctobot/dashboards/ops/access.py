"""Access to the operators' pages: logged-in staff with the permissions that the panel needs for the same data."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from myctobot.dashboards.pages import P, View, protected, to_login
from myctobot.tenants.authentication import find_caller
from myctobot.tenants.permissions import ModelPermission, missing

VIEW_JOB: Final = ModelPermission("jobs", "job", "view")


def operator_page(*needed: ModelPermission) -> Callable[[View[P]], View[P]]:
    """Restrict a page to operators who have all the permissions."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return protected(to_login(request))
            if lacking := missing(request.user, needed):
                return protected(_refusal(request, lacking))
            # Show the menu of the tenant to operators who belong to one.
            request.caller = find_caller(request, None)  # type: ignore[attr-defined]  # the page's frame reads it
            return protected(view(request, *args, **kwargs))

        return wrapped

    return decorate


def _refusal(request: HttpRequest, lacking: list[ModelPermission]) -> HttpResponseBase:
    # Members of tenants need no list of permissions, because they are no operators.
    context = {"lacking": lacking if request.user.is_staff else []}
    return render(request, "dashboards/ops/refused.html", context, status=403)
