"""Forms that ask for a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from myctobot.accounts.backend import find_user
from myctobot.accounts.errors import LoginRefused

if TYPE_CHECKING:
    from django.contrib.admin.forms import AdminAuthenticationForm as UnfoldAuthenticationForm
    from django.contrib.auth.forms import PasswordChangeForm

    _PasswordChangeForm = PasswordChangeForm
else:
    from unfold.forms import AdminOwnPasswordChangeForm as _PasswordChangeForm
    from unfold.forms import AuthenticationForm as UnfoldAuthenticationForm


def _problem(request: HttpRequest | None, refusal: LoginRefused) -> ValidationError:
    # The view turns the refusal into the status and the header of the response.
    request.login_refusal = refusal  # type: ignore[union-attr]  # Django's views pass a request
    return ValidationError(refusal.message, code=refusal.code)


class ConsoleLoginForm(AuthenticationForm):
    """Form of the console's login page. It names the time after which the caller may try again."""

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except LoginRefused as refusal:
            raise _problem(self.request, refusal) from refusal


class PanelLoginForm(ConsoleLoginForm, UnfoldAuthenticationForm):
    """Form of the operators' panel, which is for staff only."""


class PanelPasswordForm(_PasswordChangeForm):
    """Form for a new password of one's own, with the limits of a login on the old password."""

    def __init__(self, user: User, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(user, *args, **kwargs)
        self._request = request

    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        try:
            user = find_user(self._request, self.user.get_username(), password)
        except LoginRefused as refusal:
            raise _problem(self._request, refusal) from refusal
        if user is None:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return password
