"""Login, logout and choice of the tenant."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from myctobot.accounts.views import console_login
from myctobot.dashboards.pages import member_page, public_page
from myctobot.tenants.authentication import TENANT_IN_SESSION, Caller
from myctobot.tenants.models import Member

login = public_page(console_login)
logout = public_page(LogoutView.as_view())


@require_POST
@member_page
def choose_tenant(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """Switch to another tenant of the user; ignore tenants of other users."""
    slug = request.POST.get("tenant", "")
    if Member.objects.filter(user=caller.user, tenant__slug=slug, tenant__is_active=True).exists():
        request.session[TENANT_IN_SESSION] = slug
    return redirect("console-jobs")
