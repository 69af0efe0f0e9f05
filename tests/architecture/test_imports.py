"""Imports run one way: what is on the left never imports what is on the right."""

from __future__ import annotations

import pytest

from .source import modules, within

CONTROL_PLANE = modules("jobs", "myctobot", "shards")

# What may be known to everybody: it uses the standard library alone, as a test below proves.
LEAF = "jobs.contract"

# From left to right; those of one line do not know each other either.
LAYERS: list[tuple[str, ...]] = [
    ("myctobot.lib",),
    ("myctobot.errors",),
    ("myctobot.tenants",),
    ("shards",),
    ("jobs",),
    ("myctobot.gateway", "myctobot.integrations", "myctobot.dashboards"),
]

# They put the parts together, so they know all of them, and none of the parts knows them.
ASSEMBLY = (
    "myctobot.settings",
    "myctobot.settings_gateway",
    "myctobot.urls",
    "myctobot.error_pages",
    "myctobot.asgi",
    "myctobot.asgi_gateway",
    "myctobot.stack",
    "myctobot.demo",
)


def rank(name: str) -> int | None:
    return next((at for at, layer in enumerate(LAYERS) if any(within(name, package) for package in layer)), None)


def forbidden(importer: str, imported: str) -> str | None:
    """Say why one module must not import another, or None."""
    if imported == LEAF:
        return None
    here, there = rank(importer), rank(imported)
    if here is None:
        return None
    if any(within(imported, name) for name in ASSEMBLY):
        return "it puts the parts together, so no part may depend on it; pass in what is needed instead"
    if there is None or there < here:
        return None
    if there > here:
        return "imports run from left to right only; move what both need to the left, or let the right side call"
    same = any(within(importer, package) and within(imported, package) for package in LAYERS[here])
    return None if same else "parts of the same layer do not know each other; let the layer to the left carry it"


def test_imports_run_one_way() -> None:
    wrong = {
        f"{module.where} must not import {name}: {why}"
        for module in CONTROL_PLANE
        for name in module.imports()
        if (why := forbidden(module.name, name))
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_the_control_plane_does_not_import_what_runs_on_a_shard() -> None:
    wrong = [
        f"{module.where}: {name}"
        for module in CONTROL_PLANE
        for name in module.imports()
        if within(name, "workers") and not any(within(module.name, part) for part in ASSEMBLY)
    ]
    assert not wrong, f"{wrong}: both sides share {LEAF}, and nothing else"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("jobs.dispatch", "shards.models", True),
        ("shards.models", "jobs.models", False),
        ("shards.health", LEAF, True),
        ("myctobot.lib.crypto", "myctobot.tenants.models", False),
        ("myctobot.tenants.secrets", "myctobot.lib.crypto", True),
        ("jobs.models", "myctobot.gateway.app", False),
        ("myctobot.gateway.app", "jobs.grants", True),
        ("myctobot.gateway.app", "myctobot.dashboards.views", False),
        ("jobs.views", "myctobot.settings", False),
        ("myctobot.urls", "jobs.api.urls", True),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert (forbidden(importer, imported) is None) is allowed
