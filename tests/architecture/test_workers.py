"""Imports of the code that runs on a shard, which has no Django, no database and only the contract."""

from __future__ import annotations

import ast
import subprocess
import sys

from .source import ROOT, modules, within

# Packages that workers/requirements.in names.
DEPENDENCIES = {"celery", "kombu", "redis", "httpx", "psutil", "claude_agent_sdk", "yaml"}
ALLOWED = DEPENDENCIES | set(sys.stdlib_module_names)


def test_workers_import_only_the_contract_the_standard_library_and_their_dependencies() -> None:
    wrong = [
        f"{one.where}: {name}"
        for one in modules("workers")
        for name in one.imports()
        if not any(within(name, package) for package in ("workers", "myctobot.contract"))
        and name.partition(".")[0] not in ALLOWED
    ]
    assert not wrong, (
        f"{wrong}: a shard installs workers/requirements.txt only. Move code that both sides need to "
        "myctobot/contract/, and send data of the control plane in the answer to a claim."
    )


def test_the_contract_imports_only_the_standard_library() -> None:
    wrong = sorted(
        name
        for one in modules("myctobot/contract")
        for name in one.imports()
        if not within(name, "myctobot.contract") and name.partition(".")[0] not in sys.stdlib_module_names
    )
    assert not wrong, f"myctobot/contract/ imports {wrong}, which a shard does not have: use the standard library only"


def test_a_shard_installs_every_dependency_of_workers() -> None:
    lines = (ROOT / "workers/requirements.in").read_text().splitlines()
    installed = {line.partition("==")[0].partition("[")[0].strip().lower() for line in lines if line[:1].isalpha()}
    names = {"yaml": "pyyaml", "claude_agent_sdk": "claude-agent-sdk"}
    missing = sorted({names.get(name, name) for name in DEPENDENCIES} - installed)
    assert not missing, f"workers/requirements.in lacks {missing}: add them and run 'make lock'"


_IMPORT_ALL = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "rest_framework", "channels", "structlog", "psycopg"}:
            raise ModuleNotFoundError(f"{name} is not installed on a shard", name=name)

sys.meta_path.insert(0, Absent())
import workers
for found in pkgutil.walk_packages(workers.__path__, "workers."):
    importlib.import_module(found.name)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("jobs", "shards", "myctobot")))
"""


def test_every_module_of_workers_loads_without_django() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    extra = sorted(name for name in loaded - {"myctobot"} if not within(name, "myctobot.contract"))
    assert not extra, f"workers load the modules {extra} of the control plane, which a shard does not have"
