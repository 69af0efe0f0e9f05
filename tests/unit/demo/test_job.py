from __future__ import annotations

from myctobot.contract.repositories import branch_problem
from myctobot.demo.job import BRANCH, job_request

KEY = "sk-ant-canary-of-the-demo"


def test_the_request_has_a_key_only_when_there_is_one() -> None:
    assert "anthropic_api_key" not in job_request("file:///r", None)
    assert job_request("file:///r", KEY)["anthropic_api_key"] == KEY


def test_the_branch_is_one_that_jobs_may_name() -> None:
    assert branch_problem(BRANCH) is None
