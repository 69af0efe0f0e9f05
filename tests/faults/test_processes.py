"""Processes of the control plane and agents that are killed while jobs run."""

from __future__ import annotations

import signal

import pytest

from tests.faults.effects import World, check_effects, submit_push_job
from tests.faults.injection import kill_agents, kill_program, run_second_beat
from tests.faults.one_fault import WORK_S, Faults, check_fault, fault_parameters

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

FAULTS: Faults = {
    "web_killed": kill_program("web"),
    "control_killed": kill_program("control"),
    "beat_killed": kill_program("beat"),
    "postgres_restarted": kill_program("postgres", signal.SIGINT),
}
LONG: Faults = {"beat_twice": run_second_beat(WORK_S)}


@pytest.mark.parametrize("fault", fault_parameters(FAULTS, LONG))
def test_every_job_ends_once_with_its_effects_once(place: World, fault: str) -> None:
    check_fault(place, fault, {**FAULTS, **LONG}[fault])


def test_a_job_with_a_retry_rule_survives_a_killed_agent(place: World) -> None:
    retried = submit_push_job(place, "agent-retried", WORK_S, retry={"max_attempts": 2, "on": ["agent"]})
    place.client.wait_event(retried.job_id, "tool.call")
    kill_agents(place.client)
    first, second = check_effects(place, retried)["attempts"]
    assert (first["state"], first["outcome"]) == ("ended", "failed")
    assert second["outcome"] == "completed"


def test_a_killed_agent_fails_its_job_once(place: World) -> None:
    not_retried = submit_push_job(place, "agent-failed", WORK_S)
    place.client.wait_event(not_retried.job_id, "tool.call")
    kill_agents(place.client)
    job = place.client.wait_end(not_retried.job_id)
    assert (job["status"], len(job["attempts"])) == ("failed", 1)
    assert job["error"]["code"].startswith("agent"), job["error"]
    assert place.client.job(not_retried.job_id)["attempts"][0]["outcome"] == "failed"
