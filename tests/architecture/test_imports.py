"""Imports run one way: what is on the left never imports what is on the right."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from .source import ROOT, modules, within

CONTROL_PLANE = modules("jobs", "myctobot", "shards")

# What may be known to everybody: it uses the standard library alone, as a test below proves.
LEAF = "myctobot.contract.jobs"

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
    "myctobot.settings.gateway",
    "myctobot.urls",
    "myctobot.web.error_pages",
    "myctobot.metrics",
    "myctobot.flower",
    "myctobot.asgi",
    "myctobot.asgi_gateway",
    "myctobot.stack",
    "myctobot.demo",
)

# It knows the API alone, as anybody's client does. Only the demo uses it.
CLIENT = "myctobot.cli"
CLIENT_DEPENDENCIES = {"httpx", "httpx_sse"}


def rank(name: str) -> int | None:
    return next((at for at, layer in enumerate(LAYERS) if any(within(name, package) for package in layer)), None)


def forbidden(importer: str, imported: str) -> str | None:
    """Say why one module must not import another, or None."""
    if imported == LEAF:
        return None
    here, there = rank(importer), rank(imported)
    if here is None:
        return None
    if within(imported, CLIENT):
        return "it is a client of the API; what the server needs of it belongs in the server, or in the contract"
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


def test_the_client_imports_the_contract_and_itself_alone() -> None:
    allowed = CLIENT_DEPENDENCIES | set(sys.stdlib_module_names)
    wrong = [
        f"{module.where}: {name}"
        for module in modules("myctobot/cli")
        for name in module.imports()
        if not within(name, CLIENT) and name != LEAF and name.partition(".")[0] not in allowed
    ]
    assert not wrong, f"{wrong}: a laptop has no control plane; ask the API, or share it in {LEAF}"


_IMPORT_CLIENT = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "rest_framework", "channels", "structlog", "yaml"}:
            raise ModuleNotFoundError(f"{name} is not there on a laptop", name=name)

sys.meta_path.insert(0, Absent())
import myctobot.cli
for found in pkgutil.walk_packages(myctobot.cli.__path__, "myctobot.cli."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
from myctobot.cli.__main__ import main
loaded = {name for name in sys.modules if name.partition(".")[0] in ("jobs", "shards", "workers", "myctobot")}
print(sorted(name for name in loaded if not name.startswith("myctobot.cli")))
"""


def test_the_client_loads_where_django_is_not() -> None:
    command = [sys.executable, "-c", _IMPORT_CLIENT]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['jobs', 'myctobot.contract.jobs', 'myctobot']"


def test_an_installed_client_has_what_it_imports_and_the_same_versions_as_the_server() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dependencies = project["project"]["dependencies"]
    assert {name.partition("==")[0].replace("-", "_") for name in dependencies} == CLIENT_DEPENDENCIES
    assert set(dependencies) <= set((ROOT / "requirements.txt").read_text().splitlines())
    setuptools = project["tool"]["setuptools"]
    assert (setuptools["packages"], setuptools["py-modules"]) == ([CLIENT], [LEAF])


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("jobs.dispatch.round", "shards.models.shard", True),
        ("shards.models.shard", "jobs.models.job", False),
        ("shards.health.rules", LEAF, True),
        ("myctobot.lib.crypto", "myctobot.tenants.models", False),
        ("myctobot.tenants.secrets", "myctobot.lib.crypto", True),
        ("jobs.models.job", "myctobot.gateway.app", False),
        ("myctobot.gateway.app", "jobs.attempts.gateway_grants", True),
        ("myctobot.gateway.app", "myctobot.dashboards.views", False),
        ("jobs.views", "myctobot.settings", False),
        ("myctobot.urls", "jobs.api.urls", True),
        ("jobs.lifecycle.submit", "myctobot.cli.api", False),
        ("myctobot.demo.story", "myctobot.cli.api", True),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    assert (forbidden(importer, imported) is None) is allowed
