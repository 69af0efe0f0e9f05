"""Decisions are functions of plain values. They use no Django, no I/O and no clock, and get ``now`` as an argument."""

from __future__ import annotations

import ast

import pytest

from .source import Module, module

PURE = [
    "myctobot.contract.addresses",
    "myctobot.contract.direct_addresses",
    "myctobot.contract.jobs",
    "myctobot.contract.messages",
    "myctobot.contract.names",
    "myctobot.contract.proxies",
    "myctobot.contract.redaction",
    "myctobot.contract.repositories",
    "myctobot.contract.secure_links",
    "myctobot.contract.shards",
    "myctobot.contract.terminal_text",
    "jobs.models.lanes",
    "myctobot.tenants.secret_bindings",
    "jobs.callbacks.slots",
    "jobs.queue.eta",
    "jobs.events.encoding",
    "jobs.dispatch.fair_share",
    "jobs.lifecycle.retry_policy",
    "jobs.streaming.batch",
    "jobs.streaming.window",
    "jobs.dispatch.routing",
    "jobs.models.states",
    "jobs.models.transition_table",
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
    "workers.sandbox.seccomp",
    "myctobot.gateway.policy",
    "myctobot.gateway.upstreams.scripted.conversation",
    "myctobot.dashboards.ops.charts",
    "myctobot.dashboards.repository_links",
    "myctobot.dashboards.safe_links",
    "myctobot.web.body_limits",
    "myctobot.web.call_limits",
    "myctobot.web.fair_turns",
    "myctobot.lib.addresses",
    "myctobot.metrics.access",
]

IMPURE = {
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
def test_a_pure_module_imports_no_io(name: str) -> None:
    wrong = sorted(imported for imported in module(name).imports() if imported.partition(".")[0] in IMPURE)
    assert not wrong, (
        f"{name} is a pure module and must not import {wrong}: take values as arguments and return a value"
    )


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_reads_no_clock_and_no_file(name: str) -> None:
    wrong = [f"line {node.lineno}: {callee}" for callee, node in module(name).calls() if performs_io(callee)]
    assert not wrong, f"{name} is a pure module and must not call {wrong}: let the caller read the value and pass it"


def performs_io(callee: str) -> bool:
    return callee in ("open", "print", "input") or ("." in callee and callee.rpartition(".")[2] in CLOCKS | FILES)


@pytest.mark.parametrize(
    ("code", "expected"), [("datetime.now()", True), ("Path(p).exists()", True), ("open(p)", True), ("f(now)", False)]
)
def test_the_rule_finds_clocks_and_files(code: str, expected: bool) -> None:
    tree = ast.parse(code)
    (call, *_) = [name for name, _ in Module(module("jobs.models.states").path, "x", code, tree).calls()]
    assert performs_io(call) is expected
