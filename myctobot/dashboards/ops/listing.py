"""Table of shards with filters and pagination by name, so that added or removed shards do not shift the pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Count, F, Q, QuerySet, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Now
from django.http import QueryDict

from jobs.models import Attempt
from jobs.models.states import AttemptState
from shards.health.rules import suspension_text, unhealthy_reason
from shards.models import Shard, ShardState, Suspension
from shards.models.timeouts import SILENT_AFTER

PAGE: Final = 25
UNHEALTHY: Final = "unhealthy"
STATES: Final = (UNHEALTHY, *(str(state) for state in ShardState))
_MAX_TEXT: Final = 100
_COLUMNS: Final = (
    "pk", "name", "shard_class", "pool__name", "is_active", "is_spare", "state", "state_reason", "last_heartbeat_at",
    "max_concurrent_jobs",
)  # fmt: skip
_REPORTED: Final = ("slots", "cpu_percent", "memory_mb", "memory_total_mb")
# Values of ``Shard.report`` as JSON text.
_REPORT: Final = {name: KT(f"report__{name}") for name in _REPORTED}


def unhealthy() -> Q:
    """Select active shards that are silent or that the monitor found suspect or lost."""
    silent = Q(state=ShardState.READY) & ~Q(last_heartbeat_at__gt=Now() - Value(SILENT_AFTER))
    return Q(is_active=True) & (Q(state__in=[ShardState.SUSPECT, ShardState.LOST]) | silent)


@dataclass(frozen=True)
class ShardFilters:
    """Filters of the table of shards.

    Attributes:
        state: one of ``STATES``, or empty for all that are not gone.
        pool: a pool's name.
        text: part of a shard's name or of its class.
    """

    state: str = ""
    pool: str = ""
    text: str = ""

    @classmethod
    def read(cls, query: QueryDict) -> ShardFilters:
        """Read the filters from a page's query, without invalid values."""
        state = query.get("state", "")
        pool, text = (query.get(name, "").replace("\x00", "").strip()[:_MAX_TEXT] for name in ("pool", "q"))
        return cls(state if state in STATES else "", pool, text)

    def __bool__(self) -> bool:
        return bool(self.state or self.pool or self.text)

    def query(self, **cursor: str) -> str:
        """Return the query of another page of the same list."""
        parts = {"state": self.state, "pool": self.pool, "q": self.text, **cursor}
        return "?" + urlencode({name: value for name, value in parts.items() if value})

    def apply(self) -> QuerySet[Shard]:
        shards = Shard.objects.all()
        if self.state == UNHEALTHY:
            shards = shards.filter(unhealthy())
        else:
            shards = shards.filter(state=self.state) if self.state else shards.exclude(state=ShardState.GONE)
        if self.pool:
            shards = shards.filter(pool__name=self.pool)
        if self.text:
            shards = shards.filter(Q(name__icontains=self.text) | Q(shard_class__icontains=self.text))
        return shards


@dataclass(frozen=True)
class ShardRow:
    """Row of the table of shards.

    Attributes:
        health: ``good``, ``bad``, ``busy`` (an operation or a drain is active) or ``off``.
        why: the reason of the state.
        heartbeat_age_s: seconds since the last heartbeat; None before the first one.
    """

    name: str
    shard_class: str
    state: str
    health: str
    why: str
    running: int
    slots: int
    cpu_percent: float | None
    memory_mb: int | None
    memory_total_mb: int | None
    heartbeat_age_s: float | None


@dataclass(frozen=True)
class ShardPage:
    """Shards of one page by name, and the queries of the adjacent pages; empty where there is none."""

    shards: list[ShardRow]
    before: str = ""
    after: str = ""


def read_page(filters: ShardFilters, query: QueryDict, now: datetime) -> ShardPage:
    """Read the page after or before a name, or the first page, in three queries for any number of shards."""
    after, before = (query.get(name, "").replace("\x00", "")[:_MAX_TEXT] for name in ("after", "before"))
    shards = filters.apply().annotate(**{f"report_{name}": value for name, value in _REPORT.items()})
    if before:
        found = list(shards.filter(name__lt=before).order_by("-name").values(*_COLUMNS, *_report_columns())[: PAGE + 1])
        rows, more_before, more_after = found[:PAGE][::-1], len(found) > PAGE, True
    else:
        following = shards.filter(name__gt=after) if after else shards
        found = list(following.order_by("name").values(*_COLUMNS, *_report_columns())[: PAGE + 1])
        rows, more_before, more_after = found[:PAGE], bool(after), len(found) > PAGE
    return ShardPage(
        _to_rows(rows, now),
        filters.query(before=rows[0]["name"]) if rows and more_before else "",
        filters.query(after=rows[-1]["name"]) if rows and more_after else "",
    )


def _report_columns() -> tuple[str, ...]:
    return tuple(f"report_{name}" for name in _REPORTED)


def _to_rows(rows: list[dict[str, Any]], now: datetime) -> list[ShardRow]:
    keys = [row["pk"] for row in rows]
    attempts = Attempt.objects.filter(state=AttemptState.RUNNING, ended_at=None, shard__in=keys)
    running = dict(attempts.values_list("shard").annotate(Count("pk")))
    open_drains = Suspension.objects.filter(shard__in=keys, resumed_at=None)
    drains = {
        pk: suspension_text("drained", by, at, reason)
        for pk, by, at, reason in open_drains.values_list("shard_id", "suspended_by", "suspended_at", "reason")
    }
    return [_row(row, running.get(row["pk"], 0), drains.get(row["pk"], ""), now) for row in rows]


def _row(row: dict[str, Any], running: int, drained: str, now: datetime) -> ShardRow:
    heartbeat_at = row["last_heartbeat_at"]
    unhealthy_text = unhealthy_reason(
        is_active=row["is_active"], state=row["state"], last_heartbeat_at=heartbeat_at, now=now
    )
    health, why = _health(row, unhealthy_text, drained)
    slots, cpu, memory, memory_total = (row[name] for name in _report_columns())
    return ShardRow(
        row["name"],
        row["shard_class"],
        row["state"],
        health,
        why,
        running,
        row["max_concurrent_jobs"] if slots is None else min(row["max_concurrent_jobs"], int(float(slots))),
        None if cpu is None else float(cpu),
        None if memory is None else int(float(memory)),
        None if memory_total is None else int(float(memory_total)),
        None if heartbeat_at is None else max(0.0, (now - heartbeat_at).total_seconds()),
    )


def _health(row: dict[str, Any], unhealthy_text: str | None, drained: str) -> tuple[str, str]:
    state, reason = row["state"], row["state_reason"]
    if not row["is_active"]:
        return "off", "switched off"
    if state in (ShardState.SUSPECT, ShardState.LOST):
        return "bad", reason
    if state == ShardState.READY and unhealthy_text:
        return "bad", unhealthy_text
    if drained:
        return "busy", drained
    if row["is_spare"]:
        return "busy", "spare: takes jobs when the pool needs it"
    if state == ShardState.READY:
        return "good", ""
    return ("off" if state in (ShardState.STOPPED, ShardState.GONE) else "busy"), reason


def pools() -> list[str]:
    """Return the names of pools that have shards, for the filter."""
    names = Shard.objects.exclude(state=ShardState.GONE).exclude(pool=None).order_by(F("pool__name"))
    return list(names.values_list("pool__name", flat=True).distinct()[:200])
