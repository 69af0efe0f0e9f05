from __future__ import annotations

from typing import Any

import pytest

from workers.links import LinkPolicy
from workers.runner.execution import repo_spec

TASK = {"type": "prompt", "prompt": "x", "repo_url": "https://git.example.com/a/b.git", "branch": "feature/x"}


def rights(**answer: Any) -> tuple[bool, bool]:
    spec = repo_spec({"task": TASK, "secrets": {}, **answer})  # type: ignore[typeddict-item]  # the parts that it reads
    assert spec is not None
    return spec.allow_ci_files, spec.allow_default_branch


@pytest.mark.parametrize("answer", [{}, {"push_policy": None}, {"push_policy": {}}])
def test_without_a_policy_a_push_has_no_rights(answer: dict[str, Any]) -> None:
    assert rights(**answer) == (False, False)


def test_a_policy_gives_the_rights_that_it_names() -> None:
    assert rights(push_policy={"allow_ci_files": True, "allow_default_branch": False}) == (True, False)
    assert rights(push_policy={"allow_ci_files": False, "allow_default_branch": True}) == (False, True)
    assert rights(push_policy={"allow_ci_files": "no", "allow_default_branch": 1}) == (False, False)


def test_a_job_may_have_no_repository() -> None:
    answer: Any = {"task": {"type": "prompt", "prompt": "x"}, "secrets": {}}
    assert repo_spec(answer) is None


def test_an_earlier_release_refuses_the_gateway_of_an_attempt_that_only_pushes() -> None:
    # Such a shard does not know kept work, and must not run the agent.
    assert LinkPolicy().problem("GATEWAY_URL", "") is not None
    assert LinkPolicy(any_address=True).problem("GATEWAY_URL", "") is not None


@pytest.mark.parametrize("scope", [None, "of a tenant"])
def test_the_claim_names_the_tenant_of_kept_objects(scope: str | None) -> None:
    answer: Any = {"task": TASK, "secrets": {}} | ({"object_scope": scope} if scope else {})
    spec = repo_spec(answer)
    assert spec is not None
    assert spec.tenant == scope
