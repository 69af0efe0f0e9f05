"""Permission to watch a job, checked again while a stream is open: keys are revoked and members leave."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.core import signing
from django.db import Error as DatabaseError

from jobs.models import Job
from jobs.streaming.reader import in_reader
from myctobot.accounts.second_factor import MissingStep, missing_step
from myctobot.lib.crypto import CannotUnseal
from myctobot.tenants.authentication import Caller, find_api_key
from myctobot.tenants.models import ApiKey, Member
from myctobot.tenants.secrets import sealer

log = structlog.get_logger(__name__)

TICKET_LIFE_S = 60
_SALT = "jobs.stream-ticket"
# A stream with a revoked key ends within this time plus the time to the next event or heartbeat.
CHECK_EVERY_S = 30.0


@dataclass(frozen=True)
class WatchAccess:
    """Permission to watch the jobs of one tenant, based on an API key or on a user's session.

    Attributes:
        session: key of the user's session, which must stay secret. A user without one has no access.
    """

    tenant_id: int
    api_key_id: int | None = None
    user_id: int | None = None
    session: str | None = None

    @classmethod
    def for_caller(cls, caller: Caller, session: str | None = None) -> WatchAccess:
        """Return the access of a caller that is authenticated already."""
        key, user = caller.api_key, caller.user
        return cls(caller.tenant.pk, key.pk if key else None, user.pk if user else None, session if user else None)


def still_allowed(accesses: Iterable[WatchAccess]) -> set[WatchAccess]:
    """Return the accesses that are still valid.

    All keys and memberships are read in two queries, and each session with its user in two more.
    """
    asked = list(accesses)
    key_ids = [access.api_key_id for access in asked if access.api_key_id is not None]
    user_ids = [access.user_id for access in asked if access.user_id is not None]
    keys = set(ApiKey.live().filter(pk__in=key_ids).values_list("pk", "tenant_id")) if key_ids else set()
    members = Member.objects.filter(user__in=user_ids, user__is_active=True, tenant__is_active=True)
    pairs = set(members.values_list("user_id", "tenant_id")) if user_ids else set()
    return {
        access
        for access in asked
        if (access.api_key_id, access.tenant_id) in keys
        or ((access.user_id, access.tenant_id) in pairs and _session_is_valid(access))
    }


def _session_is_valid(access: WatchAccess) -> bool:
    """Tell whether the session is logged in as the user: a logout removes it, and a new password invalidates it."""
    user = _user_of(access.session) if access.session else None
    return user is not None and user.pk == access.user_id


def _user_of(session_key: str) -> User | None:
    session = _sessions(session_key)
    user = get_user(SimpleNamespace(session=session))  # type: ignore[arg-type]  # only its session is read
    if not isinstance(user, User) or missing_step(user, session) is not MissingStep.NONE:
        return None
    return user


def _sessions(key: str | None = None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def by_key(key: str) -> WatchAccess | None:
    """Return what an API key gives access to; None when it is not valid."""
    found = find_api_key(key)
    return WatchAccess(found.tenant_id, api_key_id=found.pk) if found else None


def by_session(session_key: str, job_id: str) -> WatchAccess | None:
    """Return the access of a session's user to a job; None when the session is not logged in.

    A user of several tenants gets the one that owns the job. For a job of none of them any tenant is used, so that the
    answer is "unknown job" and not "not authenticated".
    """
    user = _user_of(session_key)
    if user is None:
        return None
    tenants = list(
        Member.objects.filter(user=user, tenant__is_active=True).order_by("pk").values_list("tenant_id", flat=True)
    )
    owner = Job.objects.filter(public_id=job_id, tenant__in=tenants).values_list("tenant_id", flat=True).first()
    return WatchAccess(owner or tenants[0], user_id=user.pk, session=session_key) if tenants else None


def make_ticket(access: WatchAccess, job_id: str) -> str:
    """Return a ticket to watch one job, valid for ``TICKET_LIFE_S`` seconds, for clients that cannot send headers."""
    content = asdict(access)
    if access.session is not None:
        # The ticket appears in a URL and is readable, so the session in it is encrypted.
        content["session"] = sealer().seal({"session": access.session}, bound_to=_binding(job_id))
    return signing.dumps({"job": job_id, **content}, salt=_SALT)


def _binding(job_id: str) -> str:
    return f"stream-ticket:{job_id}"


def by_ticket(ticket: str, job_id: str) -> WatchAccess | None:
    """Return what a ticket gives access to; None when it is forged, expired, for another job, or no longer valid."""
    try:
        content = signing.loads(ticket, salt=_SALT, max_age=TICKET_LIFE_S)
        if content.pop("job") != job_id:
            return None
        if content["session"] is not None:
            content["session"] = sealer().unseal(content["session"], bound_to=_binding(job_id))["session"]
    except (signing.BadSignature, CannotUnseal):
        return None
    return next(iter(still_allowed([WatchAccess(**content)])), None)


class AccessMonitor:
    """Checks the accesses of all open streams of a process together, in the background.

    An access that several streams share is checked once. Streams stay open while the database does not answer.
    """

    def __init__(self) -> None:
        self._open: Counter[WatchAccess] = Counter()
        self._ended: set[WatchAccess] = set()
        self._checking: asyncio.Task[None] | None = None

    def is_valid(self, access: WatchAccess) -> bool:
        """Tell whether the access was valid at the last check."""
        return access not in self._ended

    @contextmanager
    def watching(self, access: WatchAccess) -> Iterator[None]:
        """Check an access as long as the context is open; the caller has just checked it."""
        self._ended.discard(access)
        self._open[access] += 1
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_periodically())
        try:
            yield
        finally:
            self._open[access] -= 1
            self._open = +self._open
            self._ended &= self._open.keys()
            if not self._open and self._checking:
                self._checking.cancel()
                self._checking = None

    async def _check_periodically(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            checked = set(self._open)
            try:
                valid = await in_reader(partial(still_allowed, checked))
            except DatabaseError as error:
                log.warning("stream.access_not_checked", accesses=len(checked), error=str(error))
            else:
                self._ended |= checked - valid


_monitors: WeakKeyDictionary[asyncio.AbstractEventLoop, AccessMonitor] = WeakKeyDictionary()


def access_monitor() -> AccessMonitor:
    """Return the monitor of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _monitors.get(loop)
    if found is None:
        found = _monitors[loop] = AccessMonitor()
    return found
