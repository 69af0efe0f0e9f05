"""How jobs read in a terminal; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from myctobot.cli.rendering import usage_text
from myctobot.cli.terminal import Line, Style
from myctobot.cli.wait_status import rough_time, waiting_sentence
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


def list_lines(jobs: Sequence[Mapping[str, Any]], now: datetime) -> list[Line]:
    """One line a job: id, status, age, and what it is about."""
    return [
        Line(
            f"{job['id']:<24}  {job['status']:<9}  {_age(job['created_at'], now):>6}  {subject(job)}",
            STATUS_STYLES.get(job["status"], Style.PLAIN),
            wrap=False,
        )
        for job in jobs
    ]


def subject(job: Mapping[str, Any]) -> str:
    """What the job is about, in one line: the ticket and the beginning of the prompt."""
    task = job["task"]
    first = next((line.strip() for line in str(task.get("prompt", "")).splitlines() if line.strip()), "")
    return f"{task['issue_key']}: {first}" if task.get("issue_key") else first


def _age(moment: str, now: datetime) -> str:
    seconds = max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def job_lines(job: Mapping[str, Any], now: datetime) -> list[Line]:
    """All that is worth knowing of one job, a fact a line."""
    return [
        Line(str(job["id"]), Style.BOLD),
        *(_fact(label, value, style) for label, fact in _FACTS for value, style in fact(job, now)),
    ]


def _fact(label: str, value: str, style: Style) -> Line:
    return Line(value, style, indent=2, mark=label.ljust(_LABEL_WIDTH))


_Facts = list[tuple[str, Style]]


def _status(job: Mapping[str, Any], now: datetime) -> _Facts:
    phase = f", {job['phase']}" if job.get("phase") else ""
    wanted = ", a cancel is on its way" if job["status"] == JobStatus.RUNNING and job["cancel_requested_at"] else ""
    return [(f"{job['status']}{phase}{wanted}", STATUS_STYLES.get(job["status"], Style.PLAIN))]


def _waiting(job: Mapping[str, Any], now: datetime) -> _Facts:
    sentence = waiting_sentence(job) or (job.get("waiting") or {}).get("reason")
    return [(str(sentence), Style.PLAIN)] if sentence else []


def _task(job: Mapping[str, Any], now: datetime) -> _Facts:
    return [(subject(job), Style.PLAIN)]


def _repository(job: Mapping[str, Any], now: datetime) -> _Facts:
    task = job["task"]
    if not task.get("repo_url"):
        return []
    base = f" from {task['base_branch']}" if task.get("base_branch") else ""
    return [(f"{task['repo_url']}{base}", Style.PLAIN)]


def _needs(job: Mapping[str, Any], now: datetime) -> _Facts:
    return [(", ".join(job["capabilities"]), Style.PLAIN)]


def _bounds(job: Mapping[str, Any], now: datetime) -> _Facts:
    bounds = [
        f"{words} {rough_time(job[name]).removeprefix('about ')}"
        for name, words in (("no_output_timeout_s", "silence at most"), ("queue_timeout_s", "waits at most"))
        if job.get(name) is not None
    ]
    if job["status"] == JobStatus.QUEUED and job.get("not_before"):
        bounds.append(f"not before {job['not_before']}")
    return [(", ".join(bounds), Style.PLAIN)] if bounds else []


def _retries(job: Mapping[str, Any], now: datetime) -> _Facts:
    policy = job.get("retry")
    if not policy or policy == _USUAL_RETRY:
        return []
    if policy["max_attempts"] == 1 or not policy["on"]:
        return [("none by itself", Style.PLAIN)]
    return [(f"at most {policy['max_attempts']} attempts, again on {' or '.join(policy['on'])}", Style.PLAIN)]


def _key(job: Mapping[str, Any], now: datetime) -> _Facts:
    concurrency, task = job.get("concurrency"), job["task"]
    # Those that push to the same branch have one without having asked for it.
    if not concurrency or concurrency["key"] == f"{task.get('repo_url')} {task.get('branch')}":
        return []
    return [(f"{concurrency['key']}, {concurrency['limit']} at once", Style.PLAIN)]


def _times(job: Mapping[str, Any], now: datetime) -> _Facts:
    parts = [f"submitted {_age(job['created_at'], now)} ago"]
    if job["started_at"]:
        until = datetime.fromisoformat(job["finished_at"]) if job["finished_at"] else now
        verb = "ran" if job["finished_at"] else "has run"
        parts.append(f"{verb} {rough_time((until - datetime.fromisoformat(job['started_at'])).total_seconds())}")
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
    ("bounds", _bounds),
    ("retries", _retries),
    ("key", _key),
    ("times", _times),
    ("attempt", _attempts),
    ("usage", _usage),
    ("result", _result),
    ("error", _error),
)


def result_texts(job: Mapping[str, Any]) -> list[str]:
    """What the job has left behind."""
    result = job.get("result") or {}
    texts = [f"pushed {result['branch']} at {str(result.get('head'))[:10]}"] if result.get("branch") else []
    return [*texts, str(result["note"])] if result.get("note") else texts


def error_text(job: Mapping[str, Any]) -> str | None:
    """Why the job did not complete."""
    error = job.get("error")
    if not error:
        return None
    again = " Another try may succeed." if error.get("retryable") else ""
    return f"{error['message']} ({error['code']}){again}"
