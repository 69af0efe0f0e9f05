"""What every page of the console goes through: who looks, what they may, and the headers that keep a page to itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url

from jobs.errors import UnknownJob
from myctobot.tenants.authentication import Caller, find_caller
from myctobot.tenants.models import Role, Tenant

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
MemberView = Callable[Concatenate[HttpRequest, Caller, P], HttpResponseBase]

# Agents' output is shown here. Should any of it ever become markup, it still can load and run nothing.
POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)


def protected(response: HttpResponseBase) -> HttpResponseBase:
    """Add the headers of a page that shows a tenant's data."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cache-Control"] = "private, no-store"
    return response


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("HX-Request") == "true"


def public_page(view: View[P]) -> View[P]:
    """A page that anybody may open."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        return protected(view(request, *args, **kwargs))

    return wrapped


def member_page(view: MemberView[P]) -> View[P]:
    """A page of a tenant's members; the view gets the caller. What is not theirs is not found."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return protected(to_login(request))
        caller = find_caller(request, None)
        if caller is None:
            return protected(render(request, "dashboards/no_tenant.html", status=403))
        request.caller = caller  # type: ignore[attr-defined]  # for the page's frame, which names the tenant
        try:
            return protected(view(request, caller, *args, **kwargs))
        except UnknownJob:
            return protected(render(request, "dashboards/not_found.html", status=404))

    return wrapped


def writers_only(view: MemberView[P]) -> MemberView[P]:
    """Of a member page: viewers are told that they may only look."""

    @wraps(view)
    def wrapped(request: HttpRequest, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not may_write(caller):
            return render(request, "dashboards/forbidden.html", status=403)
        return view(request, caller, *args, **kwargs)

    return wrapped


def may_write(caller: Caller) -> bool:
    """Whether the caller may start, cancel and retry jobs."""
    return caller.role != Role.VIEWER


def to_login(request: HttpRequest) -> HttpResponseBase:
    """Send whoever is not logged in to the login page, and back from there."""
    login = resolve_url("login")
    if is_htmx(request):
        # A part of a page cannot become the login page; the whole window goes there, and back to where it was.
        page = urlencode({"next": _path_of(request.headers.get("HX-Current-URL", ""))})
        return HttpResponse(status=401, headers={"HX-Redirect": f"{login}?{page}"})
    return redirect_to_login(request.get_full_path(), login)


def _path_of(url: str) -> str:
    """An address without its host: a header says it, and anybody can write one."""
    try:
        return urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
    except ValueError:
        return ""


def frame(request: HttpRequest) -> dict[str, Any]:
    """What the frame around every page shows: the tenant, and the others that the user may go to."""
    caller: Caller | None = getattr(request, "caller", None)
    if caller is None:
        return {}
    tenants = Tenant.objects.filter(members__user=caller.user, is_active=True).order_by("name")
    return {"caller": caller, "tenants": tenants, "may_write": may_write(caller)}
