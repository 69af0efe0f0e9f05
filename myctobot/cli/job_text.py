"""Text of jobs for a terminal; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from myctobot.cli.rendering import usage_text
from myctobot.cli.terminal import OutputLine, Style
from myctobot.cli.wait_status import approximate_duration, waiting_sentence
from myctobot.contract.jobs import JobStatus

STATUS_STYLES: Final[Mapping[str, Style]] = {
    JobStatus.QUEUED: Style.YELLOW,
    JobStatus.RUNNING: Style.CYAN,
    JobStatus.COMPLETED: Style.GREEN,
    JobStatus.FAILED: Style.RED,
    JobStatus.CANCELLED: Style.YELLOW,
}
_LABEL_WIDTH: Final = 12
_USUAL_RETRY: Final = {"max_attempts": 2, "on": ["infrastructure"]}


def list_lines(jobs: Sequence[Mapping[str, Any]], now: datetime) -> list[OutputLine]:
    """Return one line for each job: id, status, age and subject."""
    return [
        OutputLine(
            f"{job['id']:<24}  {job['status']:<9}  {_age(job['created_at'], now):>6}  {job_subject(job)}",
            STATUS_STYLES.get(job["status"], Style.PLAIN),
            wrap=False,
        )
        for job in jobs
    ]


def job_subject(job: Mapping[str, Any]) -> str:
    """Return the subject of a job in one line: the ticket and the first line of the prompt."""
    task = job["task"]
    first = next((line.strip() for line in str(task.get("prompt", "")).splitlines() if line.strip()), "")
    return f"{task['issue_key']}: {first}" if task.get("issue_key") else first


def _age(moment: str, now: datetime) -> str:
    seconds = max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def job_lines(job: Mapping[str, Any], now: datetime) -> list[OutputLine]:
    """Return the facts about one job, one in each line."""
    return [
        OutputLine(str(job["id"]), Style.BOLD),
        *(_fact(label, value, style) for label, fact in _FACTS for value, style in fact(job, now)),
    ]


def _fact(label: str, value: str, style: Style) -> OutputLine:
    return OutputLine(value, style, indent=2, prefix=label.ljust(_LABEL_WIDTH))


_Facts = list[tuple[str, Style]]


def _status(job: Mapping[str, Any], now: datetime) -> _Facts:
    phase = f", {job['phase']}" if job.get("phase") else ""
    wanted = ", cancel requested" if job["status"] == JobStatus.RUNNING and job["cancel_requested_at"] else ""
    return [(f"{job['status']}{phase}{wanted}", STATUS_STYLES.get(job["status"], Style.PLAIN))]


def _waiting(job: Mapping[str, Any], now: datetime) -> _Facts:
    sentence = waiting_sentence(job) or (job.get("waiting") or {}).get("reason")
    return [(str(sentence), Style.PLAIN)] if sentence else []


def _task(job: Mapping[str, Any], now: datetime) -> _Facts:
    return [(job_subject(job), Style.PLAIN)]


def _repository(job: Mapping[str, Any], now: datetime) -> _Facts:
    task = job["task"]
    if not task.get("repo_url"):
        return []
    base = f" from {task['base_branch']}" if task.get("base_branch") else ""
    return [(f"{task['repo_url']}{base}", Style.PLAIN)]


def _needs(job: Mapping[str, Any], now: datetime) -> _Facts:
    return [(", ".join(job["capabilities"]), Style.PLAIN)]


def _limits(job: Mapping[str, Any], now: datetime) -> _Facts:
    limits = [
        f"at most {approximate_duration(job[name]).removeprefix('about ')} {words}"
        for name, words in (("no_output_timeout_s", "without output"), ("queue_timeout_s", "in the queue"))
        if job.get(name) is not None
    ]
    if job["status"] == JobStatus.QUEUED and job.get("not_before"):
        limits.append(f"not before {job['not_before']}")
    return [(", ".join(limits), Style.PLAIN)] if limits else []


def _retries(job: Mapping[str, Any], now: datetime) -> _Facts:
    policy = job.get("retry")
    if not policy or policy == _USUAL_RETRY:
        return []
    if policy["max_attempts"] == 1 or not policy["on"]:
        return [("no automatic retry", Style.PLAIN)]
    causes = " or ".join(policy["on"])
    return [(f"at most {policy['max_attempts']} attempts, after failures of {causes}", Style.PLAIN)]


def _key(job: Mapping[str, Any], now: datetime) -> _Facts:
    concurrency, task = job.get("concurrency"), job["task"]
    # Jobs that push to a branch have this key by default.
    if not concurrency or concurrency["key"] == f"{task.get('repo_url')} {task.get('branch')}":
        return []
    return [(f"{concurrency['key']}, at most {concurrency['limit']} at once", Style.PLAIN)]


def _times(job: Mapping[str, Any], now: datetime) -> _Facts:
    parts = [f"submitted {_age(job['created_at'], now)} ago"]
    if job["started_at"]:
        until = datetime.fromisoformat(job["finished_at"]) if job["finished_at"] else now
        verb = "ran" if job["finished_at"] else "has run"
        duration_s = (until - datetime.fromisoformat(job["started_at"])).total_seconds()
        parts.append(f"{verb} {approximate_duration(duration_s)}")
    return [(", ".join(parts), Style.PLAIN)]


def _attempts(job: Mapping[str, Any], now: datetime) -> _Facts:
    found: _Facts = []
    for attempt in job["attempts"]:
        where = f" on {attempt['shard']}" if attempt["shard"] else ""
        code = f" ({attempt['error_code']})" if attempt.get("error_code") else ""
        why = f": {attempt['error_message']}{code}" if attempt["error_message"] else ""
        found.append((f"{attempt['number']}{where}, {attempt['outcome'] or attempt['state']}{why}", Style.DIM))
    return found


def _usage(job: Mapping[str, Any], now: datetime) -> _Facts:
    usage = job.get("usage") or {}
    return [(usage_text(usage), Style.PLAIN)] if usage else []


def _result(job: Mapping[str, Any], now: datetime) -> _Facts:
    return [(text, Style.PLAIN) for text in result_texts(job)]


def _error(job: Mapping[str, Any], now: datetime) -> _Facts:
    return [(text, Style.RED)] if (text := error_text(job)) else []


_FACTS: Final[Sequence[tuple[str, Callable[[Mapping[str, Any], datetime], _Facts]]]] = (
    ("status", _status),
    ("waiting", _waiting),
    ("task", _task),
    ("repository", _repository),
    ("needs", _needs),
    ("limits", _limits),
    ("retries", _retries),
    ("key", _key),
    ("times", _times),
    ("attempt", _attempts),
    ("usage", _usage),
    ("result", _result),
    ("error", _error),
)


def result_texts(job: Mapping[str, Any]) -> list[str]:
    """Return sentences about the result of a job."""
    result = job.get("result") or {}
    texts = [f"pushed {result['branch']} at {str(result.get('head'))[:10]}"] if result.get("branch") else []
    return [*texts, str(result["note"])] if result.get("note") else texts


def error_text(job: Mapping[str, Any]) -> str | None:
    """Return why a job did not complete, or None."""
    error = job.get("error")
    if not error:
        return None
    again = " Another try may succeed." if error.get("retryable") else ""
    return f"{error['message']} ({error['code']}){again}"
