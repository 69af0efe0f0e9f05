from __future__ import annotations

import pytest

from myctobot.contract.shards import BrokerProblem
from workers.worker.broker_refusals import REPORT_AFTER_S, BrokerRefusals


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("problem", BrokerProblem)
def test_a_refusal_is_reported_when_it_lasts(clock: Clock, problem: BrokerProblem) -> None:
    refusals = BrokerRefusals(clock)
    assert refusals.lasting() is None
    assert refusals.note(problem)
    clock.now_s += REPORT_AFTER_S - 1
    assert not refusals.note(problem)
    assert refusals.lasting() is None
    clock.now_s += 1
    assert refusals.lasting() == problem
    refusals.end(problem)
    assert refusals.lasting() is None


def test_a_refusal_that_ended_starts_again(clock: Clock) -> None:
    refusals = BrokerRefusals(clock)
    refusals.note(BrokerProblem.QUEUES)
    clock.now_s += REPORT_AFTER_S
    refusals.end(BrokerProblem.QUEUES)
    assert refusals.note(BrokerProblem.QUEUES)
    assert refusals.lasting() is None


def test_a_login_does_not_end_the_refusal_of_queues(clock: Clock) -> None:
    refusals = BrokerRefusals(clock)
    refusals.note(BrokerProblem.QUEUES)
    refusals.note(BrokerProblem.LOGIN)
    clock.now_s += REPORT_AFTER_S
    assert refusals.lasting() == BrokerProblem.LOGIN
    refusals.end(BrokerProblem.LOGIN)
    assert refusals.lasting() == BrokerProblem.QUEUES
