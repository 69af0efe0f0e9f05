"""Users who call the API or open the console in tests of endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from myctobot.tenants.models import Role, Tenant
from tests.factories.control_plane import Api, make_member


@dataclass(frozen=True)
class Persona:
    """User with a role in a tenant, with clients of the API and the console."""

    user: User
    tenant: Tenant
    role: str = Role.MEMBER

    @classmethod
    def member(cls, tenant: Tenant, name: str, role: str = Role.MEMBER) -> Persona:
        return cls(make_member(tenant, name, role), tenant, role)

    @property
    def api(self) -> Api:
        """Return a client of the API that is logged in."""
        return Api.session(self.user)

    @property
    def api_by_key(self) -> Api:
        """Return a client of the API with a new key of the same role."""
        return Api.of(self.tenant, self.role)

    def browser(self, **options: Any) -> Client:
        """Return a browser that is logged in on the console."""
        browser = Client(**options)
        browser.force_login(self.user)
        return browser
