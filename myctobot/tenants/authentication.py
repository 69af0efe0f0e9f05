"""Authentication of the REST API: the caller and its tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from django.contrib.auth.models import AnonymousUser, User
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from myctobot.errors import NotAllowed
from myctobot.lib.crypto import digest
from myctobot.lib.sql import ColumnSet, SqlFragment, fetch_one
from myctobot.lib.ttl_cache import TtlCache
from myctobot.tenants.models import ApiKey, Member, Role, Tenant

if TYPE_CHECKING:
    # REST framework imports this module by its settings, so this module must not import its views at run time.
    from rest_framework.views import APIView

# The time of the last use is written at most this often, so that most reads of a key write nothing.
LAST_USED_PRECISION: Final = timedelta(minutes=1)
TENANT_HEADER = "MyCTOBot-Tenant"
TENANT_IN_SESSION = "tenant"


class OtherTenant(NotAllowed):
    """The API key belongs to another tenant than the one in the header MyCTOBot-Tenant. Use a key of that tenant."""

    code = "other_tenant"


@dataclass(frozen=True)
class Caller:
    """The tenant that a request acts for, and its rights there.

    Attributes:
        tenant: every query is limited to it.
        role: of the member or of the key.
        user: the logged-in user; None for a key.
        api_key: the key; None for a session.
    """

    tenant: Tenant
    role: str
    user: User | None = None
    api_key: ApiKey | None = None


_KEY: Final = ColumnSet(ApiKey, "id", "tenant_id", "name", "role", "last_used_at")
_TENANT: Final = ColumnSet(Tenant, "id", "slug", "name", "is_active", "weight", "max_running_jobs", "max_waiting_jobs")
# The same keys as ``ApiKey.live``, which a test compares. Each call of the REST API runs this statement.
_LIVE: Final = """
    FROM tenants_apikey AS key JOIN tenants_tenant AS tenant ON tenant.id = key.tenant_id
    WHERE key.key_hash = %s AND key.revoked_at IS NULL AND tenant.is_active
        AND (key.expires_at IS NULL OR key.expires_at > statement_timestamp())
"""
_LIVE_KEY: Final = f"SELECT {_KEY.of('key')}, {_TENANT.of('tenant')} {_LIVE}"
_STILL_LIVE: Final = f"EXISTS (SELECT {_LIVE} AND key.id = %s AND key.tenant_id = %s AND key.role = %s)"


def find_api_key(key: str) -> ApiKey | None:
    """Return the live key with this text; None if it is unknown, expired or revoked, or its tenant is inactive."""
    row = fetch_one(_LIVE_KEY, [digest(key)])
    if row is None:
        return None
    found = _KEY.instance(row[: len(_KEY)])
    found.tenant = _TENANT.instance(row[len(_KEY) :])
    if found.last_used_at is None or timezone.now() - found.last_used_at > LAST_USED_PRECISION:
        ApiKey.objects.filter(pk=found.pk).update(last_used_at=Now())
    return found


_KEY_TTL_S: Final = 5.0
_MAX_KEYS: Final = 1000
_MAX_KEYS_PER_TENANT: Final = 100


class KnownCaller(NamedTuple):
    """Caller whose key was live a few seconds ago.

    Attributes:
        caller: as it was then; the limits of its tenant may have changed.
        guard: condition that the key is still live and has the same tenant and role. Each statement that writes for
            the caller must check it.
    """

    caller: Caller
    guard: SqlFragment


class RecentKeys:
    """Callers by API key, so that a program that calls many times a second is not looked up each time."""

    def __init__(self) -> None:
        self._callers: TtlCache[str, KnownCaller] = TtlCache(_MAX_KEYS, _KEY_TTL_S, max_per_owner=_MAX_KEYS_PER_TENANT)

    def find(self, key: str) -> KnownCaller | None:
        """Return the caller that has a key; None if the key is not live."""
        key_hash = digest(key)
        if (known := self._callers.get(key_hash)) is not None:
            return known
        if (found := find_api_key(key)) is None:
            return None
        guard = SqlFragment(_STILL_LIVE, [key_hash, found.pk, found.tenant_id, found.role])
        known = KnownCaller(Caller(found.tenant, found.role, api_key=found), guard)
        self._callers.put(key_hash, known, owner=found.tenant_id)
        return known

    def discard(self, key: str) -> None:
        """Drop a key, so that the next call looks it up."""
        self._callers.discard(digest(key))


def bearer_token(request: Any) -> str | None:
    """Return the token of ``Authorization: Bearer …``; None if the header is absent or has another scheme."""
    return token_in(get_authorization_header(request))


def token_in(authorization: bytes) -> str | None:
    """Return the bearer token of an ``Authorization`` header; None if it has another scheme."""
    scheme, _, token = authorization.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


class ApiKeyAuthentication(BaseAuthentication):
    """Authentication by ``Authorization: Bearer mctb_…``."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        key = bearer_token(request)
        if key is None:
            return None
        found = find_api_key(key)
        if found is None:
            raise AuthenticationFailed("The API key is unknown, expired or revoked. Create a new key.")
        return AnonymousUser(), found

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="MyCTOBot"'


