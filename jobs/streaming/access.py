"""Who may watch a job, also while it goes on: keys are revoked and members leave while a stream is open."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.core import signing

from jobs.models import Job
from jobs.streaming.source import in_reader
from myctobot.tenants.authentication import Caller, find_api_key
from myctobot.tenants.models import ApiKey, Member

TICKET_LIFE_S = 60
_SALT = "jobs.stream-ticket"
# How old an answer to "still allowed?" may be; a revoked key watches at most so much longer, and a heartbeat.
CHECK_EVERY_S = 30.0


@dataclass(frozen=True)
class Access:
    """Leave to watch the jobs of one tenant, and what it rests on: a key, or a user's session.

    Attributes:
        session: the session's key; a ticket that a session asked for ends with it.
    """

    tenant_id: int
    api_key_id: int | None = None
    user_id: int | None = None
    session: str | None = None

    @classmethod
    def of(cls, caller: Caller, session: str | None = None) -> Access:
        key, user = caller.api_key, caller.user
        return cls(caller.tenant.pk, key.pk if key else None, user.pk if user else None, session if user else None)


def is_allowed(access: Access) -> bool:
    """Whether the access still holds."""
    if access.api_key_id is not None:
        return ApiKey.live().filter(pk=access.api_key_id, tenant_id=access.tenant_id).exists()
    if access.user_id is None:
        return False
    members = Member.objects.filter(user_id=access.user_id, tenant_id=access.tenant_id)
    if not members.filter(user__is_active=True, tenant__is_active=True).exists():
        return False
    return access.session is None or _sessions().exists(access.session)


def _sessions(key: str | None = None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def by_key(key: str) -> Access | None:
    """Return what an API key gives access to; None when it is not valid."""
    found = find_api_key(key)
    return Access(found.tenant_id, api_key_id=found.pk) if found else None


def by_session(session_key: str, job_id: str) -> Access | None:
    """Return the access of a session's user to a job; None when nobody is logged in there.

    A user of several tenants has the one that the job belongs to; for a job of no such tenant it is any of them, so
    that the job is unknown and not the user.
    """
    user = get_user(SimpleNamespace(session=_sessions(session_key)))  # type: ignore[arg-type]  # only its session is read
    if not isinstance(user, get_user_model()):
        return None
    tenants = list(
        Member.objects.filter(user=user, tenant__is_active=True).order_by("pk").values_list("tenant_id", flat=True)
    )
    owner = Job.objects.filter(public_id=job_id, tenant__in=tenants).values_list("tenant_id", flat=True).first()
    return Access(owner or tenants[0], user_id=user.pk, session=session_key) if tenants else None


def make_ticket(access: Access, job_id: str) -> str:
    """Make a ticket to watch one job, worth ``TICKET_LIFE_S`` seconds, for where no header can be sent."""
    return signing.dumps({"job": job_id, **asdict(access)}, salt=_SALT)


def by_ticket(ticket: str, job_id: str) -> Access | None:
    """Return what a ticket gives access to; None when it is forged, expired or for another job."""
    try:
        content = signing.loads(ticket, salt=_SALT, max_age=TICKET_LIFE_S)
    except signing.BadSignature:
        return None
    return Access(**content) if content.pop("job") == job_id else None


class Guard:
    """Asks now and then whether an access still holds."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._asked_at = time.monotonic()

    async def holds(self) -> bool:
        """Whether it does, as of at most ``CHECK_EVERY_S`` ago. Raises as ``in_reader`` does."""
        if time.monotonic() - self._asked_at < CHECK_EVERY_S:
            return True
        allowed = await in_reader(lambda: is_allowed(self._access))
        self._asked_at = time.monotonic()
        return allowed
