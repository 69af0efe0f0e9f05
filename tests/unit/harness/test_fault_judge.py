"""Judge of runs with faults: a clean history breaks no rule, and each rule finds its violations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.factories.fault_history import (
    AttemptFacts,
    BatchFacts,
    FaultFacts,
    JobFacts,
    RunHistory,
    SlotSample,
    ViewerFacts,
    digest,
)
from tests.factories.fault_judge import MAX_IDLE_S, judge

EVENTS = ((1, "a"), (2, "b"), (3, "c"))
FIRST = AttemptFacts(1, "lost", "local", 10.0, 20.0, "", "lost")
SECOND = AttemptFacts(2, "ended", "local-2", 21.0, 30.0, "completed")
BATCHES = (BatchFacts(1, 1, 1, 11.0), BatchFacts(2, 2, 3, 22.0))
JOB = JobFacts(
    job_id="job_1",
    key="key-1",
    status="completed",
    statuses=("queued", "running", "queued", "running", "completed"),
    has_repository=True,
    has_callback=True,
    attempts=(FIRST, SECOND),
    batches=BATCHES,
    events=EVENTS,
    viewers=(ViewerFacts("sse", EVENTS, (3, "completed")), ViewerFacts("websocket", EVENTS, (3, "completed"))),
    callbacks=(("job.started", "m1"), ("job.completed", "m2"), ("job.completed", "m2")),
    head="abc",
    branches={"work/1": 1},
    heads={"work/1": "abc"},
)
WITHOUT_EFFECTS: dict[str, Any] = {"branches": {}, "heads": {}, "head": None, "viewers": ()}
FAILED = replace(
    JOB,
    status="failed",
    error_code="lost",
    statuses=("queued", "running", "failed"),
    attempts=(FIRST, replace(SECOND, state="lost", outcome="", error_code="lost")),
    callbacks=(("job.started", "m1"), ("job.failed", "m2")),
    **WITHOUT_EFFECTS,
)
CANCELLED = replace(
    JOB,
    status="cancelled",
    statuses=("queued", "cancelled"),
    cancel_requested=True,
    attempts=(AttemptFacts(1, "withdrawn"),),
    batches=(),
    events=(),
    callbacks=(("job.cancelled", "m1"),),
    **WITHOUT_EFFECTS,
)


def run_of(*jobs: JobFacts, **more: Any) -> RunHistory:
    answers = more.pop("answers", {job.key: frozenset({job.job_id}) for job in jobs})
    return RunHistory(jobs, answers, **more)


def rules_broken(history: RunHistory) -> set[str]:
    return {violation.rule for violation in judge(history)}


@pytest.mark.parametrize("job", [JOB, FAILED, CANCELLED], ids=lambda job: job.status)
def test_a_clean_history_breaks_no_rule(job: JobFacts) -> None:
    assert judge(run_of(job)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "running", "statuses": ("queued", "running")},
        {"statuses": ("queued", "running", "failed", "completed")},
        {"statuses": ("queued", "completed", "running", "completed")},
        {"viewers": (ViewerFacts("sse", EVENTS, (3, "failed")),)},
        {"callbacks": (("job.started", "m1"), ("job.completed", "m2"), ("job.failed", "m3"))},
    ],
)
def test_a_job_has_one_terminal_state(changes: dict[str, Any]) -> None:
    assert "one_terminal_state" in rules_broken(run_of(replace(JOB, **changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"attempts": (replace(FIRST, ended_at=22.0), SECOND)},
        {"attempts": (replace(FIRST, ended_at=None), SECOND)},
        {"attempts": (FIRST, replace(SECOND, number=3))},
        {"attempts": (FIRST, replace(SECOND, state="running"))},
        {"attempts": (replace(FIRST, outcome="completed"), SECOND)},
        {"attempts": (FIRST, replace(SECOND, outcome="failed"))},
        {"batches": (BatchFacts(1, 1, 1, 25.0), BATCHES[1])},
        {"batches": (BatchFacts(3, 1, 1, 11.0), BATCHES[1])},
        {"batches": (BatchFacts(1, 1, 1, 9.0), BATCHES[1])},
        {"batches": (BatchFacts(2, 1, 1, 22.0), BatchFacts(1, 2, 3, 15.0))},
        {"attempts": (replace(FIRST, state="withdrawn", claimed_at=None), SECOND)},
    ],
)
def test_a_job_has_one_accepted_writer(changes: dict[str, Any]) -> None:
    assert rules_broken(run_of(replace(JOB, **changes))) == {"one_accepted_writer"}


@pytest.mark.parametrize(
    "changes",
    [
        {"events": EVENTS[:2]},
        {"events": ((1, "a"), (3, "b"), (3, "c"))},
        {"batches": (BATCHES[0],)},
        {"batches": (BATCHES[0], replace(BATCHES[1], first_seq=1))},
        {"viewers": (ViewerFacts("sse", EVENTS[:2], (3, "completed")),)},
        {"viewers": (ViewerFacts("sse", (*EVENTS, EVENTS[2]), (3, "completed")),)},
        {"viewers": (ViewerFacts("sse", ((1, "a"), (2, "x"), (3, "c")), (3, "completed")),)},
        {"viewers": (ViewerFacts("sse", EVENTS, (2, "completed")),)},
        {"viewers": (ViewerFacts("sse", EVENTS, None),)},
    ],
)
def test_every_viewer_sees_the_events_1_to_n(changes: dict[str, Any]) -> None:
    assert rules_broken(run_of(replace(JOB, **changes))) == {"one_stream"}


@pytest.mark.parametrize(
    "changes",
    [
        {"branches": {"work/1": 2}},
        {"branches": {"work/1": 1, "work/2": 1}},
        {"branches": {}},
        {"head": "other"},
        {"callbacks": JOB.callbacks[:1]},
        {"callbacks": JOB.callbacks[1:]},
        {"callbacks": ()},
        {"callbacks": (*JOB.callbacks, ("job.completed", "m3"))},
        {"has_callback": False},
    ],
)
def test_an_outcome_has_one_branch_and_one_callback(changes: dict[str, Any]) -> None:
    assert rules_broken(run_of(replace(JOB, **changes))) == {"one_branch_and_one_callback"}


@pytest.mark.parametrize(
    "job",
    [
        replace(CANCELLED, cancel_requested=False),
        replace(FAILED, error_code="repo_token_invalid"),
        replace(FAILED, error_code=""),
        replace(FAILED, error_code="cancel_unproven"),
        replace(FAILED, max_attempts=10),
    ],
)
def test_an_end_is_explained_by_the_request_or_a_fault(job: JobFacts) -> None:
    assert rules_broken(run_of(job)) == {"an_explained_end"}


@pytest.mark.parametrize(
    ("jobs", "answers"),
    [
        ((JOB, replace(JOB, job_id="job_2")), {"key-1": {"job_1"}}),
        ((JOB,), {"key-1": {"job_1", "job_2"}}),
        ((JOB,), {"key-1": {"job_2"}}),
        ((JOB,), {}),
        ((), {"key-1": {"job_1"}}),
    ],
)
def test_a_key_creates_one_job(jobs: tuple[JobFacts, ...], answers: dict[str, set[str]]) -> None:
    named = {key: frozenset(ids) for key, ids in answers.items()}
    assert rules_broken(run_of(*jobs, answers=named)) == {"one_job_for_a_key"}


def test_jobs_of_a_concurrency_key_run_one_at_a_time() -> None:
    first = replace(JOB, concurrency_key="deploy")
    shifted = tuple(
        replace(one, claimed_at=(one.claimed_at or 0) + 25, ended_at=(one.ended_at or 0) + 25) for one in JOB.attempts
    )
    batches = tuple(replace(one, at=one.at + 25) for one in BATCHES)
    after = replace(first, job_id="job_2", key="key-2", attempts=shifted, batches=batches)
    assert judge(run_of(first, after)) == []
    during = replace(first, job_id="job_2", key="key-2")
    assert rules_broken(run_of(first, during)) == {"one_job_of_a_concurrency_key_at_a_time"}
    assert judge(run_of(first, replace(during, concurrency_key="nightly"))) == []


def samples(seconds: int, ready: dict[str, int], free: dict[str, int]) -> tuple[SlotSample, ...]:
    return tuple(SlotSample(float(at), ready, free) for at in range(seconds))


WAIT = int(MAX_IDLE_S) + 3


@pytest.mark.parametrize(
    ("ready", "free"),
    [
        ({"job_1": 0}, {"local": 1}),
        ({"job_1": 4}, {"local": 1}),
        ({"job_1": 0, "job_2": 3}, {"local": 1, "local-2": 1}),
    ],
)
def test_no_job_waits_a_minute_while_a_slot_is_free(ready: dict[str, int], free: dict[str, int]) -> None:
    assert "no_wait_while_a_slot_is_free" in rules_broken(run_of(JOB, samples=samples(WAIT, ready, free)))


@pytest.mark.parametrize(
    ("seconds", "ready", "free"), [(WAIT, {"job_1": 0}, {}), (50, {"job_1": 0}, {"local": 1}), (WAIT, {}, {"local": 2})]
)
def test_a_job_may_wait_without_a_slot(seconds: int, ready: dict[str, int], free: dict[str, int]) -> None:
    assert judge(run_of(JOB, samples=samples(seconds, ready, free))) == []


def test_a_slot_that_another_sent_job_is_about_to_take_is_not_free() -> None:
    found = judge(run_of(JOB, samples=samples(WAIT, {"job_1": 0, "job_2": 3}, {"local": 1})))
    assert {violation.job_id for violation in found} == {"job_2"}


@pytest.mark.parametrize(
    ("part", "attempt", "is_broken"), [("redis", 0, False), ("redis", 4, False), ("agent", 0, True)]
)
def test_only_a_fault_on_the_way_to_a_slot_pauses_the_clock(part: str, attempt: int, is_broken: bool) -> None:
    found = samples(WAIT, {"job_1": attempt}, {"local": 1})
    fault = FaultFacts(part, "kill", 20.0, 30.0)
    assert bool(judge(run_of(JOB, samples=found, faults=(fault,)))) is is_broken
    assert judge(run_of(JOB, samples=found, faults=(replace(fault, took_effect=False),)))


@pytest.mark.parametrize(("attempt", "waits"), [(0, True), (4, False)])
def test_a_fault_sets_the_clock_of_a_sent_job_back(attempt: int, waits: bool) -> None:
    # Without the fault there are 65 s, with it 30 s before and 35 s after.
    found = samples(67, {"job_1": attempt}, {"local": 1})
    fault = FaultFacts("redis", "flush", 30.5, 30.6)
    assert bool(judge(run_of(JOB, samples=found, faults=(fault,)))) is waits


def test_time_without_samples_does_not_count() -> None:
    late = tuple(replace(one, at=one.at + 200) for one in samples(30, {"job_1": 0}, {"local": 1}))
    assert judge(run_of(JOB, samples=(*samples(30, {"job_1": 0}, {"local": 1}), *late))) == []


def test_nothing_is_left_behind() -> None:
    assert rules_broken(run_of(JOB, leftovers=("the workspace job_1.1",))) == {"nothing_left_behind"}


def test_a_digest_depends_on_the_content_only() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
