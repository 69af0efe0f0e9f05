"""Queries of delivery: find due callbacks tenant by tenant and host by host, and lease those that are sent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from jobs.callbacks.models import Callback, CallbackState
from jobs.callbacks.outbox import host_of
from jobs.callbacks.slots import MAX_OF_HOST, DueCallback
from myctobot.lib.http_client import TIMEOUT_S

# Callbacks of a process that dies while sending are sent again after this time, with the same ids.
LEASE: Final = timedelta(seconds=3 * TIMEOUT_S)
# Hosts of one tenant that one pass reads. The next pass continues after the last one.
MAX_HOSTS_IN_PASS: Final = 64
_MAX_ADOPTED: Final = 500

# These statements skip from value to value in an index, so that their cost depends on tenants and hosts only.
_TENANTS: Final = f"""
    WITH RECURSIVE tenant AS (
        SELECT min(tenant_id) AS id FROM jobs_callback
        WHERE state = '{CallbackState.WAITING.value}' AND tenant_id IS NOT NULL
        UNION ALL
        SELECT (
            SELECT min(tenant_id) FROM jobs_callback
            WHERE state = '{CallbackState.WAITING.value}' AND tenant_id > tenant.id
        ) FROM tenant WHERE tenant.id IS NOT NULL
    )
    SELECT id FROM tenant WHERE id IS NOT NULL
"""  # noqa: S608  # only our own constants
_DUE: Final = f"""
    SELECT wanted.tenant_id, lane.name, lane.place, due.id, due.tries
    FROM unnest(%(tenants)s::bigint[], %(after)s::text[]) AS wanted (tenant_id, after)
    CROSS JOIN LATERAL (
        WITH RECURSIVE step AS (
            SELECT min(host) AS name, 1 AS place FROM jobs_callback
            WHERE state = '{CallbackState.WAITING.value}' AND tenant_id = wanted.tenant_id AND host > wanted.after
            UNION ALL
            SELECT (
                SELECT min(host) FROM jobs_callback
                WHERE state = '{CallbackState.WAITING.value}' AND tenant_id = wanted.tenant_id AND host > step.name
            ), place + 1 FROM step WHERE step.name IS NOT NULL AND place < %(max_hosts)s
        )
        SELECT name, place FROM step WHERE name IS NOT NULL
    ) AS lane
    LEFT JOIN LATERAL (
        SELECT id, tries, next_try_at FROM jobs_callback
        WHERE state = '{CallbackState.WAITING.value}' AND tenant_id = wanted.tenant_id AND host = lane.name
            AND next_try_at <= statement_timestamp()
        ORDER BY next_try_at LIMIT {MAX_OF_HOST}
    ) AS due ON true
    ORDER BY due.next_try_at, due.id
"""  # noqa: S608  # only our own constants


class DueReader:
    """Reader of due callbacks that gives each tenant and each of its hosts a turn."""

    def __init__(self) -> None:
        # Last host that was read, by tenant; absent for tenants whose hosts were all read.
        self._after: dict[int, str] = {}

    @property
    def is_complete(self) -> bool:
        """True if the passes so far read all hosts of all tenants that have a free slot."""
        return not self._after

    def read(self, has_free_slot: Callable[[int], bool]) -> list[DueCallback]:
        """Return due callbacks in the order of their times, at most ``MAX_OF_HOST`` of each host.

        Args:
            has_free_slot: tells by primary key whether a tenant may have a further delivery; others are not read.
        """
        with connection.cursor() as cursor:
            cursor.execute(_TENANTS)
            tenants = [tenant for (tenant,) in cursor.fetchall() if has_free_slot(tenant)]
            after = [self._after.get(tenant, "") for tenant in tenants]
            cursor.execute(_DUE, {"tenants": tenants, "after": after, "max_hosts": MAX_HOSTS_IN_PASS})
            rows = cursor.fetchall()
        # The database orders the hosts, so it also says which one was the last of a full pass.
        self._after = {tenant: host for tenant, host, place, *_ in rows if place == MAX_HOSTS_IN_PASS}
        return [DueCallback(key, tenant, host, tries) for tenant, host, _, key, tries in rows if key is not None]


@transaction.atomic
def lease(chosen: Collection[DueCallback]) -> list[Callback]:
    """Lease callbacks for the time of a delivery, and return those that are still due."""
    keys = [callback.key for callback in chosen]
    due = Callback.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        pk__in=keys, state=CallbackState.WAITING, next_try_at__lte=Now()
    )
    leased = list(due.select_related("job__tenant"))
    taken = Callback.objects.filter(pk__in=[callback.pk for callback in leased])
    taken.update(tries=F("tries") + 1, next_try_at=Now() + LEASE)
    for callback in leased:
        callback.tries += 1
    return leased


def adopt() -> None:
    """Set tenant and host of waiting callbacks that a process of the previous release stored or asked for again."""
    waiting = Callback.objects.filter(state=CallbackState.WAITING, tenant=None)
    # There is rarely any row. Without columns, Django builds the query in a tenth of the time.
    if not waiting.exists():
        return
    found = list(waiting.select_related("job")[:_MAX_ADOPTED])
    for callback in found:
        callback.tenant_id, callback.host = callback.job.tenant_id, host_of(callback.job.callback_url)
    Callback.objects.bulk_update(found, ["tenant", "host"])
