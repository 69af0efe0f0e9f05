"""Who is calling the REST API, and for which tenant."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from myctobot.lib.crypto import digest
from myctobot.lib.sql import Columns, Term, one_row
from myctobot.tenants.models import ApiKey, Member, Role, Tenant

if TYPE_CHECKING:
    # REST framework's views import this module by its settings: not the other way round at run time.
    from rest_framework.views import APIView

# A key in steady use is written at most this often, so that reading stays reading.
LAST_USED_PRECISION = timedelta(minutes=1)
TENANT_HEADER = "MyCTOBot-Tenant"
TENANT_IN_SESSION = "tenant"


@dataclass(frozen=True)
class Caller:
    """The tenant that a request acts for, and what it may do there.

    Attributes:
        tenant: every query is scoped to it.
        role: of the member or of the key.
        user: set for a session, None for a key.
        api_key: set for a key, None for a session.
        still: of one that is remembered, a condition of SQL: whatever is done for it must depend on that.
    """

    tenant: Tenant
    role: str
    user: User | None = None
    api_key: ApiKey | None = None
    still: Term | None = None


_KEY = Columns(ApiKey, "id", "tenant_id", "name", "role", "last_used_at")
_TENANT = Columns(Tenant, "id", "slug", "name", "is_active", "weight", "max_running_jobs", "max_waiting_jobs")
# As ``ApiKey.live``, by hand: it is asked with every call of the REST API.
_LIVE = """
    FROM tenants_apikey AS key JOIN tenants_tenant AS tenant ON tenant.id = key.tenant_id
    WHERE key.key_hash = %s AND key.revoked_at IS NULL AND tenant.is_active
        AND (key.expires_at IS NULL OR key.expires_at > statement_timestamp())
"""
_LIVE_KEY = f"SELECT {_KEY.of('key')}, {_TENANT.of('tenant')} {_LIVE}"
_STILL = f"EXISTS (SELECT {_LIVE} AND key.id = %s AND key.tenant_id = %s AND key.role = %s)"


def find_api_key(key: str) -> ApiKey | None:
    """Return the live key with this text, or None: unknown, expired, revoked, or its tenant is inactive."""
    row = one_row(_LIVE_KEY, [digest(key)])
    if row is None:
        return None
    found = _KEY.instance(row[: len(_KEY)])
    found.tenant = _TENANT.instance(row[len(_KEY) :])
    if found.last_used_at is None or timezone.now() - found.last_used_at > LAST_USED_PRECISION:
        ApiKey.objects.filter(pk=found.pk).update(last_used_at=Now())
    return found


_REMEMBERED_S = 5.0
_MOST_REMEMBERED = 1000


class RecentKeys:
    """Callers whose keys were live a moment ago, so that who calls many times a second is not looked up each time.

    A key may have ended since, and its tenant's limits may be a few seconds old. So each caller comes with a condition
    (``still``) that the statement which does the work has to check.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Caller]] = {}

    def find(self, key: str) -> Caller | None:
        """Return who calls with a key, as of a few seconds ago, or None when it is not live."""
        key_hash = digest(key)
        until, caller = self._known.get(key_hash, (0.0, None))
        if caller is not None and time.monotonic() < until:
            return caller
        found = find_api_key(key)
        if found is None:
            self._known.pop(key_hash, None)
            return None
        still = Term(_STILL, [key_hash, found.pk, found.tenant_id, found.role])
        caller = Caller(found.tenant, found.role, api_key=found, still=still)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key_hash] = (time.monotonic() + _REMEMBERED_S, caller)
        return caller

    def forget(self, key: str) -> None:
        """Look it up again when it is next asked for."""
        self._known.pop(digest(key), None)


def bearer_token(request: Any) -> str | None:
    """Return the token of ``Authorization: Bearer …``, or None when the header is absent or of another kind."""
    return token_in(get_authorization_header(request))


def token_in(authorization: bytes) -> str | None:
    """Return the token of a header ``Authorization``, or None when it is of another kind."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer mctb_…``."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        key = bearer_token(request)
        if key is None:
            return None
        found = find_api_key(key)
        if found is None:
            raise AuthenticationFailed("The API key is not valid: it is unknown, expired or revoked. Make a new one.")
        return AnonymousUser(), found

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="MyCTOBot"'


def find_caller(request: Any, api_key: ApiKey | None) -> Caller | None:
    """Find the tenant of a request: the key's, or that of the user's membership.

    A user of several tenants names one by its slug in the header ``MyCTOBot-Tenant``, or has chosen one in the session.
    """
    if api_key is not None:
        return Caller(api_key.tenant, api_key.role, api_key=api_key)
    user = request.user
    if not user.is_authenticated:
        return None
    members = Member.objects.select_related("tenant").filter(user=user, tenant__is_active=True).order_by("pk")
    if slug := request.headers.get(TENANT_HEADER):
        members = members.filter(tenant__slug=slug)
    # A choice that has become void, because the user left that tenant, is no reason to keep them out of the others.
    chosen = members.filter(tenant__slug=request.session.get(TENANT_IN_SESSION, "")).first()
    member = chosen or members.first()
    return Caller(member.tenant, member.role, user=user) if member else None


class HasTenant(BasePermission):
    """Lets members in: viewers read, others write. Sets ``request.caller``.

    A view with ``only_reads`` changes nothing by whatever method, so viewers may call it too.
    """

    message = "Your account belongs to no tenant here, or your role may only read."

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = find_caller(request, request.auth if isinstance(request.auth, ApiKey) else None)
        request.caller = caller  # type: ignore[attr-defined]  # a request carries its caller to the view
        reads = request.method in SAFE_METHODS or getattr(view, "only_reads", False)
        return caller is not None and (reads or caller.role != Role.VIEWER)


class IsOperator(BasePermission):
    """Lets operators in: staff, logged in. API keys belong to tenants, who operate nothing."""

    message = "Only operators, logged in, may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return not isinstance(request.auth, ApiKey) and request.user.is_authenticated and request.user.is_staff
