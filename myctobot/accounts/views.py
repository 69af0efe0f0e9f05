"""Login pages of the console and of the operators' panel, and the panel's page for a new password."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse_lazy

from myctobot.accounts.errors import LoginRefused
from myctobot.accounts.forms import ConsoleLoginForm, PanelPasswordForm


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


panel_password = limited(PanelPasswordView.as_view())
