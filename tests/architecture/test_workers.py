"""A shard has no Django, no database and nothing of the control plane but the contract."""

from __future__ import annotations

import subprocess
import sys

from .source import ROOT, module, modules, within

# What workers/requirements.txt installs.
DEPENDENCIES = {"celery", "kombu", "redis", "httpx", "psutil", "claude_agent_sdk", "yaml"}
ALLOWED = DEPENDENCIES | set(sys.stdlib_module_names)


def test_workers_import_the_contract_the_standard_library_and_their_few_dependencies() -> None:
    wrong = [
        f"{one.where}: {name}"
        for one in modules("workers")
        for name in one.imports()
        if not within(name, "workers") and name != "myctobot.contract.jobs" and name.partition(".")[0] not in ALLOWED
    ]
    assert not wrong, (
        f"{wrong} may not be imported there. A shard installs workers/requirements.txt only: what both sides need "
        "belongs in jobs/contract.py, what the control plane knows belongs in the answer to a claim."
    )


def test_the_contract_is_a_leaf_of_the_standard_library_alone() -> None:
    wrong = sorted(
        name
        for name in module("myctobot.contract.jobs").imports()
        if name.partition(".")[0] not in sys.stdlib_module_names
    )
    assert not wrong, f"jobs/contract.py imports {wrong}, which a shard does not have"


def test_the_dependencies_are_those_that_a_shard_installs() -> None:
    lines = (ROOT / "workers/requirements.txt").read_text().splitlines()
    installed = {line.partition("==")[0].partition("[")[0].strip().lower() for line in lines if line[:1].isalpha()}
    names = {"yaml": "pyyaml", "claude_agent_sdk": "claude-agent-sdk"}
    missing = sorted({names.get(name, name) for name in DEPENDENCIES} - installed)
    assert not missing, f"workers/requirements.txt lacks {missing}"


_IMPORT_ALL = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"django", "rest_framework", "channels", "structlog", "psycopg"}:
            raise ModuleNotFoundError(f"{name} is not there on a shard", name=name)

sys.meta_path.insert(0, Absent())
import workers
for found in pkgutil.walk_packages(workers.__path__, "workers."):
    importlib.import_module(found.name)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("jobs", "shards", "myctobot")))
"""


def test_every_module_of_workers_loads_where_django_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], cwd=ROOT, env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['jobs', 'myctobot.contract.jobs']", (
        "workers load more of the control plane than the contract"
    )
