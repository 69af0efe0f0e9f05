"""Valid request for a job, and functions that make it invalid."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from jobs.models import Job
from myctobot.tenants.models import Tenant
from shards.models import Shard
from tests.factories.control_plane import Api, error_of

VALID: dict[str, Any] = {
    "task": {
        "type": "implement_ticket",
        "issue_key": "PROJ-123",
        "repo_url": "https://example.com/user/repo.git",
        "repo_token": "ghp_0123456789",
        "branch": "feature/x",
        "base_branch": "main",
        "prompt": "Do it.",
    },
    "capabilities": ["git", "filesystem"],
    "anthropic_api_key": "sk-ant-0123456789",
    "priority": "normal",
    "context": {"jira_cloud_id": "c", "jira_token": "jira-0123456789", "additional_instructions": "Use tabs."},
    "callback_url": "https://hooks.example.com/x",
    "timeout_s": 3600,
    "max_turns": 50,
}


@pytest.fixture
def api(tenant: Tenant, shard: Shard) -> Api:
    return Api.of(tenant)


def changed(path: str, value: Any) -> dict[str, Any]:
    body = deepcopy(VALID)
    put(body, path, value)
    return body


def put(body: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    holder = body
    for parent in parents:
        holder = holder[parent]
    holder[name] = value


def without(*paths: str) -> dict[str, Any]:
    body = deepcopy(VALID)
    for path in paths:
        *parents, name = path.split(".")
        holder = body
        for parent in parents:
            holder = holder[parent]
        del holder[name]
    return body


def refused(api: Api, body: Any, status: int = 400) -> dict[str, Any]:
    response = api.post("/jobs", body)
    assert response.status_code == status, response.content
    assert Job.objects.count() == 0
    return error_of(response)
