"""Template filters for numbers, times and jobs on the console's pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator

from jobs.lifecycle.job_request import key_of_branch
from jobs.models import Attempt, Job
from myctobot.contract.jobs import JobStatus
from myctobot.dashboards.forms import CAUSES
from myctobot.dashboards.repository_links import ResultLinks, result_links
from myctobot.dashboards.safe_links import sanitize

# Error codes of runners that the policy of a repository decides.
_POLICY_CODES: Final = frozenset({"ci_files_refused", "default_branch_refused", "default_branch_unknown"})

register = template.Library()
register.filter(sanitize)


@register.filter
def duration(seconds: float | None) -> str:
    """Format seconds: 8 s, 2 min 5 s, 3 h 20 min, 2 d 4 h."""
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
    """Format estimated seconds: a moment, about 40 s, about 3 min, about 2.5 h, about 3 d."""
    if seconds < 1:
        return "a moment"
    for limit, length, unit in ((90, 1, "s"), (90 * 60, 60, "min")):
        if seconds < limit:
            return f"about {seconds / length:.0f} {unit}"
    hours = seconds / 3600
    if hours < 10:
        return f"about {hours:.1f} h".replace(".0 ", " ")
    return f"about {hours:.0f} h" if hours < 36 else f"about {hours / 24:.0f} d"


@register.filter
def elapsed(job: Job) -> float | None:
    """Return the run time of a job in seconds, until now or until its end; None before its start."""
    if job.started_at is None:
        return None
    return ((job.finished_at or timezone.now()) - job.started_at).total_seconds()


@register.filter
def waited(job: Job) -> float:
    """Return the seconds since a job was requested, or since the end of its last attempt that ran."""
    ends = [attempt.ended_at for attempt in job.attempts.all() if attempt.claimed_at and attempt.ended_at]
    return (timezone.now() - max(ends, default=job.created_at)).total_seconds()


@register.filter
def ran(attempt: Attempt) -> float | None:
    """Return the duration of an attempt in seconds; None before its end, or when no runner claimed it."""
    if attempt.claimed_at is None or attempt.ended_at is None:
        return None
    return (attempt.ended_at - attempt.claimed_at).total_seconds()


@register.filter
def latest_attempt(job: Job) -> Attempt | None:
    """Return the latest attempt, if there is one."""
    return max(job.attempts.all(), key=lambda attempt: attempt.number, default=None)


@register.filter
def tries(job: Job) -> int:
    """Count the attempts that ran; attempts that no runner claimed do not count against the limit."""
    return sum(attempt.claimed_at is not None for attempt in job.attempts.all())


@register.filter
def retry_policy(job: Job) -> str:
    """Describe when and how often the job is retried automatically."""
    causes = " or ".join(words for cause, words in CAUSES.items() if cause in job.retry_on)
    if job.max_attempts == 1 or not causes:
        return "one attempt"
    return f"at most {job.max_attempts} attempts, another one when {causes}"


@register.filter
def own_key(job: Job) -> str:
    """Return the concurrency key unless it is the default key of the branch."""
    return sanitize(job.concurrency_key) if job.concurrency_key != key_of_branch(job.task) else ""


@register.filter
def linked(sentence: str, job_ids: Sequence[str]) -> SafeString:
    """Return the sentence with the ids of these jobs as links to their pages."""
    text = escape(sentence)
    for job_id in job_ids:
        text = mark_safe(text.replace(job_id, f'<a href="{reverse("console-job", args=[job_id])}">{job_id}</a>'))  # noqa: S308  # escaped above; the control plane generates the ids
    return text


@register.filter
def links(job: Job) -> ResultLinks:
    """Return the links to the branch and the commit of a job's result."""
    result = job.result or {}
    values = (job.task.get("repo_url"), result.get("branch"), result.get("head"))
    return result_links(*(value if isinstance(value, str) else "" for value in values))


@register.filter
def was_refused_by_policy(job: Job) -> bool:
    """Tell whether a job failed because no policy of its repository allows the push."""
    return job.error_code in _POLICY_CODES


@register.filter
def known(message: str) -> dict[str, str]:
    """Split the message of an unconfirmed cancel: what happened, what is known and what is unknown."""
    what, _, rest = message.partition(" Known: ")
    sure, _, unsure = rest.partition(" Not known: ")
    return {"what": what, "known": sure, "unknown": unsure}


@register.filter
def repository(job: Job) -> str:
    """Return the short name of the repository: the end of its URL."""
    url = sanitize(job.task.get("repo_url"))
    return "/".join(url.removesuffix(".git").rstrip("/").split("/")[-2:])


@register.filter
def title(job: Job) -> str:
    """Return a short title of a job: its ticket and the start of its prompt."""
    first = sanitize(job.task.get("prompt")).strip().split("\n", 1)[0]
    short = first if len(first) <= 100 else first[:99] + "…"
    key = sanitize(job.task.get("issue_key"))
    return f"{key}: {short}" if key else short


# Marks before the title of a tab, so that its state is visible among other tabs.
_MARKS: Final = {
    JobStatus.QUEUED: "…",
    JobStatus.RUNNING: "▶",
    JobStatus.COMPLETED: "✓",
    JobStatus.FAILED: "✗",
    JobStatus.CANCELLED: "⊘",
}


@register.filter
def tab_title(job: Job) -> str:
    """Return the title of the job's tab: a mark of its status and the short title."""
    return f"{_MARKS[JobStatus(job.status)]} {Truncator(title(job)).chars(60)}"


@register.filter
def tab_icon(job: Job) -> str:
    """Return the static file of the tab's icon, which shows the status as a coloured dot."""
    return f"dashboards/icon-{JobStatus(job.status).value}.svg"


@register.filter
def author(job: Job) -> str:
    """Return the name of the user or of the key that started the job."""
    if job.created_by:
        return job.created_by.get_username()
    return f"key {job.api_key.name}" if job.api_key else "a deleted user or key"


@register.filter
def thousands(value: int | None) -> str:
    return "" if value is None else f"{value:,}".replace(",", "\u202f")


@register.simple_tag
def moment(at: datetime | None) -> SafeString | str:
    """Return a ``time`` element; a script shows it in the reader's time zone."""
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
    """Return the CSS class of a status."""
    return f"status-{status}" if status in set(JobStatus) else "status-queued"
