"""Order of imports: a package imports only packages to its left."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib

import pytest

from .source import ROOT, modules, within

CONTROL_PLANE = modules("jobs", "myctobot", "shards")

# Clients and shards import this part of the control plane only. It uses the standard library only.
LEAF = "myctobot.contract"

# The order runs from left to right. Packages of one line do not import each other.
LAYERS: list[tuple[str, ...]] = [
    ("myctobot.lib", "myctobot.errors", "myctobot.contract"),
    ("myctobot.api", "myctobot.admin_site", "myctobot.messaging", "myctobot.broker_transport"),
    ("myctobot.web",),
    ("myctobot.tenants",),
    ("myctobot.accounts",),
    ("shards",),
    ("jobs",),
    ("myctobot.gateway", "myctobot.integrations", "myctobot.dashboards"),
]

# The same order inside a package.
INNER: dict[str, list[tuple[str, ...]]] = {
    "jobs": [
        ("errors", "models", "broker"),
        ("events", "callbacks", "kept_work"),
        ("dispatch",),
        ("queue", "capacity", "streaming", "maintenance"),
        ("lifecycle",),
        ("attempts", "schedules", "sessions", "workflows"),
        ("control_loop", "metrics"),
        ("api", "shard_api"),
        ("admin", "management", "tasks"),
    ],
    "shards": [
        ("errors", "models", "permissions", "providers"),
        ("broker_access", "monitoring", "remote_control"),
        ("lifecycle",),
        ("health", "operations"),
        ("inventory", "autoscaling", "metrics"),
        ("api", "shard_api"),
        ("admin", "management", "tasks"),
    ],
}

# These modules assemble the parts: they import every part, and no part imports them.
ASSEMBLY = (
    "myctobot.settings",
    "myctobot.settings.gateway",
    "myctobot.urls",
    "myctobot.web.error_pages",
    "myctobot.metrics",
    "myctobot.flower",
    "myctobot.asgi",
    "myctobot.asgi_gateway",
    "myctobot.asgi_shards",
    "myctobot.stack",
    "myctobot.demo",
)

# The client uses the API only. Only the demo imports it.
CLIENT = "myctobot.cli"
CLIENT_DEPENDENCIES = {"httpx", "httpx_sse"}


def rank(name: str) -> int | None:
    return next((at for at, layer in enumerate(LAYERS) if any(within(name, package) for package in layer)), None)


def forbidden(importer: str, imported: str) -> str | None:
    """Return the reason why one module must not import another, or None."""
    here, there = rank(importer), rank(imported)
    if here is None:
        return None
    if within(imported, CLIENT):
        return "the client uses the API only; move code that the server needs too to the server or to the contract"
    if any(within(imported, name) for name in ASSEMBLY):
        return "it assembles the parts, so no part may depend on it; pass the value as an argument"
    if there is None or there < here:
        return None
    if there > here:
        return "a package imports only packages to its left; move shared code to the left, or let the right side call"
    same = any(within(importer, package) and within(imported, package) for package in LAYERS[here])
    return None if same else "parts of one layer do not import each other; move the shared code to a layer to the left"


def inner_rank(name: str) -> tuple[str, int] | None:
    """Return the package of a module and the line of its subject in INNER, or None without an inner order."""
    package, _, rest = name.partition(".")
    subject = rest.partition(".")[0]
    if not subject or package not in INNER:
        return None
    line = next((at for at, subjects in enumerate(INNER[package]) if subject in subjects), None)
    return None if line is None else (package, line)


def forbidden_inside(importer: str, imported: str) -> str | None:
    """Return the reason why a module must not import another module of the same package, or None."""
    here, there = inner_rank(importer), inner_rank(imported)
    if here is None or there is None or here[0] != there[0] or there[1] < here[1]:
        return None
    if importer.split(".")[1] == imported.split(".")[1]:
        return None
    # Subjects of the first line may import each other: models raise errors, and errors name models.
    if here[1] == there[1] == 0:
        return None
    if there[1] == here[1]:
        return "subjects of one line do not import each other; move the shared code to a subject further to the left"
    return "a subject imports only subjects to its left; see INNER in tests/architecture/test_imports.py"


def test_modules_of_jobs_and_shards_import_only_to_the_left() -> None:
    wrong = {
        f"{module.where} must not import {name}: {why}"
        for module in modules("jobs", "shards")
        for name in module.imports()
        if (why := forbidden_inside(module.name, name))
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_each_module_of_jobs_and_shards_has_a_place_in_the_order() -> None:
    framework = ("apps", "migrations", "templates", "static")
    wrong = [
        module.where
        for module in modules("jobs", "shards")
        if "." in module.name and module.name.split(".")[1] not in framework and inner_rank(module.name) is None
    ]
    assert not wrong, f"{wrong}: give the subject a line in INNER, or move the module into a folder that has one"


def test_only_the_settings_read_the_environment_at_import() -> None:
    # Importing this module fixes the home and reads its file of variables, so a program must first set its own.
    wrong = [
        module.where
        for module in modules("jobs", "myctobot", "shards", "workers")
        # The supervisor needs only the home, and stays in memory, so it loads no settings.
        if not within(module.name, "myctobot.settings") and module.name != "myctobot.stack.management.commands.up"
        if any(within(name, "myctobot.env") for name in module.imports())
    ]
    assert not wrong, f"{wrong} import myctobot.env; read django.conf.settings, or move the shared code to myctobot.lib"


def test_a_class_name_is_used_for_one_concept() -> None:
    # Django requires these names.
    framework = {"Meta", "Command", "Migration", "Config"}
    places: dict[str, list[str]] = {}
    for module in modules("jobs", "myctobot", "shards", "workers"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and node.name not in framework:
                places.setdefault(node.name, []).append(module.where)
    wrong = {name: found for name, found in places.items() if len(found) > 1}
    assert not wrong, f"{wrong}: give each concept a class name of its own, so that a search finds one thing"


def test_packages_import_only_to_the_left() -> None:
    wrong = {
        f"{module.where} must not import {name}: {why}"
        for module in CONTROL_PLANE
        for name in module.imports()
        if (why := forbidden(module.name, name))
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_the_control_plane_does_not_import_workers() -> None:
    wrong = [
        f"{module.where}: {name}"
        for module in CONTROL_PLANE
        for name in module.imports()
        if within(name, "workers") and not any(within(module.name, part) for part in ASSEMBLY)
    ]
    assert not wrong, f"{wrong}: the control plane and the shards share {LEAF} only; move shared code there"


def test_the_client_imports_only_itself_and_the_contract() -> None:
    allowed = CLIENT_DEPENDENCIES | set(sys.stdlib_module_names)
    wrong = [
        f"{module.where}: {name}"
        for module in modules("myctobot/cli")
        for name in module.imports()
        if not within(name, CLIENT) and not within(name, LEAF) and name.partition(".")[0] not in allowed
    ]
    assert not wrong, f"{wrong}: the client runs without the control plane; call the API, or move shared code to {LEAF}"


_IMPORT_CLIENT = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "rest_framework", "channels", "structlog", "yaml"}:
            raise ModuleNotFoundError(f"{name} is not installed with the client", name=name)

sys.meta_path.insert(0, Absent())
import myctobot.cli
for found in pkgutil.walk_packages(myctobot.cli.__path__, "myctobot.cli."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
from myctobot.cli.__main__ import main
loaded = {name for name in sys.modules if name.partition(".")[0] in ("jobs", "shards", "workers", "myctobot")}
print(sorted(name for name in loaded if not name.startswith("myctobot.cli")))
"""


