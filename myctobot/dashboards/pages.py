"""Wrappers of the console's pages: login, tenant, role and protective headers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url

from jobs.errors import UnknownJob
from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.lib.ttl_cache import CachedValue
from myctobot.tenants.authentication import Caller, find_caller
from myctobot.tenants.models import Role, Tenant
from myctobot.tenants.secrets import count_unbound
from myctobot.web.previous_page import previous_page
from myctobot.web.process_caches import process_caches
from myctobot.web.security_headers import PAGE_POLICY
from shards.health.isolation import has_unsandboxed_shard
from shards.permissions import VIEW_SHARD

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
MemberView = Callable[Concatenate[HttpRequest, Caller, P], HttpResponseBase]
_READS: Final = ("GET", "HEAD")


def protected(response: HttpResponseBase) -> HttpResponseBase:
    """Add the headers of a page that shows a tenant's data."""
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    response.headers["Cache-Control"] = "private, no-store"
    return response


def is_htmx(request: HttpRequest) -> bool:
    """Check for a request of htmx for a part of a page."""
    return request.headers.get("HX-Request") == "true"


def public_page(view: View[P]) -> View[P]:
    """Make a page that needs no login."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        return protected(view(request, *args, **kwargs))

    return wrapped


def member_page(view: MemberView[P]) -> View[P]:
    """Restrict a page to members of a tenant, and pass the caller to the view. Jobs of other tenants give a 404."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return protected(to_login(request))
        caller = find_caller(request, None)
        if caller is None:
            return protected(render(request, "dashboards/no_tenant.html", status=403))
        request.caller = caller  # type: ignore[attr-defined]  # the page's frame shows the tenant
        try:
            return protected(view(request, caller, *args, **kwargs))
        except UnknownJob:
            return protected(render(request, "dashboards/not_found.html", status=404))

    return wrapped


def writers_only(view: MemberView[P]) -> MemberView[P]:
    """Restrict a member page to members who can write; viewers get an explanation."""

    @wraps(view)
    def wrapped(request: HttpRequest, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not may_write(caller):
            return render(request, "dashboards/forbidden.html", status=403)
        return view(request, caller, *args, **kwargs)

    return wrapped


def admins_only(view: MemberView[P]) -> MemberView[P]:
    """Restrict a member page to admins of the tenant; others get an explanation."""

    @wraps(view)
    def wrapped(request: HttpRequest, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if caller.role != Role.ADMIN:
            return render(request, "dashboards/forbidden.html", {"needs_admin": True}, status=403)
        return view(request, caller, *args, **kwargs)

    return wrapped


def admins_change(view: MemberView[P]) -> MemberView[P]:
    """Restrict the changes on a member page to admins of the tenant; other members may read it."""
    changing = admins_only(view)

    @wraps(view)
    def wrapped(request: HttpRequest, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        return (view if request.method in _READS else changing)(request, caller, *args, **kwargs)

    return wrapped


def error_text(error: MyctobotError) -> str:
    """Return the sentences of an error for a form."""
    problems = [text for texts in error.fields.values() for text in texts] if isinstance(error, InvalidRequest) else []
    return " ".join(problems) or error.message


def may_write(caller: Caller) -> bool:
    """Check that the caller can start, cancel and retry jobs."""
    return caller.role != Role.VIEWER


def to_login(request: HttpRequest) -> HttpResponseBase:
    """Redirect to the login page, which redirects back after the login."""
    login = resolve_url("login")
    if is_htmx(request):
        # The login page must not replace a part of a page, so the whole window is redirected.
        page = urlencode({"next": _path_of(request.headers.get("HX-Current-URL", ""))})
        return HttpResponse(status=401, headers={"HX-Redirect": f"{login}?{page}"})
    # The address of a button has no page, so the way back from there leads to the page with the button.
    page = (
        request.get_full_path() if request.method in _READS else previous_page(request) or resolve_url("console-jobs")
    )
    return redirect_to_login(page, login)


def _path_of(url: str) -> str:
    """Return the URL without its host, because any client can set this header."""
    try:
        return urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
    except ValueError:
        return ""


_UNSANDBOXED: Final = (
    "Jobs run without a sandbox on this installation: an agent can read and change everything that its shard can. "
    "Run only jobs that you trust, or install bubblewrap and restart the shards."
)


class CachedUnsandboxed(CachedValue[bool]):
    """Answer whether a shard runs its agents without a sandbox; every page then says so."""

    def __init__(self) -> None:
        super().__init__(has_unsandboxed_shard, ttl_s=2.0)


def frame(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the frame around every page: the menu's rights, the tenant and the user's other tenants."""
    # A request that fails early has no user.
    user = getattr(request, "user", None)
    context: dict[str, Any] = {
        "may_operate": user is not None and VIEW_SHARD.is_held_by(user),
        "unsandboxed": _UNSANDBOXED if process_caches(request).get(CachedUnsandboxed)() else "",
    }
    caller: Caller | None = getattr(request, "caller", None)
    if caller is None:
        return context
    tenants = Tenant.objects.filter(members__user=caller.user, is_active=True).order_by("name")
    context |= {"caller": caller, "tenants": tenants, "may_write": may_write(caller)}
    if caller.role == Role.ADMIN:
        # A function, so that only pages which show the number query it.
        context |= {"may_administer": True, "unbound_secrets": partial(count_unbound, caller.tenant)}
    return context
