"""Login pages of the console and of the operators' panel, and the panel's pages of one's own account."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse_lazy

from myctobot.accounts.codes import qr_code
from myctobot.accounts.errors import LoginRefused
from myctobot.accounts.forms import MAX_CODE, ConsoleLoginForm, PanelPasswordForm
from myctobot.accounts.models import TotpDevice
from myctobot.accounts.second_factor import pending_secret, set_up


def limited(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Answer a refused password with the status 429 and the header Retry-After."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        refusal: LoginRefused | None = getattr(request, "login_refusal", None)
        if refusal is not None:
            response.status_code = refusal.http_status
            response.headers["Retry-After"] = str(refusal.retry_after_s)
        return response

    return wrapped


console_login = limited(
    LoginView.as_view(
        template_name="dashboards/login.html",
        authentication_form=ConsoleLoginForm,
        redirect_authenticated_user=True,
    )
)


@limited
def panel_login(request: HttpRequest) -> HttpResponse:
    """Log in to the panel; ``UNFOLD`` in the settings names the form."""
    return admin.site.login(request)


class PanelPasswordView(PasswordChangeView):
    """Page for a new password of one's own."""

    form_class = PanelPasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        return {**super().get_context_data(**more), **admin.site.each_context(self.request)}


def second_factor(request: HttpRequest) -> HttpResponse:
    """Set up the second factor of the logged-in user; ``admin_view`` has checked that it is staff."""
    user = cast(User, request.user)
    device = TotpDevice.objects.filter(user=user).first()
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Second factor",
        "device": device,
        "is_required": settings.STAFF_TOTP_REQUIRED,
    }
    if device is None and request.method == "POST":
        found = set_up(user, request.session, request.POST.get("code", "")[:MAX_CODE])
        context |= {"recovery": found.shown} if found else {"problem": "The code is wrong. Type the one shown now."}
    if device is None and "recovery" not in context:
        secret = pending_secret(user, request.session)
        context |= {"secret": secret, "image": qr_code(secret, user.get_username())}
    return render(request, "accounts/second_factor.html", context)


panel_password = limited(PanelPasswordView.as_view())
