"""Login by name and password."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from myctobot.accounts.counts import redis_counts
from myctobot.accounts.hashing import check_password, release_connection
from myctobot.accounts.limits import LoginLimiter
from myctobot.accounts.second_factor import accepts, device_of, mark_proved
from myctobot.lib.addresses import client_address
from myctobot.tenants.audit import record

# Attribute of a user whom this backend has just found: the id of the device whose code it checked, or None.
_PROVED: Final = "proved_device"


@cache
def login_limiter() -> LoginLimiter:
    """Return the limiter of this process."""
    return LoginLimiter(redis_counts(settings.REDIS_URL))


def address_of(request: HttpRequest | None) -> str:
    """Return the address of the client of a request."""
    meta = request.META if request is not None else {}
    return client_address(meta.get("REMOTE_ADDR"), meta.get("HTTP_X_FORWARDED_FOR"), behind_proxy=settings.BEHIND_PROXY)


def find_user(request: HttpRequest | None, name: str, password: str, code: str | None) -> User | None:
    """Return the active user with this name, password and code, or None. Nothing else compares passwords of people.

    Args:
        code: of the second factor; None if the session has proved it before.

    Raises:
        LoginRefused: too many attempts for this account or address.
    """
    # Redis may take a second to answer, and a session that was read holds a connection.
    release_connection()
    limiter = login_limiter()
    with limiter.attempt(name, address_of(request)) as attempt:
        # The join keeps the number of queries equal for all accounts.
        user = User.objects.select_related("totp").filter(username=name).first()
        found = check_password(password, user.password if user else None)
        if user is None or not found.is_correct or not user.is_active:
            limiter.failed(attempt)
            return None
        if found.new_hash:
            user.password = found.new_hash
            user.save(update_fields=["password"])
        if code is not None and not accepts(user, code):
            limiter.failed(attempt)
            return None
        device = device_of(user)
        setattr(user, _PROVED, device.pk if device is not None and code is not None else None)
        limiter.succeeded(attempt)
        return user


class PasswordBackend(ModelBackend):
    """Backend of Django's ``authenticate`` that limits attempts and compares passwords in threads of its own."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        code: str = "",
        **more: Any,
    ) -> User | None:
        """Return the user with this name, password and code of the second factor, or None.

        Raises:
            LoginRefused: too many attempts for this account or address.
        """
        return None if username is None or password is None else find_user(request, username, password, code)

    async def aauthenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **more: Any
    ) -> User | None:
        """Do the same for asynchronous callers; Django's own method would skip the limits."""
        return await sync_to_async(self.authenticate)(request, username, password, **more)


@receiver(user_logged_in)
def _note_second_factor(request: HttpRequest, user: User, **_: Any) -> None:
    device_id: int | None = getattr(user, _PROVED, None)
    if device_id is not None:
        mark_proved(request.session, device_id)


@receiver(user_logged_in)
def _record_login(request: HttpRequest, user: User, **_: Any) -> None:
    # Only a user whom this backend has found has given a password.
    if hasattr(user, _PROVED):
        name = user.get_username()
        details = {"address": address_of(request), "second_factor": getattr(user, _PROVED) is not None}
        record(name, "user.logged_in", f"user/{name}", details)
