"""List of jobs with filters and cursor pagination, so that new jobs do not shift the pages."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import QueryDict

from jobs.models import Job
from myctobot.contract.jobs import TERMINAL, JobStatus
from myctobot.tenants.authentication import Caller

PAGE = 25
LIVE = "live"
STATUSES = (LIVE, *(status.value for status in JobStatus))
_MAX_TEXT = 200


@dataclass(frozen=True)
class JobFilters:
    """Filters of the list of jobs.

    Attributes:
        status: one of ``STATUSES``, or empty for all.
        text: part of an id, a prompt, a ticket or a repository.
        mine: only jobs that the caller started in a session.
    """

    status: str = ""
    text: str = ""
    mine: bool = False

    @classmethod
    def read(cls, query: QueryDict) -> JobFilters:
        """Read the filters from a page's query, without invalid values."""
        status = query.get("status", "")
        text = query.get("q", "").replace("\x00", "").strip()[:_MAX_TEXT]
        return cls(status if status in STATUSES else "", text, query.get("mine") == "1")

    def query(self, **cursor: str) -> str:
        """Return the query of another page of the same list."""
        parts = {"status": self.status, "q": self.text, "mine": "1" if self.mine else "", **cursor}
        return "?" + urlencode({name: value for name, value in parts.items() if value})

    def apply(self, caller: Caller) -> QuerySet[Job]:
        jobs = Job.objects.filter(tenant=caller.tenant)
        if self.status == LIVE:
            jobs = jobs.exclude(status__in=TERMINAL)
        elif self.status:
            jobs = jobs.filter(status=self.status)
        if self.mine:
            jobs = jobs.filter(created_by=caller.user)
        if self.text:
            fields = ("public_id", "task__prompt", "task__issue_key", "task__repo_url")
            matches = Q()
            for name in fields:
                matches |= Q(**{f"{name}__icontains": self.text})
            jobs = jobs.filter(matches)
        return jobs.select_related("created_by", "api_key").prefetch_related("attempts__shard")


@dataclass(frozen=True)
class JobPage:
    """Jobs of one page, newest first, and the queries of the adjacent pages; empty where there is none."""

    jobs: list[Job]
    newer: str = ""
    older: str = ""

    @property
    def is_live(self) -> bool:
        """True when a job on the page may still change."""
        return any(not job.is_over for job in self.jobs)


def read_page(filters: JobFilters, caller: Caller, query: QueryDict) -> JobPage:
    """Read the page before or after a job, or the newest page.

    Args:
        query: ``before`` or ``after`` may have the id of a job of the tenant; other values are ignored.
    """
    jobs = filters.apply(caller)
    before, after = (_cursor(caller, query.get(name, "")) for name in ("before", "after"))
    if after is not None:
        found = list(jobs.filter(pk__gt=after).order_by("pk")[: PAGE + 1])
        rows, more_newer, more_older = found[:PAGE][::-1], len(found) > PAGE, True
    else:
        older = jobs.filter(pk__lt=before) if before is not None else jobs
        found = list(older.order_by("-pk")[: PAGE + 1])
        rows, more_newer, more_older = found[:PAGE], before is not None, len(found) > PAGE
    return JobPage(
        rows,
        filters.query(after=rows[0].public_id) if rows and more_newer else "",
        filters.query(before=rows[-1].public_id) if rows and more_older else "",
    )


def _cursor(caller: Caller, public_id: str) -> int | None:
    rows = Job.objects.filter(tenant=caller.tenant, public_id=public_id.replace("\x00", ""))
    return rows.values_list("pk", flat=True).first() if public_id else None