def find_caller(request: Any, api_key: ApiKey | None) -> Caller | None:
    """Find the caller of a request: by its API key, or by the membership of the logged-in user.

    A user with several tenants names one by its slug in the header ``MyCTOBot-Tenant`` or chooses one for the session.
    A key has one tenant, so the header may only repeat it.

    Returns:
        None for a user without a tenant, and for an anonymous request without a key.

    Raises:
        OtherTenant: the header names another tenant than that of the key.
    """
    if api_key is not None:
        if request.headers.get(TENANT_HEADER, api_key.tenant.slug) != api_key.tenant.slug:
            raise OtherTenant
        return Caller(api_key.tenant, api_key.role, api_key=api_key)
    user = request.user
    if not user.is_authenticated:
        return None
    members = Member.objects.select_related("tenant").filter(user=user, tenant__is_active=True).order_by("pk")
    if slug := request.headers.get(TENANT_HEADER):
        members = members.filter(tenant__slug=slug)
    # A user who left the chosen tenant still reaches the others.
    chosen = members.filter(tenant__slug=request.session.get(TENANT_IN_SESSION, "")).first()
    member = chosen or members.first()
    return Caller(member.tenant, member.role, user=user) if member else None


class HasTenant(BasePermission):
    """Permission for members: viewers read, others write. Sets ``request.caller``.

    A view with ``only_reads`` changes nothing with any method, so viewers may call all of them.
    """

    message = "Your account belongs to no tenant, or your role may only read."

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = find_caller(request, request.auth if isinstance(request.auth, ApiKey) else None)
        request.caller = caller  # type: ignore[attr-defined]  # a request carries its caller to the view
        reads = request.method in SAFE_METHODS or getattr(view, "only_reads", False)
        return caller is not None and (reads or caller.role != Role.VIEWER)


class IsOperator(BasePermission):
    """Permission for operators: logged-in staff. API keys belong to tenants, which operate nothing."""

    message = "Only logged-in operators may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return not isinstance(request.auth, ApiKey) and request.user.is_authenticated and request.user.is_staff


def caller_of(request: Request) -> Caller:
    """Return the caller that ``HasTenant`` found."""
    return cast(Caller, request.caller)  # type: ignore[attr-defined]  # set by the permission class


def caller_name(caller: Caller) -> str:
    """Return the caller's name for the history and the audit log."""
    return str(caller.user or (f"API key {caller.api_key.name}" if caller.api_key else "unknown"))[:150]


def require_admin(caller: Caller, message: str) -> None:
    """Check that the caller is an admin of the tenant.

    Raises:
        NotAllowed: with the message.
    """
    if caller.role != Role.ADMIN:
        raise NotAllowed(message)
