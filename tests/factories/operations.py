"""Provider in memory whose shards enrol and report by real calls when they start."""

from __future__ import annotations

from typing import Any

from django.test import Client

from shards.models import Shard, ShardTemplate
from shards.operations.executor import carry_out
from shards.operations.models import Operation, OperationKind
from shards.operations.requests import request
from shards.providers.base import Journal
from shards.providers.memory import MemoryProvider
from tests.factories.control_plane import JsonClient

REPORT: dict[str, Any] = {
    "version": "0.1.0", "capabilities": ["filesystem", "git"], "slots": 1, "running": [], "cpu_percent": 1.0,
    "memory_mb": 100, "memory_total_mb": 512, "disk_free_mb": 5000, "versions": {},
}  # fmt: skip


class LivelyProvider(MemoryProvider):
    """Provider in memory with a worker in each container."""

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[str, dict[str, Any]] = {}
        self.is_silent = False

    def start(self, ref: str, journal: Journal) -> None:
        super().start(ref, journal)
        if self.is_silent:
            return
        token = self.environment_of(ref)["MYCTOBOT_ENROL_TOKEN"]
        answer = post("/shard/v1/enroll", {"token": token})
        if answer.status_code == 200:
            self.configs[ref] = answer.json()["config"]
        JsonClient(self.configs[ref]["shard_key"]).post("/shard/v1/heartbeat", REPORT)


def post(path: str, body: Any) -> Any:
    """Send a request without a key."""
    return Client().post(path, body, content_type="application/json")


def new_shard(name: str = "made", **fields: Any) -> Shard:
    # After a test that commits, the table of templates may be empty.
    template, _ = ShardTemplate.objects.get_or_create(name="general", defaults={"capabilities": ["filesystem", "git"]})
    shard = Shard(name=name, template=template, capabilities=template.capabilities, provider="memory", **fields)
    shard.save()
    return shard


def do(shard: Shard, kind: OperationKind, **arguments: Any) -> Operation:
    """Request an operation and run it."""
    operation = request(shard, kind, by="anna", **arguments)
    carry_out(operation.pk)
    operation.refresh_from_db()
    shard.refresh_from_db()
    return operation
