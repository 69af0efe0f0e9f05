"""Users who log in, and attempts to log in from any address."""

from __future__ import annotations

from dataclasses import dataclass

import pyotp
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from myctobot.accounts.codes import new_recovery_codes, new_secret
from myctobot.accounts.errors import LoginRefused
from myctobot.accounts.models import TotpDevice
from myctobot.accounts.second_factor import mark_proved
from myctobot.tenants.secrets import sealer

PASSWORD = "correct horse"
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


def try_login(name: str, password: str, address: str = HOME, code: str = "", **headers: str) -> str:
    """Log in without a page, and return ``in``, ``wrong`` or ``refused``."""
    request = RequestFactory(REMOTE_ADDR=address).post("/login/", headers=headers)
    try:
        return "in" if authenticate(request, username=name, password=password, code=code) else "wrong"
    except LoginRefused:
        return "refused"


def browse(user: str, code: str = "", page: str = "/login/") -> Client:
    """Log in on a page, and return the browser."""
    browser = Client(REMOTE_ADDR=HOME)
    browser.post(page, {"username": user, "password": PASSWORD, "code": code})
    return browser


@dataclass(frozen=True)
class App:
    """Authenticator app of a user, with the recovery codes that the user kept."""

    secret: str
    recovery: tuple[str, ...]

    def code(self, at: float) -> str:
        return pyotp.TOTP(self.secret).at(at)


def add_app(user: User) -> App:
    """Set up the second factor of a user."""
    secret, recovery = new_secret(), new_recovery_codes()
    sealed = sealer().seal({"secret": secret}, bound_to=f"totp:{user.pk}")
    TotpDevice.objects.create(user=user, sealed=sealed, last_step=0, recovery_hashes=list(recovery.hashes))
    return App(secret, recovery.shown)


def prove(browser: Client, user: User) -> None:
    """Note in the session of a browser that the user has proved the present second factor."""
    session = browser.session
    mark_proved(session, TotpDevice.objects.get(user=user).pk)
    session.save()
