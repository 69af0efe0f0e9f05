"""Accounts of callers for the limits on calls: the key or user, and its tenant."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import structlog
from django.conf import settings
from django.contrib.auth import get_user
from django.db import Error as DatabaseError
from django.http.cookie import parse_cookie

from myctobot.lib.crypto import digest
from myctobot.lib.ttl_cache import TtlCache
from myctobot.tenants.authentication import TENANT_HEADER, find_api_key, find_caller, token_in
from myctobot.web.call_limits import Account, CallLimits, CallSource
from myctobot.web.threads import RequestThreads

log = structlog.get_logger(__name__)

_MAX_CALLERS: Final = 20_000
_MAX_PER_TENANT: Final = 1000
# A key that ends keeps its accounts for this time. Each view checks the key itself.
_TTL_S: Final = 600
_THREADS: Final = 2
_TENANT_HEADER: Final = TENANT_HEADER.lower().encode()


class CallerCredentials(NamedTuple):
    """API key or session of a call, only in memory.

    Attributes:
        tenant: slug of the tenant that a user names; empty if the user names none.
    """

    is_key: bool
    secret: str
    tenant: str = ""


class CallerDirectory:
    """Accounts of keys and sessions, which are looked up in threads of its own.

    Args:
        limits: of the accounts.
    """

    def __init__(self, limits: CallLimits) -> None:
        self._limits, self._threads = limits, RequestThreads(_THREADS)
        self._known: TtlCache[str, CallSource] = TtlCache(_MAX_CALLERS, _TTL_S, max_per_owner=_MAX_PER_TENANT)

    def credentials_of(self, scope: Any) -> CallerCredentials | None:
        """Return the API key of a call, or else its session."""
        found = dict(scope["headers"])
        if token := token_in(found.get(b"authorization", b"")):
            return CallerCredentials(True, token)
        name = settings.SESSION_COOKIE_NAME
        if name.encode() not in (cookies := found.get(b"cookie", b"")):
            return None
        session = parse_cookie(cookies.decode("latin-1")).get(name)
        tenant = found.get(_TENANT_HEADER, b"").decode("latin-1")
        return CallerCredentials(False, session, tenant) if session else None

    def known(self, credentials: CallerCredentials) -> CallSource | None:
        """Return the accounts of credentials that were valid some minutes ago."""
        return self._known.get(_key(credentials))

    async def find(self, credentials: CallerCredentials) -> CallSource | None:
        """Return the accounts of credentials; None if they are not valid, or the database does not answer."""
        try:
            found: CallSource | None = await self._threads.run(self._find, credentials)
        except DatabaseError as error:
            log.warning("caller.not_found", error=str(error))
            return None
        if found is not None:
            self._known.put(_key(credentials), found, owner=found.group.id)
        return found

    def _find(self, credentials: CallerCredentials) -> CallSource | None:
        if credentials.is_key:
            key = find_api_key(credentials.secret)
            return self._source(f"key:{key.pk}", key.tenant_id) if key else None
        session = import_module(settings.SESSION_ENGINE).SessionStore(credentials.secret)
        request = SimpleNamespace(session=session, headers={TENANT_HEADER: credentials.tenant})
        request.user = get_user(request)  # type: ignore[arg-type]  # only its session is read
        if not request.user.is_authenticated:
            return None
        caller = find_caller(request, None)
        return self._source(f"user:{request.user.pk}", caller.tenant.pk if caller else None)

    def _source(self, member: str, tenant_id: int | None) -> CallSource:
        own = Account(member, self._limits.key)
        if tenant_id is None:
            # Operators need no tenant.
            return CallSource(own, Account(f"alone:{member}", self._limits.key))
        return CallSource(own, Account(f"tenant:{tenant_id}", self._limits.tenant))


def _key(credentials: CallerCredentials) -> str:
    return digest("\0".join(map(str, credentials)))