def test_the_client_loads_without_django() -> None:
    command = [sys.executable, "-c", _IMPORT_CLIENT]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    extra = [name for name in ast.literal_eval(done.stdout) if name != "myctobot" and not within(name, LEAF)]
    assert not extra, f"the client loads the modules {extra} of the control plane, which are not installed with it"


def test_an_installed_client_has_its_imports_in_the_versions_of_the_server() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    dependencies = project["project"]["dependencies"]
    assert {name.partition("==")[0].replace("-", "_") for name in dependencies} == CLIENT_DEPENDENCIES
    assert set(dependencies) <= set((ROOT / "requirements.in").read_text().splitlines())
    setuptools = project["tool"]["setuptools"]
    assert setuptools["packages"] == [CLIENT, LEAF]


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("jobs.dispatch.round", "shards.models", True),
        ("shards.models", "jobs.models", False),
        ("shards.health.rules", LEAF, True),
        ("myctobot.lib.crypto", "myctobot.tenants.models", False),
        ("myctobot.tenants.secrets", "myctobot.lib.crypto", True),
        ("jobs.models", "myctobot.gateway.app", False),
        ("myctobot.gateway.app", "jobs.attempts.gateway_grants", True),
        ("myctobot.gateway.app", "myctobot.dashboards.views", False),
        ("jobs.views", "myctobot.settings", False),
        ("myctobot.urls", "jobs.api.urls", True),
        ("jobs.lifecycle.submit", "myctobot.cli.api", False),
        ("myctobot.demo.story", "myctobot.cli.api", True),
    ],
)
def test_the_rule_between_packages(importer: str, imported: str, allowed: bool) -> None:
    assert (forbidden(importer, imported) is None) is allowed


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("jobs.dispatch.round", "jobs.models", True),
        ("jobs.dispatch.round", "jobs.dispatch.queries", True),
        ("jobs.dispatch.round", "jobs.lifecycle.submit", False),
        ("jobs.queue.waiting", "jobs.streaming.hub", False),
        ("jobs.attempts.claim", "shards.models", True),
        ("shards.health.monitor", "shards.operations.requests", False),
        ("shards.health.monitor", "shards.lifecycle.transitions", True),
        ("shards.models.shard", "shards.lifecycle.transitions", False),
    ],
)
def test_the_rule_inside_a_package(importer: str, imported: str, allowed: bool) -> None:
    assert (forbidden_inside(importer, imported) is None) is allowed
