"""Operators' actions on a running stack: REST calls after a login, and ``manage.py shell`` for a pool."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx

from tests.stacks import RunningStack

from .world import World

WAIT_S = 90.0
_POLL_INTERVAL_S = 0.05

_MAKE_POOL = """
import json, sys
from myctobot.tenants.models import Tenant
from shards.models import Assignment, Pool, ShardTemplate
pool = Pool.objects.create(
    name={name!r}, provider="lxc", template=ShardTemplate.objects.get(name="general"), mode={mode!r},
    scaling_rules=json.loads({rules!r}), scaling_dry_run=False,
)
Assignment.objects.create(tenant=Tenant.objects.get(), pool=pool, is_default=True)
"""


def rules(*, minimum: int, maximum: int, spares: int) -> dict[str, Any]:
    """Return autoscaling rules that keep spares ready and remove no shard during a test."""
    return {
        "scale_up": {"condition": "avg_queue_wait > 1h", "cooldown": "1s"},
        "scale_down": {"condition": "shard_idle > 9h", "cooldown": "9h"},
        "limits": {"min_shards": minimum, "max_shards": maximum, "max_shards_per_type": maximum},
        "warm_spares": spares,
    }


def make_pool(world: World, name: str, mode: str, scaling: dict[str, Any]) -> None:
    """Create an autoscaled pool of containers that is the tenant's default."""
    program = _MAKE_POOL.format(name=name, mode=mode, rules=json.dumps(scaling))
    world.manage("shell", "--no-imports", "-c", program)


class Operator:
    """REST client with the session of the stack's own login."""

    def __init__(self, stack: RunningStack) -> None:
        self.http = httpx.Client(base_url=stack.web_url, timeout=15, trust_env=False)
        page = "/admin/login/"
        self.http.get(page)
        form = {"username": stack.login, "password": stack.password, "next": "/admin/"}
        answer = self.http.post(page, data={**form, "csrfmiddlewaretoken": self.http.cookies["csrftoken"]})
        assert answer.status_code == 302, answer.text
        self.http.headers["X-CSRFToken"] = self.http.cookies["csrftoken"]

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.http.post(f"/api/v1/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def shard(self, name: str) -> dict[str, Any]:
        return dict(self.get(f"shards/{name}"))

    def shards_of(self, pool: str) -> list[dict[str, Any]]:
        return list(self.get("shards", pool=pool, limit=100)["results"])

    def operations(self, name: str, kind: str) -> list[dict[str, Any]]:
        """Return the operations on a shard's container, the newest first."""
        return [one for one in self.get(f"shards/{name}/operations", limit=100)["results"] if one["kind"] == kind]


def until(read: Callable[[], Any], what: str, timeout_s: float = WAIT_S, every_s: float = _POLL_INTERVAL_S) -> Any:
    """Call ``read`` until it returns a true value, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := read()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(every_s)
    return found
