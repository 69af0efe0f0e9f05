"""Who may watch a job, also while it goes on: keys are revoked and members leave while a stream is open."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.core import signing
from django.db import Error as DatabaseError

from jobs.models.job import Job
from jobs.streaming.reader import in_reader
from myctobot.tenants.authentication import Caller, find_api_key
from myctobot.tenants.models import ApiKey, Member

log = structlog.get_logger(__name__)

TICKET_LIFE_S = 60
_SALT = "jobs.stream-ticket"
# A revoked key watches at most so much longer, and until the next event or heartbeat.
CHECK_EVERY_S = 30.0


@dataclass(frozen=True)
class Access:
    """Leave to watch the jobs of one tenant, and what it rests on: a key, or a user's session.

    Attributes:
        session: the session's key, which nobody else may learn.
    """

    tenant_id: int
    api_key_id: int | None = None
    user_id: int | None = None
    session: str | None = None

    @classmethod
    def of(cls, caller: Caller, session: str | None = None) -> Access:
        key, user = caller.api_key, caller.user
        return cls(caller.tenant.pk, key.pk if key else None, user.pk if user else None, session if user else None)


def still_allowed(accesses: Iterable[Access]) -> set[Access]:
    """Return those that still hold; the keys and the members of all are looked up together."""
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
        or ((access.user_id, access.tenant_id) in pairs and _session_goes_on(access.session))
    }


def _session_goes_on(session: str | None) -> bool:
    return session is None or bool(_sessions().exists(session))


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
    # Signed and not sealed, and it stands in an address: whoever reads it must not find a session in it.
    return signing.dumps({"job": job_id, **asdict(replace(access, session=None))}, salt=_SALT)


def by_ticket(ticket: str, job_id: str) -> Access | None:
    """Return what a ticket gives access to; None when it is forged, expired, for another job, or its key has ended."""
    try:
        content = signing.loads(ticket, salt=_SALT, max_age=TICKET_LIFE_S)
    except signing.BadSignature:
        return None
    if content.pop("job") != job_id:
        return None
    return next(iter(still_allowed([Access(**content)])), None)


class Guards:
    """Asks for all open streams of a process, together and beside them, whether their accesses still hold.

    Who watches many jobs is asked about once. While the database does not answer, everybody goes on.
    """

    def __init__(self) -> None:
        self._open: Counter[Access] = Counter()
        self._ended: set[Access] = set()
        self._asking: asyncio.Task[None] | None = None

    def holds(self, access: Access) -> bool:
        """Whether it did when it was asked last."""
        return access not in self._ended

    @contextmanager
    def watching(self, access: Access) -> Iterator[None]:
        """Ask about an access while this is open; it has just been seen to hold."""
        self._ended.discard(access)
        self._open[access] += 1
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        try:
            yield
        finally:
            self._open[access] -= 1
            self._open = +self._open
            self._ended &= self._open.keys()
            if not self._open and self._asking:
                self._asking.cancel()
                self._asking = None

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            asked = set(self._open)
            try:
                held = await in_reader(partial(still_allowed, asked))
            except DatabaseError as error:
                log.warning("stream.access_not_checked", accesses=len(asked), error=str(error))
            else:
                self._ended |= asked - held


_guards: WeakKeyDictionary[asyncio.AbstractEventLoop, Guards] = WeakKeyDictionary()


def guards() -> Guards:
    """The guards of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _guards.get(loop)
    if found is None:
        found = _guards[loop] = Guards()
    return found
