"""Decisions are functions of plain values: no Django, no I/O, no clock. ``now`` is an argument."""

from __future__ import annotations

import ast

import pytest

from .source import Module, module

PURE = [
    "myctobot.contract.jobs",
    "jobs.queue.eta",
    "jobs.events.encoding",
    "jobs.dispatch.fair_share",
    "jobs.lifecycle.retry_policy",
    "jobs.streaming.batch",
    "jobs.streaming.window",
    "jobs.dispatch.routing",
    "jobs.models.states",
    "jobs.queue.preview",
    "shards.monitoring.charts",
    "shards.health.rules",
    "shards.providers.lxc.config",
    "shards.providers.lxc.egress",
    "shards.monitoring.alert_rules",
    "shards.lifecycle.states",
    "shards.health.outage",
    "shards.inventory.mcp_servers",
    "workers.runner.prompt",
    "workers.sandbox.plan",
    "myctobot.gateway.upstreams.scripted.conversation",
    "myctobot.dashboards.ops.charts",
    "myctobot.metrics.access",
]

WORLD = {
    "asyncio", "celery", "channels", "django", "http", "httpx", "io", "kombu", "logging", "os", "psutil", "psycopg",
    "random", "redis", "rest_framework", "secrets", "shutil", "signal", "socket", "structlog", "subprocess", "sys",
    "tempfile", "threading", "time",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today", "monotonic"}
FILES = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file", "is_dir", "mkdir", "unlink",
    "iterdir", "glob", "rglob", "stat", "resolve", "home", "cwd",
}  # fmt: skip


@pytest.mark.parametrize("name", PURE)
def test_a_decision_imports_nothing_of_the_world(name: str) -> None:
    wrong = sorted(imported for imported in module(name).imports() if imported.partition(".")[0] in WORLD)
    assert not wrong, f"{name} decides, so it must not import {wrong}: take values as arguments and return a value"


@pytest.mark.parametrize("name", PURE)
def test_a_decision_asks_no_clock_and_no_file(name: str) -> None:
    wrong = [f"line {node.lineno}: {callee}" for callee, node in module(name).calls() if touches_the_world(callee)]
    assert not wrong, f"{name} decides, so it must not call {wrong}: let the caller look and pass what it saw"


def touches_the_world(callee: str) -> bool:
    return callee in ("open", "print", "input") or ("." in callee and callee.rpartition(".")[2] in CLOCKS | FILES)


@pytest.mark.parametrize(
    ("code", "expected"), [("datetime.now()", True), ("Path(p).exists()", True), ("open(p)", True), ("f(now)", False)]
)
def test_the_rule_itself(code: str, expected: bool) -> None:
    tree = ast.parse(code)
    (call, *_) = [name for name, _ in Module(module("jobs.models.states").path, "x", code, tree).calls()]
    assert touches_the_world(call) is expected
