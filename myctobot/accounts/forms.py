"""Forms that ask for a password or a code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from myctobot.accounts.backend import find_user
from myctobot.accounts.errors import LoginRefused

if TYPE_CHECKING:
    from django.contrib.auth.forms import PasswordChangeForm

    _PasswordChangeForm = PasswordChangeForm
else:
    from unfold.forms import AdminOwnPasswordChangeForm as _PasswordChangeForm

# Longer than a recovery code with its dashes.
MAX_CODE: Final = 40


def _problem(request: HttpRequest | None, refusal: LoginRefused) -> ValidationError:
    # The view turns the refusal into the status and the header of the response.
    request.login_refusal = refusal  # type: ignore[union-attr]  # Django's views pass a request
    return ValidationError(refusal.message, code=refusal.code)


class ConsoleLoginForm(AuthenticationForm):
    """Form of the console's login page. It names the time after which the caller may try again."""

    code = forms.CharField(
        label="Code, if you have set up a second factor",
        required=False,
        max_length=MAX_CODE,
        widget=forms.TextInput({"autocomplete": "one-time-code"}),
    )
    error_messages = {
        **AuthenticationForm.error_messages,
        # One sentence for all three, so that a guessed password is not confirmed.
        "invalid_login": "The user name, the password or the code is wrong.",
    }

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        if "username" not in values or "password" not in values:
            return values
        try:
            self.user_cache = authenticate(
                self.request, username=values["username"], password=values["password"], code=values.get("code", "")
            )
        except LoginRefused as refusal:
            raise _problem(self.request, refusal) from refusal
        if self.user_cache is None:
            raise self.get_invalid_login_error()
        self.confirm_login_allowed(self.user_cache)
        return values


class PanelLoginForm(ConsoleLoginForm, AdminAuthenticationForm):
    """Form of the operators' panel, which is for staff only."""


class PanelPasswordForm(_PasswordChangeForm):
    """Form for a new password of one's own, with the limits of a login on the old password."""

    def __init__(self, user: User, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(user, *args, **kwargs)
        self._request = request

    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        try:
            user = find_user(self._request, self.user.get_username(), password, code=None)
        except LoginRefused as refusal:
            raise _problem(self._request, refusal) from refusal
        if user is None:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return password
