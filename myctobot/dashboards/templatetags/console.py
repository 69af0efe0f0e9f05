"""How figures and times read on the console's pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from jobs.lifecycle.submit import key_of_branch
from jobs.models.job import Attempt, Job
from myctobot.contract.jobs import JobStatus
from myctobot.dashboards.forms import CAUSES
from myctobot.dashboards.safe_links import harmless

register = template.Library()
register.filter(harmless)


@register.filter
def duration(seconds: float | None) -> str:
    """Seconds as people say them: 8 s, 2 min 5 s, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min {whole % 60} s"
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


@register.filter
def roughly(seconds: float) -> str:
    """Seconds that somebody has estimated: a moment, about 40 s, about 3 min, about 2.5 h, about 3 d."""
    if seconds < 1:
        return "a moment"
    for most, length, unit in ((90, 1, "s"), (90 * 60, 60, "min")):
        if seconds < most:
            return f"about {seconds / length:.0f} {unit}"
    hours = seconds / 3600
    if hours < 10:
        return f"about {hours:.1f} h".replace(".0 ", " ")
    return f"about {hours:.0f} h" if hours < 36 else f"about {hours / 24:.0f} d"


@register.filter
def elapsed(job: Job) -> float | None:
    """Seconds that a job has run, or had run when it ended; None before its start."""
    if job.started_at is None:
        return None
    return ((job.finished_at or timezone.now()) - job.started_at).total_seconds()


@register.filter
def waited(job: Job) -> float:
    """Seconds since a job was asked for, or since its last attempt that ran ended."""
    ends = [attempt.ended_at for attempt in job.attempts.all() if attempt.claimed_at and attempt.ended_at]
    return (timezone.now() - max(ends, default=job.created_at)).total_seconds()


@register.filter
def ran(attempt: Attempt) -> float | None:
    """Seconds that an attempt took; None while it goes on, or when nobody took it."""
    if attempt.claimed_at is None or attempt.ended_at is None:
        return None
    return (attempt.ended_at - attempt.claimed_at).total_seconds()


@register.filter
def latest_attempt(job: Job) -> Attempt | None:
    """The attempt that counts, if there is any."""
    return max(job.attempts.all(), key=lambda attempt: attempt.number, default=None)


@register.filter
def tries(job: Job) -> int:
    """How many attempts have run: those that nobody took do not count against the bound."""
    return sum(attempt.claimed_at is not None for attempt in job.attempts.all())


@register.filter
def retry_policy(job: Job) -> str:
    """What is tried again by itself, and how often."""
    causes = " or ".join(words for cause, words in CAUSES.items() if cause in job.retry_on)
    if job.max_attempts == 1 or not causes:
        return "one attempt"
    return f"at most {job.max_attempts} attempts, another one when {causes}"


@register.filter
def own_key(job: Job) -> str:
    """The concurrency key where it says more than the branch does."""
    return harmless(job.concurrency_key) if job.concurrency_key != key_of_branch(job.task) else ""


@register.filter
def linked(sentence: str, job_ids: Sequence[str]) -> SafeString:
    """A sentence in which some jobs' ids lead to their pages."""
    text = escape(sentence)
    for job_id in job_ids:
        text = mark_safe(text.replace(job_id, f'<a href="{reverse("console-job", args=[job_id])}">{job_id}</a>'))  # noqa: S308  # escaped above; ids are our own
    return text


@register.filter
def known(message: str) -> dict[str, str]:
    """What is said of a cancel that nobody has confirmed, in its parts: what happened, what is known, what is not."""
    what, _, rest = message.partition(" Known: ")
    sure, _, unsure = rest.partition(" Not known: ")
    return {"what": what, "known": sure, "unknown": unsure}


@register.filter
def repository(job: Job) -> str:
    """The end of the repository's address: what people call it."""
    url = harmless(job.task.get("repo_url"))
    return "/".join(url.removesuffix(".git").rstrip("/").split("/")[-2:])


@register.filter
def title(job: Job) -> str:
    """A job in a few words: its ticket, and how its prompt begins."""
    first = harmless(job.task.get("prompt")).strip().split("\n", 1)[0]
    short = first if len(first) <= 100 else first[:99] + "…"
    key = harmless(job.task.get("issue_key"))
    return f"{key}: {short}" if key else short


@register.filter
def author(job: Job) -> str:
    """Who asked for it."""
    if job.created_by:
        return job.created_by.get_username()
    return f"key {job.api_key.name}" if job.api_key else "somebody since removed"


@register.filter
def thousands(value: int | None) -> str:
    return "" if value is None else f"{value:,}".replace(",", "\u202f")


@register.simple_tag
def moment(at: datetime | None) -> SafeString | str:
    """A time for people and programs; a script shows it in the reader's own zone."""
    if at is None:
        return ""
    utc = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        utc.isoformat(),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        utc.strftime("%b %-d, %H:%M"),
    )


@register.filter
def tone(status: Any) -> str:
    """The CSS class of a status."""
    return f"status-{status}" if status in set(JobStatus) else "status-queued"
